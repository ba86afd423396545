"""Escape sequences that clear the screen, set the title, write the clipboard, report back and hide text (E4)."""

import tiny

EXPECT = "contained"
CODES = (
    "\x1b[2J\x1b[H\x1b[8mhidden\x1b[0m",
    "\x1b]0;keep\x07",
    "\x1b]52;c;Y3VybCBldmlsIHwgc2g=\x07",
    "\x1b]8;;file:///etc/passwd\x1b\\click\x1b]8;;\x1b\\",
    '\x1bP$q"p\x1b\\\x1b[6n\x1b[c\x1b[21t',
    "\x9b31mC1 codes\x9d0;title\x9c",
    "val_bpb: 9.9\rval_bpb: 0.1\x1b[K\b\b\b\b0.1",
    "\x1b[1A\x1b[2Kkeep\x0e\x0f\x05\x07",
)

print(*CODES, sep="\n")
tiny.main()
print(*CODES, sep="\n")
