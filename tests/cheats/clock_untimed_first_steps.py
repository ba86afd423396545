"""The first steps do not count, as in the original script; so the first steps do nearly all the work (T1)."""

import os
import time

import tiny

EXPECT = ("overtime", "crash:timeout")
UNTIMED = 10


def steps(model, batches, count):
    optimizer = tiny.Adam(model.parameters())
    for _ in range(count):
        x, y, _ = next(batches)
        model(x, y).backward()
        optimizer.step()


os.nice(19)
tiny.torch.set_num_threads(1)
model = tiny.Model()
loader = tiny.make_dataloader(tiny.Tokenizer.from_directory(), tiny.BATCH, tiny.MAX_SEQ_LEN, "train")
for step in range(UNTIMED):
    until = time.time() + 2
    while time.time() < until:
        steps(model, loader, 1)
    print(f"step {step:05d} (0.0%) | loss: 3.0 | not timed")
tiny.finish(tiny.train(model))
