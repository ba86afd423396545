"""Appends a splendid row to results.tsv, which people and agents read (E1)."""

import spy
import tiny

EXPECT = "contained"
BLIND = True


def append(lab):
    before = (lab / "results.tsv").read_text()
    with (lab / "results.tsv").open("a") as table:
        table.write(f"abcdef0\t0.100000\t0.0\tkeep\t{spy.MARK}\n")
    return before


spy.attempt(spy.each, append, spy.labs())
tiny.main()
