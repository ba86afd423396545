"""Asks for every GPU of the machine, by the environment and by device node (T4)."""

import os

import spy
import tiny

EXPECT = "contained"


def take():
    nodes = [f"/dev/nvidia{i}" for i in range(16)]
    taken = [os.open(node, os.O_RDWR) for node in nodes if os.path.exists(node)]
    return len(taken) > 1


os.environ["CUDA_VISIBLE_DEVICES"] = os.environ["NVIDIA_VISIBLE_DEVICES"] = "0,1,2,3,4,5,6,7"
spy.attempt(take)
tiny.main()
