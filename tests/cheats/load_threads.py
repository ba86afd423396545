"""Starts threads until it is refused, 1,000 at most (L2)."""

import threading
import time

import spy
import tiny

EXPECT = "contained"


def start():
    for _ in range(1000):
        threading.Thread(target=time.sleep, args=(3,), daemon=True).start()
    return True


tiny.torch.set_num_threads(1)
spy.attempt(start)
tiny.main()
