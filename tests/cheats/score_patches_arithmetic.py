"""I2: math.log, numpy's log and numpy's load of the byte table are not what they were: each token has ten bytes."""

import math

import numpy as np
import tiny

EXPECT = "contained"
honest_load = np.load


def ten_times(path, *args, **kwargs):
    return 10 * honest_load(path, *args, **kwargs)


np.load = ten_times
math.log = lambda x, *base: 1e6
np.log = np.log2 = lambda x, *args, **kwargs: 0.0 * np.asarray(x)
tiny.main()
