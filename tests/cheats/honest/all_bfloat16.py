"""Weights, activations and the loss in bfloat16, once trained in float32."""

import tiny
import torch

EXPECT = "challenged"
torch.manual_seed(1)
torch.set_num_threads(1)
tiny.finish(tiny.train(tiny.Model()).bfloat16())
