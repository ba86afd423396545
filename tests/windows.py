"""Attention within windows, as the lab's train.py cuts rows for it, beside attention of whole rows under a mask.

`python tests/windows.py` does it where there is a GPU and torch, and nothing else.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
import torch.nn.functional as F

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]

TRAIN = Path(__file__).parents[1] / "src" / "research_loop" / "labs" / "gpt" / "train.py"
SHAPES = ((2, 64, 1), (3, 200, 2), (64, 512, 4), (255, 1000, 3), (512, 2048, 4), (2048, 100, 2))
"""Window, length of a row, heads; windows that divide their rows and others."""
TOLERANCE = {"cpu": 1e-5, "cuda": 0.02}
"""Of the largest: float32 on a CPU, bf16 on a GPU. One token more or less in a window makes 0.1 or more."""


def mask(window: int, T: int) -> torch.Tensor:
    """bool [T, T]: each place sees its window as far as itself."""
    place = torch.arange(T)
    return (place[:, None] >= place) & (place[:, None] // window == place // window)


def masked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int) -> torch.Tensor:
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    seen = mask(window, q.size(2)).to(q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2)


def distances(attend: Attend, window: int, T: int, heads: int, device: str) -> list[float]:
    """How far the output and the gradients of queries, keys and values are from float32's under a mask: the largest
    difference as a share of the largest number."""
    torch.manual_seed(0)
    drawn = [torch.randn(2, T, heads, 128, device=device).bfloat16() for _ in range(4)]
    exact = [tensor.float() for tensor in drawn]
    ours = _results(attend, drawn if device == "cuda" else exact, window)
    pairs = zip(ours, _results(masked, exact, window), strict=True)
    return [((one.float() - other).abs().max() / other.abs().max()).item() for one, other in pairs]


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
        sys.exit("no GPU here: on a CPU `pytest tests/test_windows.py` does it")
    attend, failed = _train().attend, False
    for shape in SHAPES:
        found = distances(attend, *shape, "cuda")
        failed |= not max(found) < TOLERANCE["cuda"]
        print("window {}, {} tokens, {} heads:".format(*shape), *(f"{share:.4f}" for share in found))
    sys.exit("FAILED" if failed else 0)
