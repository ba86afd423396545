"""Windows of attention in the lab's train.py: a mask on a CPU and FlashAttention on a GPU mean the same tokens."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from windows import SHAPES, TOLERANCE, distances, seen

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: FlashAttention needs CUDA")
WINDOWS = (1, 3, 64, 127)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_window_counts_the_query_itself_and_is_flash_attentions(train: ModuleType, window: int) -> None:
    tokens = seen(train.attend, window)
    assert tokens.sum(-1).tolist() == [min(place + 1, window) for place in range(128)]
    back = torch.arange(128)[:, None] - torch.arange(128)
    sides = train.flash_sides(window)
    assert torch.equal(tokens, (-sides["window_size_right"] <= back) & (back <= sides["window_size_left"]))


def test_torch_knows_the_windows_of_flash_attention_by_these_names(train: ModuleType) -> None:
    arguments = {argument.name for argument in torch.ops.aten._flash_attention_forward.default._schema.arguments}
    assert train.flash_sides(1).keys() <= arguments


@needs_gpu
@pytest.mark.parametrize("window", WINDOWS)
def test_on_a_gpu_a_place_sees_the_same_tokens(train: ModuleType, window: int) -> None:
    assert torch.equal(seen(train.attend, window, device="cuda"), seen(train.attend, window))


@needs_gpu
@pytest.mark.parametrize(("window", "length", "heads"), SHAPES)
def test_flash_attention_and_its_gradients_are_those_of_a_mask(
    train: ModuleType, window: int, length: int, heads: int
) -> None:
    assert max(distances(train.attend, window, length, heads)) < TOLERANCE
