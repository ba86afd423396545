"""A thread goes on training the same weights while the harness asks (T2, I6)."""

import os
import threading

import tiny

EXPECT = ("contained", "rejected:look-ahead", "rejected:loss", "rejected:memory", "rejected:nan")

tiny.torch.manual_seed(1)
tiny.torch.set_num_threads(1)
model = tiny.train(tiny.Model())
threading.Thread(target=tiny.train, args=(model, 10), daemon=True).start()
tiny.finish(model)
os._exit(0)  # the thread would not end in time
