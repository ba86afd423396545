"""Tables of hashed n-grams in the lab's train.py: what they look up, how they learn, and that nothing leaks through."""

from __future__ import annotations

import copy
from types import ModuleType

import pytest
import torch


@pytest.fixture
def small(train: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(train, "BIGRAM_ROWS", 64)
    monkeypatch.setattr(train, "TRIGRAM_ROWS", 128)
    torch.manual_seed(0)
    return train


def test_rows_follow_from_the_last_n_tokens_alone(small: ModuleType) -> None:
    for n in (2, 3):
        table = small.NgramTables({"a": (n, 1000)}, 8, 1024)
        idx = torch.randint(0, 1024, (4, 32))
        index = table.index("a", idx)
        assert index.shape == (4, 32, 2) and index[..., 0].max() < 1000 <= index[..., 1].min() <= index.max() < 2000
        assert table.index("a", idx[:, :1]).shape == (4, 1, 2), "shorter than the n-gram"
        for place in (n - 1, 20, 31):
            same, other = torch.randint(0, 1024, (2, 4, 32))
            same[:, place - n + 1 : place + 1] = other[:, place - n + 1 : place + 1] = idx[:, place - n + 1 : place + 1]
            other[:, place - n + 1] = (idx[:, place - n + 1] + 1) % 1024
            assert torch.equal(table.index("a", same)[:, place], index[:, place])
            assert torch.equal(table.index("a", idx[:, : place + 1]), index[:, : place + 1])
            assert not torch.equal(table.index("a", other)[:, place], index[:, place])


def test_two_n_grams_rarely_share_both_halves_and_tables_hash_differently(small: ModuleType) -> None:
    tables = small.NgramTables({"one": (2, 4096), "two": (2, 4096), "three": (3, 16)}, 8, 1024)
    pairs = torch.stack(torch.meshgrid(torch.arange(200), torch.arange(20), indexing="ij"), -1).view(-1, 2)
    seen, two, three = (tables.index(name, pairs)[:, 1] for name in ("one", "two", "three"))
    assert len(seen.unique(dim=0)) > 0.995 * len(pairs) > len(seen[:, 0].unique()) > 0.5 * len(pairs)
    assert (seen[:, 0] == two[:, 0] - 8192).float().mean() < 0.01
    assert seen.max() < 8192 <= two.min() <= two.max() < 16384 <= three.min() and three.max() < 16384 + 32
    assert tables.weight.shape == (16384 + 32 + 1, 4), "and a spare row"


def test_a_step_is_adagrads_on_each_row_and_touches_no_other(small: ModuleType) -> None:
    weight, squares = torch.randn(11, 4), torch.rand(11)
    expected, sums = weight.clone(), squares.clone()
    for _ in range(3):
        index, grads = torch.randint(0, 7, (20,)), torch.randn(20, 4)
        small.ngram_step(weight, squares, index, grads, 0.5, 0)
        for row in set(index.tolist()):
            total = grads[index == row].sum(0)
            sums[row] += total.square().mean()
            expected[row] -= 0.5 * total / sums[row].sqrt()
    torch.testing.assert_close(weight[:10], expected[:10])
    torch.testing.assert_close(squares[:10], sums[:10])
    assert weight[10].isfinite().all(), "the spare row"


def test_the_model_learns_through_its_tables_and_a_score_leaves_nothing_behind(small: ModuleType) -> None:
    model = small.GPT(1024)
    optimizer = small.Optimizer(model)
    x, y = torch.randint(0, 1024, (2, 2, 64))
    before = model.ngrams.weight.clone()
    losses = []
    for step in range(20):
        for _ in range(2):  # two passes a step
            loss = model(x, y)
            (loss / 2).backward()
        optimizer.step(0.1, step)
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1
    rows = {name: slice(first, first + 2 * model.ngrams.sizes[name][1]) for name, first in model.ngrams.first.items()}
    assert len(rows) == 2 and not any(torch.equal(before[r], model.ngrams.weight[r]) for r in rows.values())
    with torch.no_grad():
        nats = model(x, y, reduction="none")
    assert not nats.requires_grad and nats.shape == (128,)
    assert not model.ngrams.waiting
    logits = model(x).detach()
    by_hand = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none")
    torch.testing.assert_close(nats, by_hand, rtol=0.01, atol=0.01)


def test_training_and_scoring_are_one_graph(small: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    graphs = []

    def counted(graph: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(graph)
        return graph.forward

    whole = torch.compile(small.GPT.nats, backend=counted, dynamic=False, fullgraph=True)
    monkeypatch.setattr(small.GPT, "nats", whole)
    model = small.GPT(1024)
    optimizer = small.Optimizer(model)
    x, y = torch.randint(0, 1024, (2, 2, 64))
    for step in range(3):
        model(x, y).backward()
        optimizer.step(0.1, step)
    with torch.no_grad():
        model.eval()(x, y, reduction="none")
    assert len(graphs) == 1
    other = copy.deepcopy(model)
    torch.nn.init.normal_(other.lm_head.weight)
    with torch.no_grad():
        logits, nats = other(x), other(x, y, reduction="none")
    by_hand = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none")
    torch.testing.assert_close(nats, by_hand, rtol=0.01, atol=0.02)  # the copy's own weights by both ways


def test_passes_that_no_step_follows_leave_nothing_to_the_next(small: ModuleType) -> None:
    model = small.GPT(1024)
    optimizer = small.Optimizer(model)
    x, y = torch.randint(0, 1024, (2, 2, 64))
    model(x, y)
    assert not model.ngrams.waiting, "forward alone"
    model(x, y).backward()
    assert len(model.ngrams.waiting) == len(model.ngrams.sizes) == 2
    model.zero_grad()
    assert not model.ngrams.waiting
    model(x, y).backward()
    optimizer.step(0.1, 0)
    assert not model.ngrams.waiting
