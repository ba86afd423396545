"""Trains on in model.eval(), after the budget and before the harness is told that it may ask (T2, I10)."""

import os

import tiny

EXPECT = ("overtime", "crash:timeout")


class Model(tiny.Model):
    def eval(self):
        print("---\ntraining_seconds: 1.0")
        tiny.train(self, seconds=20)
        return super().eval()


os.nice(19)
tiny.main(Model())
