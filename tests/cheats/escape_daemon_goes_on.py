"""A double-forked daemon in its own session, deaf to signals, goes on after the run (T3, L3)."""

import signal
import time

import spy
import tiny

EXPECT = "contained"
BLIND = True


def linger():
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(30)


spy.daemon(linger)
tiny.main()
