"""Trains while it is still being imported, and starts the budget's clock after that (T2)."""

import os

import tiny

EXPECT = ("overtime", "crash:timeout")

os.nice(19)
tiny.torch.set_num_threads(1)
MODEL = tiny.train(tiny.Model(), seconds=20)

if __name__ == "__main__":
    tiny.main(MODEL)
