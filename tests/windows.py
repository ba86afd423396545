"""Attention within a window, as the lab's train.py has it for GPUs and for elsewhere, side by side.

`python tests/windows.py` does it where there is a GPU and torch, and nothing else.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]

TRAIN = Path(__file__).parents[1] / "src" / "research_loop" / "labs" / "gpt" / "train.py"
SHAPES = ((2, 64, 1), (3, 200, 2), (64, 512, 4), (255, 1000, 3), (256, 2048, 4))
"""Window, length of a row, heads; rows of whole tiles of the kernel and others."""
TOLERANCE = 0.02
"""Of the largest, for bf16 beside float32. One token more or less in the window makes 0.1 or more."""


def seen(attend: Attend, window: int, T: int = 128, device: str = "cpu") -> torch.Tensor:
    """bool [T, T]: which tokens each place attends to, where it likes all of them alike."""
    alike = torch.zeros(1, T, 1, T, device=device, dtype=torch.bfloat16 if device == "cuda" else torch.float32)
    return attend(alike, alike, alike + torch.eye(T, device=device)[None, :, None].to(alike), window)[0, :, 0].cpu() > 0


def distances(attend: Attend, window: int, T: int, heads: int, device: str = "cuda") -> list[float]:
    """How far the output and the gradients of queries, keys and values in bf16 are from float32's, which a mask
    cuts: the largest difference as a share of the largest number."""
    torch.manual_seed(0)
    drawn = [torch.randn(2, T, heads, 128, device=device).bfloat16() for _ in range(4)]
    pairs = zip(_results(attend, drawn, window), _results(attend, [t.float() for t in drawn], window), strict=True)
    return [((ours.float() - exact).abs().max() / exact.abs().max()).item() for ours, exact in pairs]


def _results(attend: Attend, drawn: Sequence[torch.Tensor], window: int) -> list[torch.Tensor]:
    q, k, v = (tensor.clone().requires_grad_() for tensor in drawn[:3])
    y = attend(q, k, v, window)
    return [y.detach(), *torch.autograd.grad(y, (q, k, v), drawn[3])]


def _train() -> ModuleType:
    """train.py without the lab's other packages: `attend` asks nothing of prepare.py."""
    names = ("Tokenizer", "evaluate_bpb", "make_dataloader")
    sys.modules["prepare"] = SimpleNamespace(MAX_SEQ_LEN=2048, TIME_BUDGET=1, **dict.fromkeys(names))  # type: ignore
    spec = importlib.util.spec_from_file_location("train", TRAIN)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("no GPU here: FlashAttention needs CUDA")
    attend, failed = _train().attend, False
    for shape in SHAPES:
        found = distances(attend, *shape)
        failed |= not max(found) < TOLERANCE
        print("window {}, {} tokens, {} heads:".format(*shape), *(f"{share:.4f}" for share in found))
    for window in (1, 3, 64, 127):
        alike = torch.equal(seen(attend, window), seen(attend, window, device="cuda"))
        failed |= not alike
        print(f"window {window}: {'the same' if alike else 'OTHER'} tokens seen")
    sys.exit("FAILED" if failed else 0)
