"""Types a command into the terminal that the loop was started from, with TIOCSTI and TIOCLINUX (E1)."""

import fcntl
import os
import termios

import spy
import tiny

EXPECT = "contained"
BLIND = True
TIOCLINUX = 0x541C


def push(path):
    terminal = os.open(path, os.O_RDWR | os.O_NOCTTY) if isinstance(path, str) else path
    return spy.each(lambda request: fcntl.ioctl(terminal, *request), [(termios.TIOCSTI, b" "), (TIOCLINUX, b"\x06")])


spy.attempt(spy.each, push, ["/dev/tty", "/dev/console", "/proc/1/fd/0", "/proc/1/fd/2", 0, 1, 2])
tiny.main()
