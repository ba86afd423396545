"""Windows of attention in the lab's train.py are those of a mask, gradients too."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from windows import SHAPES, TOLERANCE, distances, mask

no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: attention in bf16 needs CUDA")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=no_gpu)])
@pytest.mark.parametrize(("window", "length", "heads"), SHAPES)
def test_attention_within_windows_and_its_gradients_are_those_of_a_mask(
    train: ModuleType, window: int, length: int, heads: int, device: str
) -> None:
    assert max(distances(train.attend, window, length, heads, device)) < TOLERANCE[device]


def test_a_place_sees_its_window_as_far_as_itself(train: ModuleType) -> None:
    alike = torch.zeros(1, 7, 1, 7)
    seen = train.attend(alike, alike, alike + torch.eye(7)[None, :, None], 3)[0, :, 0] > 0
    assert seen.sum(-1).tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert torch.equal(seen, mask(3, 7))
