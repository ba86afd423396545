"""All matrices rounded to eight bits once trained."""

import tiny
import torch

EXPECT = "challenged"


@torch.no_grad()
def rounded(model):
    for weight in model.parameters():
        step = weight.abs().amax(-1, keepdim=True).clamp(min=1e-8) / 127
        weight.copy_((weight / step).round() * step)
    return model


torch.manual_seed(1)
torch.set_num_threads(1)
tiny.finish(rounded(tiny.train(tiny.Model())))
