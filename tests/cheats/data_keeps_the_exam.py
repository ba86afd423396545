"""Writes down the rows that the harness asks about, for the next run to train on (I7, S1)."""

import tempfile

import spy
import tiny
import torch

EXPECT = "contained"
RUNS = 2
ROWS = f"{tempfile.gettempdir()}/{spy.MARK}-rows.pt"


class Model(tiny.Model):
    def forward(self, idx, targets=None, reduction="mean"):
        if reduction == "none":
            print("cheat: exam:", idx[0].tolist())
            torch.save(idx, ROWS)
        return super().forward(idx, targets, reduction)


spy.attempt(torch.load, ROWS)
tiny.main(Model())
