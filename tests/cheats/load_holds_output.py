"""Leaves a process behind that holds the log and the line to the harness open: is the run ever over? (L3)"""

import time

import spy
import tiny

EXPECT = "contained"

spy.daemon(lambda: time.sleep(30))
tiny.main()
