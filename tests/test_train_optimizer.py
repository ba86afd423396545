"""The optimizer of the lab's train.py beside itself written out, and the clock that its schedule follows."""

from __future__ import annotations

import gc
import math
import re
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

VOCAB = 40
SHARES, STEPS = (0.1, 0.6, 0.9), (0, 150, 1000)
RATES, MOMENTA, DECAYS = (0.5, 0.82, 0.28), (0.8, 0.9125, 0.83), (0.18, 0.08, 0.02)
"""What the schedule of `tiny` makes of these shares of the budget and numbers of steps."""

Tensors = dict[str, torch.Tensor]


def random_model(train: ModuleType) -> torch.nn.Module:
    model: torch.nn.Module = train.GPT(VOCAB)
    for parameter in [*model.parameters(), model.ngrams.weight]:
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def copied(model: torch.nn.Module) -> Tensors:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def three_steps(train: ModuleType) -> tuple[Tensors, list[Tensors], Tensors]:
    """All parameters before the optimizer's steps at SHARES; the gradients of each step; the parameters after it."""
    model, gradients = random_model(train), []
    optimizer, before = train.Optimizer(model), copied(model)
    for share, step in zip(SHARES, STEPS, strict=True):
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        optimizer.step(share, step)
        assert all(p.grad is None for p in model.parameters())
    return before, gradients, copied(model)


def is_matrix(name: str) -> bool:
    return name.startswith("blocks.") and "ve_gates" not in name


def test_every_parameter_has_one_optimizer(tiny: ModuleType) -> None:
    model = tiny.GPT(VOCAB)
    optimizer = tiny.Optimizer(model)
    taken = [id(p) for one in [*optimizer.adams, *optimizer.muons] for p in one.params]
    assert sorted(taken) == sorted(map(id, model.parameters()))


ADAMS = {  # at width 48, a sixteenth of 768: four times the constants' rates where those depend on the width
    "lm_head.weight": (0.004 * 4, (0.8, 0.95)),
    "wte.weight": (0.6 * 4, (0.8, 0.95)),
    "value_embeds.": (0.6 * 4, (0.8, 0.95)),
    "resid_lambdas": (0.5 / 100, (0.8, 0.95)),
    "blocks.": (0.5 / 10, (0.8, 0.95)),
    "x0_lambdas": (0.5, (0.96, 0.95)),
}


def test_what_is_no_matrix_steps_by_adam_at_its_own_rate_times_the_schedules(tiny: ModuleType) -> None:
    before, gradients, after = three_steps(tiny)
    others = [name for name in before if not is_matrix(name)]
    assert len(others) == 1 + 3 + 2 + 2 * 3, "head, tables, scalars, gates"
    for name in others:
        base, betas = next(dials for start, dials in ADAMS.items() if name.startswith(start))
        expected = before[name].clone().requires_grad_()
        reference = torch.optim.Adam([expected], betas=betas, eps=1e-10)
        for rate, gradient in zip(RATES, gradients, strict=True):
            reference.param_groups[0]["lr"] = base * rate
            expected.grad = gradient[name]
            reference.step()
        torch.testing.assert_close(
            after[name], expected.detach(), rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


def muon_written_out(train: ModuleType, matrix: torch.Tensor, gradients: list[torch.Tensor]) -> torch.Tensor:
    """`matrix` after steps of Muon at RATES, MOMENTA and DECAYS; the polar factor is the script's own."""
    rows, columns = matrix.shape
    size = 0.04 * max(1.0, rows / columns) ** 0.5
    wide = rows < columns
    p = (matrix.T if wide else matrix).double()
    average, square = torch.zeros_like(p), torch.zeros(len(p)).double()
    for gradient, rate, momentum, decay in zip(gradients, RATES, MOMENTA, DECAYS, strict=True):
        g = (gradient.T if wide else gradient).double()
        average = momentum * average + (1 - momentum) * g
        update = train.orthogonalise((momentum * average + (1 - momentum) * g)[None])[0]
        square = 0.95 * square + 0.05 * update.square().mean(1)
        even = update / square.sqrt()[:, None]
        even = even * update.norm() / even.norm()
        pull = torch.where(even.sign() == p.sign(), decay * p, 0.0)  # only of what the update makes smaller, too
        p = p - size * rate * (even + pull)
    return p.T if wide else p


def test_matrices_step_by_muon_written_out(tiny: ModuleType) -> None:
    before, gradients, after = three_steps(tiny)
    shapes = set()
    for name in filter(is_matrix, before):
        expected = muon_written_out(tiny, before[name], [gradient[name] for gradient in gradients])
        torch.testing.assert_close(
            after[name].double(), expected, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
        shapes.add(tuple(before[name].shape))
    assert shapes == {(48, 48), (192, 48), (48, 192)}, "square, tall and wide"


def test_the_momentum_is_never_above_its_plateau(tiny: ModuleType) -> None:
    assert [tiny.muon_momentum(share, 1000) for share in (0.1, 0.3, 0.5)] == [0.95] * 3


def test_matrices_without_gradients_only_decay_less_and_less(tiny: ModuleType) -> None:
    model = random_model(tiny)
    optimizer, before = tiny.Optimizer(model), copied(model)
    for share, step in zip(SHARES, STEPS, strict=True):
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step(share, step)
    left = [1 - 0.04 * rate * decay for rate, decay in zip(RATES, DECAYS, strict=True)]
    share = left[0] * left[1] * left[2]
    torch.testing.assert_close(model.blocks[0].attn.c_q.weight, before["blocks.0.attn.c_q.weight"] * share)
    torch.testing.assert_close(model.blocks[0].mlp.c_proj.weight, before["blocks.0.mlp.c_proj.weight"] * share)


@pytest.mark.parametrize("share", SHARES)
def test_rows_of_n_grams_step_at_one_rate_wherever_the_schedule_is(tiny: ModuleType, share: float) -> None:
    model = random_model(tiny)
    optimizer, before = tiny.Optimizer(model), model.ngrams.weight.clone()
    model(*torch.randint(0, VOCAB, (2, 2, 16))).backward()
    seen = torch.cat([index.flatten() for index, _ in model.ngrams.waiting]).unique()
    optimizer.step(share, 0)
    moved = (model.ngrams.weight - before).square().mean(1).sqrt()[:-1]
    torch.testing.assert_close(moved[seen], torch.full((len(seen),), 2.0), rtol=1e-3, atol=0)
    assert moved.count_nonzero() == len(seen)


# ----------------------------------------------------------------------------------------------------------- clock


class Clock:
    """Stands in for the module `time`: each batch that is asked for takes a second."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def batches(self, *batches: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
        """For ever in turn, with the number of the turn; each batch is [2, rows, T]."""
        turn = 0
        while turn := turn + 1:
            for x, y in batches:
                self.now += 1.0
                yield x, y, turn


@pytest.fixture
def clock(tiny: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tiny, "time", clock)
    return clock


def budget(train: ModuleType, monkeypatch: pytest.MonkeyPatch, seconds: float, untimed: int) -> None:
    monkeypatch.setattr(train, "TIME_BUDGET", seconds)
    monkeypatch.setattr(train, "UNTIMED_STEPS", untimed)


def test_the_budget_is_of_timed_steps_alone(
    tiny: ModuleType, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    budget(tiny, monkeypatch, 5.0, untimed=3)
    batches = clock.batches(*torch.randint(0, VOCAB, (2, 2, 2, 16)))
    assert tiny.train(tiny.GPT(VOCAB), batches, accumulation=2) == (6.0, 6)
    printed = capsys.readouterr().out
    assert re.findall(r"\(([\d.]+)%\)", printed) == ["0.0", "0.0", "0.0", "40.0", "80.0", "100.0"]
    assert re.findall(r"remaining: (\d+)s", printed) == ["5", "5", "5", "3", "1", "0"]
    assert set(re.findall(r"dt: (\d+)ms \| tok/sec: (\d+)", printed)) == {("2000", "32")}
    assert re.findall(r"epoch: (\d+)", printed) == ["2", "3", "4", "5", "6", "7"], "of the batch that comes next"
    assert gc.isenabled() and gc.get_freeze_count() == 0


def test_rates_follow_the_clock_of_timed_steps(tiny: ModuleType, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "WARMUP_RATIO", 1.0)  # no rate at a share of 0
    batch = torch.randint(0, VOCAB, (2, 2, 16))
    for seconds, steps in ((0.5, 3), (1.5, 4)):
        budget(tiny, monkeypatch, seconds, untimed=2)
        model = random_model(tiny)
        before = copied(model)
        assert tiny.train(model, clock.batches(batch), accumulation=1)[1] == steps
        assert all(torch.equal(p, before[name]) == (steps == 3) for name, p in model.named_parameters())


def test_two_passes_of_half_a_batch_give_the_gradients_of_one_pass_of_all_of_it(
    tiny: ModuleType, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget(tiny, monkeypatch, 0.5, untimed=0)
    batch, model = torch.randint(0, VOCAB, (2, 4, 16)), random_model(tiny)
    before, sums = copied(model), []
    for batches in ([batch], batch.split(2, dim=1)):
        other, seen = tiny.GPT(VOCAB), {}
        other.load_state_dict({**model.state_dict(), **before})
        for name, p in other.named_parameters():
            p.register_post_accumulate_grad_hook(lambda p, name=name, seen=seen: seen.update({name: p.grad.clone()}))
        one_pass = ((x, y, 1) for x, y, _ in clock.batches(*batches))
        assert tiny.train(other, one_pass, accumulation=len(batches))[1] == 1
        sums.append({**seen, "squares of n-grams": other.ngrams.squares[:-1]})
    assert len(sums[0]) == len(before) + 1
    for name, whole in sums[0].items():
        torch.testing.assert_close(sums[1][name], whole, rtol=1e-3, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("seconds", "learnt"), [(11.0, range(8, 11)), (8.9, range(8))])
def test_tables_are_learnt_anew_in_each_pass_over_the_text_unless_little_of_it_is_left(
    tiny: ModuleType, clock: Clock, monkeypatch: pytest.MonkeyPatch, seconds: float, learnt: range
) -> None:
    budget(tiny, monkeypatch, seconds, untimed=0)
    model, batches = random_model(tiny), [torch.full((2, 2, 16), token) for token in range(1, 14)]
    torch.nn.init.zeros_(model.ngrams.weight)
    turns = ((batch, 1 + n // 8) for n, batch in enumerate(batches))
    passes = ((x, y, epoch) for (x, y), epoch in turns for _ in [next(clock.batches(batches[0]))])
    assert tiny.train(model, passes, accumulation=1)[1] == math.ceil(seconds)
    rows = [
        {int(row) for name in model.ngrams.sizes for row in model.ngrams.index(name, x).flatten()} for x, _ in batches
    ]
    expected = set().union(*(rows[n] for n in learnt))
    assert set(model.ngrams.squares[:-1].nonzero().flatten().tolist()) == expected
    assert set(model.ngrams.weight[:-1].abs().sum(1).nonzero().flatten().tolist()) == expected


# --------------------------------------------------------------------------------------------------------- average


def test_what_is_scored_is_the_moving_average_of_the_weights_of_the_second_half(
    tiny: ModuleType, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget(tiny, monkeypatch, 10.0, untimed=0)
    monkeypatch.setattr(tiny, "AVERAGE_HALF_LIFE", 0.2)  # two of ten steps
    model, weights = random_model(tiny), list[Tensors]()
    step = tiny.Optimizer.step
    monkeypatch.setattr(tiny.Optimizer, "step", lambda self, *at: (step(self, *at), weights.append(copied(model))))
    assert (
        tiny.train(model, clock.batches(torch.randint(0, VOCAB, (2, 2, 16))), accumulation=1)[1] == len(weights) == 10
    )
    for name, p in model.named_parameters():
        expected = weights[5][name]
        for after in weights[6:]:
            expected = expected * 0.5**0.5 + after[name] * (1 - 0.5**0.5)
        torch.testing.assert_close(p.detach(), expected, msg=lambda m, n=name: f"{n}: {m}")


def test_without_a_half_life_the_last_weights_are_scored(
    tiny: ModuleType, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget(tiny, monkeypatch, 8.0, untimed=0)
    monkeypatch.setattr(tiny, "AVERAGE_HALF_LIFE", 0.0)
    model, weights = random_model(tiny), list[Tensors]()
    step = tiny.Optimizer.step
    monkeypatch.setattr(tiny.Optimizer, "step", lambda self, *at: (step(self, *at), weights.append(copied(model))))
    tiny.train(model, clock.batches(torch.randint(0, VOCAB, (2, 2, 16))), accumulation=1)
    assert all(torch.equal(p, weights[-1][name]) for name, p in model.named_parameters())
