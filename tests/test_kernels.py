"""The Triton kernels of the lab's train.py beside the plain code that they stand in for, in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch


def interpreted(train: ModuleType, code: str, **more: str) -> str:
    """What `code` prints in a process of its own, where `train` is the lab's file and kernels run on the CPU."""
    pytest.importorskip("triton", reason="Triton is not here: it is where torch has CUDA, on Linux")
    folder = Path(str(train.__file__)).parent
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(folder), "CUDA_VISIBLE_DEVICES": "", **more}
    command = [sys.executable, "-c", "import sys, torch, train\ntorch.manual_seed(0)\n" + code]
    run = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


CAPPED = """
def both(function, *tensors):
    tensors = [t.clone().requires_grad_() for t in tensors]
    nats = function(*tensors)
    return [nats.detach(), *torch.autograd.grad((nats * share).sum(), tensors)]

for cap, size, vocab in ((15, 1.0, 1000), (15, 40.0, 1000), (200.0, 1.0, 300), (1e6, 1.0, 300), (3.5, 300.0, 64)):
    x, weight = torch.randn(12, 16) * size, torch.randn(vocab, 16)
    targets, share = torch.randint(0, vocab, (12,)), torch.rand(12)
    targets[:2] = torch.tensor([0, vocab - 1])
    plain = both(lambda x, weight: train.capped_nats(x, weight, targets, cap), x, weight)
    fused = both(lambda x, weight: train.CappedNats.apply(x, weight, targets, cap), x, weight)
    for a, b in zip(plain, fused):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=2e-4 * a.abs().max().item())
"""


def test_capped_nats_and_their_gradients_are_those_of_the_plain_code(train: ModuleType) -> None:
    interpreted(train, CAPPED)


SQUARED = """
train.tile_rows, train.tile_columns, train.tile_depth = 16, 32, 16
def both(function, *tensors):
    tensors = [t.clone().requires_grad_() for t in tensors]
    return [out := function(*tensors), *torch.autograd.grad(out, tensors, given)]

for rows, width, hidden in ((16, 16, 32), (176, 48, 96)):
    assert train.whole_tiles(torch.empty(rows, width), torch.empty(hidden, width))
    tensors = torch.randn(rows, width), torch.randn(hidden, width), torch.randn(width, hidden)
    given = torch.randn(rows, width)
    for a, b in zip(both(train.squared_mlp, *tensors), both(train.SquaredMLP.apply, *tensors)):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5 * a.abs().max().item())
for rows, width, hidden in ((17, 16, 32), (16, 24, 32), (16, 16, 48)):
    assert not train.whole_tiles(torch.empty(rows, width), torch.empty(hidden, width))
"""


def test_squared_mlp_and_its_gradients_are_those_of_the_plain_code(train: ModuleType) -> None:
    interpreted(train, SQUARED)


def test_a_cpu_takes_the_plain_code(train: ModuleType) -> None:
    x, w_in, w_out = torch.randn(2, 5, 8), torch.randn(32, 8), torch.randn(8, 32)
    torch.testing.assert_close(train.squared_mlp(x, w_in, w_out), (x @ w_in.T).relu() ** 2 @ w_out.T)
    logits = 15 * torch.tanh(x[0] @ w_in.T / 15)
    nats = -logits.log_softmax(-1)[range(5), range(5)]
    torch.testing.assert_close(train.capped_nats(x[0], w_in, torch.arange(5), 15), nats)


HOPPER = """
import importlib
torch.cuda.is_available, torch.cuda.get_device_capability = lambda: True, lambda *_: (9, 0)
for torch.version.hip in (None, "6.4"):
    print(importlib.reload(train).HOPPER)
"""


def test_a_chip_of_rocm_is_no_hopper_whatever_its_capability(train: ModuleType) -> None:
    assert interpreted(train, HOPPER).split() == ["True", "False"]


NGRAMS = """
for dtype, width in ((torch.float32, 8), (torch.float32, 20), (torch.bfloat16, 20)):
    weight, squares = torch.randn(101, width, dtype=dtype), torch.rand(101)
    expected, sums = weight.clone(), squares.clone()
    for step in range(2):
        index, grads = torch.randint(0, 30, (50,)), torch.randn(50, width, dtype=dtype)
        index[:37] = 7  # a run longer than two blocks of the kernel
        train.ngram_step(expected, sums, index, grads, 0.5, step)
        train.ngram_step_fused(weight, squares, index, grads, 0.5, step)
    digit = 0.05 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(weight[:100].float(), expected[:100].float(), rtol=digit, atol=digit)
    torch.testing.assert_close(squares[:100], sums[:100], rtol=1e-4, atol=1e-4)
weight = torch.ones(9, 64, dtype=torch.bfloat16)
for step in range(16):  # steps of a sixteenth of the last digit
    squares = torch.zeros(9)
    train.ngram_step_fused(weight, squares, torch.arange(8), torch.full((8, 64), -1.0), 2**-11, step)
print(weight[:8].float().mean().item(), weight[:8].float().std().item())
"""


def test_the_kernel_of_the_tables_takes_the_plain_codes_steps_and_loses_no_small_ones(train: ModuleType) -> None:
    mean, deviation = map(float, interpreted(train, NGRAMS).split())
    assert mean == pytest.approx(1 + 16 * 2**-11, abs=0.001) and deviation > 0


TRACED = """
import os
import torch.utils._triton as probe
from torch._functorch._aot_autograd.autograd_cache import check_cacheable
probe.has_triton = lambda **_: True  # what torch.compile asks before it traces a kernel
sys.path.insert(0, os.environ["PLACE"])
import with_kernels as train
train.HOPPER, train.CUDA, train.DTYPE, train.DEPTH = True, True, torch.bfloat16, 2
model = train.GPT(256)
idx = torch.zeros(128, train.MAX_SEQ_LEN, dtype=torch.long)

def backend(graph, inputs):
    parts = [part for part in graph.modules() if isinstance(part, torch.fx.GraphModule)]
    kernels = [node for part in parts for node in part.graph.nodes if "triton_kernel_wrapper" in str(node.target)]
    check_cacheable(graph)
    print("one graph,", len(kernels), "kernels", flush=True)
    os._exit(0)

torch.compile(train.GPT.nats, backend=backend, fullgraph=True)(model, idx, idx, model.ngrams(idx))
"""


def test_training_is_one_graph_with_the_kernels_in_it_that_torch_keeps(train: ModuleType, tmp_path: Path) -> None:
    """A break costs a tenth of the speed, a graph that is not kept ten seconds of every start, and nobody is told.
    Traced as on a GPU, run on none."""
    source, condition = Path(str(train.__file__)).read_text(), 'if CUDA or os.environ.get("TRITON_INTERPRET"):'
    assert condition in source
    (tmp_path / "with_kernels.py").write_text(source.replace(condition, "if True:"))
    # of each MLP one forward and one backward, and the head's
    assert "one graph, 5 kernels" in interpreted(train, TRACED, TRITON_INTERPRET="", PLACE=str(tmp_path))
