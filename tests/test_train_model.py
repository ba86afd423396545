"""The model of the lab's train.py beside itself written out, a layer at a time; its windows, its FLOPs, its dtype."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

VOCAB = 40


def normed(x: torch.Tensor) -> torch.Tensor:
    return x / x.square().mean(-1, keepdim=True).sqrt()


def turned(x: torch.Tensor) -> torch.Tensor:
    """[T, heads, 16] with each pair of channels, half a head apart, turned back by place times frequency."""
    angles = torch.arange(len(x))[:, None] * 100.0 ** (-torch.arange(8).double() / 8)
    z = torch.complex(x[..., :8], x[..., 8:]) * torch.polar(torch.ones_like(angles), -angles)[:, None]
    return normed(torch.cat((z.real, z.imag), -1))


def attention(h: torch.Tensor, w: dict[str, torch.Tensor], values: list[torch.Tensor], window: int) -> torch.Tensor:
    T = len(h)
    q, k, v = ((h @ w[f"attn.c_{name}.weight"].T).view(T, 3, 16) for name in "qkv")
    for i, value in enumerate(values):
        gates = 2 * torch.sigmoid(h[:, :32] @ w[f"attn.ve_gates.{i}.weight"].T)
        v = v + gates[..., None] * value.view(T, 3, 16)
    scores = torch.einsum("qhd,khd->hqk", turned(q), turned(k)) / 4
    place = torch.arange(T)
    unseen = (place[:, None] < place) | (place[:, None] // window != place // window)
    scores = scores.masked_fill(unseen, -torch.inf)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1) @ w["attn.c_proj.weight"].T


def logits_written_out(model: torch.nn.Module, idx: torch.Tensor, joining: float) -> torch.Tensor:
    """[T, vocab] of one row of the model of `tiny`; what its n-gram tables give is taken from them, and is `joining`
    times in the embedding."""
    weights = {name: p.detach().double() for name, p in model.named_parameters()}
    ngrams = {name: rows[0].detach() for name, rows in model.ngrams(idx[None]).items()}
    x = x0 = normed(weights["wte.weight"][idx] + joining * (ngrams["bigrams of 2"] + ngrams["trigrams"]))
    for i, window in enumerate((5, 16, 16)):
        w = {name.removeprefix(f"blocks.{i}."): p for name, p in weights.items()}
        values = [ngrams[f"bigrams of {i}"], ngrams["trigrams"]] if i in (0, 2) else []
        values = [weights[f"value_embeds.{i}.weight"][idx], *values] if values else []
        x = weights["resid_lambdas"][i] * x + weights["x0_lambdas"][i] * x0
        x = x + attention(normed(x), w, values, window)
        x = x + (normed(x) @ w["mlp.c_fc.weight"].T).relu() ** 2 @ w["mlp.c_proj.weight"].T
    return 15 * torch.tanh(normed(x) @ weights["lm_head.weight"].T / 15)


@pytest.mark.parametrize("joining", [0.0, 0.7])
def test_its_logits_are_those_of_the_model_written_out(
    tiny: ModuleType, joining: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "NGRAM_INPUT", joining)
    model, idx = tiny.GPT(VOCAB), torch.randint(0, VOCAB, (16,))
    for parameter in [*model.parameters(), model.ngrams.weight]:
        torch.nn.init.normal_(parameter, std=0.3)
    expected = logits_written_out(model, idx, joining)
    with torch.no_grad():
        torch.testing.assert_close(model(idx[None])[0].double(), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.5


def test_tables_learn_from_what_they_give_the_embedding(tiny: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for joining in (0.0, 0.7):
        monkeypatch.setattr(tiny, "NGRAM_INPUT", joining)
        model = tiny.GPT(VOCAB)
        model(*torch.randint(0, VOCAB, (2, 1, 16))).backward()  # attention gives nothing yet: its last matrix is zero
        taught = {int(index.min()) for index, grad in model.ngrams.waiting if grad.abs().sum() > 0}
        assert len(taught) == (2 if joining else 0)


def test_rotation_leaves_lengths_and_makes_products_depend_on_distance_alone(tiny: ModuleType) -> None:
    cos, sin = tiny.rotary_tables(16, 16, "cpu")
    q, k = (torch.randn(16).double().expand(1, 16, 1, 16) for _ in range(2))
    turned_q, turned_k = (tiny.rotate(x, cos, sin)[0, :, 0] for x in (q, k))
    torch.testing.assert_close(turned_q.norm(dim=-1), q[0, :, 0].norm(dim=-1), rtol=1e-5, atol=0)
    products = turned_q @ turned_k.T
    torch.testing.assert_close(products[1:, 1:], products[:-1, :-1], rtol=0, atol=1e-4)
    assert products[:, 0].unique().numel() == 16 and not torch.allclose(products, products.T)


@pytest.mark.parametrize(
    ("pattern", "depth", "short", "windows"),
    [
        ("SSSL", 8, 5, [5, 5, 5, 16, 5, 5, 5, 16]),
        ("SSSL", 6, 5, [5, 5, 5, 16, 5, 16]),
        ("S", 3, 5, [5, 5, 16]),
        ("L", 2, 5, [16, 16]),
        ("SL", 4, 64, [16, 16, 16, 16]),
    ],
)
def test_windows_repeat_their_pattern_and_the_last_layer_sees_all(
    tiny: ModuleType, monkeypatch: pytest.MonkeyPatch, pattern: str, depth: int, short: int, windows: list[int]
) -> None:
    for name, value in {"WINDOW_PATTERN": pattern, "DEPTH": depth, "SHORT_WINDOW": short}.items():
        monkeypatch.setattr(tiny, name, value)
    assert tiny.window_sizes() == windows


@pytest.mark.parametrize(("depth", "layers"), [(1, ["0"]), (3, ["0", "2"]), (4, ["1", "3"])])
def test_every_other_layer_has_value_embeddings_the_last_one_too(
    tiny: ModuleType, monkeypatch: pytest.MonkeyPatch, depth: int, layers: list[str]
) -> None:
    monkeypatch.setattr(tiny, "DEPTH", depth)
    model = tiny.GPT(VOCAB)
    assert list(model.value_embeds) == layers
    assert [str(i) for i, block in enumerate(model.blocks) if len(block.attn.ve_gates) == 3] == layers


def test_gates_read_no_more_channels_than_there_are(tiny: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "GATE_CHANNELS", 64)
    assert tiny.GPT(VOCAB)(torch.zeros(1, 16, dtype=torch.long)).shape == (1, 16, VOCAB)


def test_flops_of_a_token_are_six_a_weight_and_twelve_a_channel_of_all_that_is_seen(tiny: ModuleType) -> None:
    model = tiny.GPT(VOCAB)
    blocks = 3 * (4 * 48 * 48 + 2 * 48 * 192)
    gates = 2 * 3 * 32 * 3  # layers, kinds of values, channels, heads
    assert model.flops_per_token() == 6 * (blocks + gates + 48 * VOCAB) + 12 * 48 * (5 + 16 + 16)


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 0), torch.float32), ((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)],
)
def test_a_gpu_computes_in_bf16_from_ampere_on(
    train: ModuleType, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(train, "CUDA", True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert train.compute_dtype() == dtype


@pytest.mark.parametrize(
    ("device", "amx", "dtype"),
    [("cpu", True, torch.bfloat16), ("cpu", False, torch.float32), ("mps", True, torch.float32)],
)
def test_without_a_gpu_only_a_cpu_with_amx_computes_in_bf16(
    train: ModuleType, monkeypatch: pytest.MonkeyPatch, device: str, amx: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(train, "CUDA", False)
    monkeypatch.setattr(train, "DEVICE", device)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert train.compute_dtype() == dtype
