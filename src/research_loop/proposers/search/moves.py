"""The ranked moves: what to try first on any GPT training script with a fixed time budget, and why.

In the order of what a fixed wall clock rewards: the batch, the shape, the learning rates, the schedule, the rest
(the order that the autoresearch runs, nanochat's and modded-nanogpt's published logs agree on). Each is a
direction and a usual step from whatever value is there, not a value. Which are due, in which order and how large
a step: ranking.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from research_loop.edits import Value
from research_loop.proposers.search import couplings
from research_loop.proposers.search.dials import dials
from research_loop.proposers.search.steps import (
    New,
    averaged,
    beta,
    doubled,
    halved,
    joined,
    narrower,
    nearer_one,
    plus,
    reshaped,
    shorter_windows,
    smaller_head,
    times,
)


@dataclass(frozen=True, slots=True)
class Idea:
    """Changed constants (name -> new value) with why and risk."""

    changes: Mapping[str, Value]
    why: str
    risk: str


@dataclass(frozen=True, slots=True)
class Move:
    """`needs`: patterns of constant names; `change`: their old values, in that order -> new ones, or None.

    Without `why` and `risk` those of words.py are said.
    """

    name: str
    needs: tuple[str, ...]
    change: Callable[..., New | None]
    why: str = ""
    risk: str = ""

    def apply(self, values: Mapping[str, Value], times: int = 1) -> dict[str, Value] | None:
        """New values by name after so many steps, or as many as turn the same constants; None where there is none."""
        reached: dict[str, Value] = {}
        for _ in range(times):
            step = self._step({**values, **reached}) or {}
            turned = {name for name, new in step.items() if new != {**values, **reached}[name]}
            if reached and turned != {name for name, new in reached.items() if new != values[name]}:
                break
            reached |= step
        return reached or None

    def _step(self, values: Mapping[str, Value]) -> dict[str, Value] | None:
        """New values by name, or None when a constant is missing, is no dial, or the move does not apply."""
        turnable = list(dict.fromkeys(dial.name for dial in dials(values)))
        names = [next((name for name in turnable if re.fullmatch(need, name)), None) for need in self.needs]
        found = [name for name in names if name is not None]
        if len(found) < len(names):
            return None
        new = self.change(*(values[name] for name in found))
        return None if new is None else dict(zip(found, new, strict=True))


MOVES: Final[tuple[Move, ...]] = (
    Move(
        "smaller batch",
        ("TOTAL_BATCH_SIZE",),
        halved,
        "More updates fit into the same seconds; in a short run steps are worth more than smooth gradients.",
        "Noisier gradients; the fixed cost of an optimizer step is paid more often, so fewer tokens are seen.",
    ),
    Move(
        "wider",
        couplings.SHAPE,
        reshaped(0, 1),
        "A wider model learns more from each token and keeps the GPU's matrix units busier.",
        "Slower steps, so fewer tokens in the budget; more VRAM.",
    ),
    Move(
        "deeper and wider",
        couplings.SHAPE,
        reshaped(1, 1),
        "If the budget allows more tokens than the model can use, size in both directions is the better use of it.",
        "Clearly slower steps and more VRAM.",
    ),
    Move(
        "deeper, same width",
        couplings.SHAPE,
        reshaped(1, 0),
        "More layers add steps of computation per token; the width, and so the shape of every matrix, stays.",
        "Slower steps and some more VRAM; deep and narrow is less stable at high learning rates.",
    ),
    Move(
        "shallower, same width",
        couplings.SHAPE,
        reshaped(-1, 0),
        "Fewer layers make every step faster: more tokens in the same seconds.",
        "Loses capacity; pays only if the model was too large for the budget.",
    ),
    Move(
        "narrower",
        couplings.SHAPE,
        narrower,
        "A narrower model sees more tokens in the same seconds.",
        "Loses capacity; small matrices may leave the GPU waiting.",
    ),
    Move(
        "embedding rate up",
        ("EMBEDDING_LR",),
        times(1.4),
        "Rows of the embedding are touched rarely, so a short run can leave them undertrained; they bear large steps.",
        "Rare tokens may be thrown about by single batches.",
    ),
    Move(
        "matrix rate up",
        ("MATRIX_LR",),
        times(1.3),
        "A short run rarely reaches the noise floor, so the matrices can take larger steps before the decay.",
        "Instability, a NaN in the worst case.",
    ),
    Move(
        "unembedding rate up",
        ("UNEMBEDDING_LR",),
        times(1.5),
        "The output layer starts from almost nothing and must calibrate every token within the budget.",
        "The logits may grow too fast early on.",
    ),
    Move(
        "n-gram rate up",
        (r"(NGRAM|BIGRAM|TRIGRAM|HASH|TABLE)_LR",),
        times(1.5),
        "A row of such a table is touched a few times in a short run, so that each of its steps has to count.",
        "What a single batch says of a rare pair is believed too much.",
    ),
    Move(
        "longer warmdown",
        ("WARMDOWN_RATIO",),
        plus(0.15),
        "Falling learning rates average out gradient noise; most of a short run's gain comes during the decay.",
        "Less time at the full rate.",
    ),
    Move(
        "end above zero",
        ("FINAL_LR_FRAC",),
        plus(0.05),
        "A higher last rate keeps the last steps teaching.",
        "A little gradient noise stays in the final weights.",
    ),
    Move(
        "n-grams in the embedding",
        ("NGRAM_INPUT", "BIGRAM_ROWS", "TRIGRAM_ROWS"),
        joined,
        "The first layers need not find out which pair or triple of tokens they stand at: the tables know it.",
        "What attention and MLP see changes as the tables learn, and on a GPU it is a little more to add in each pass.",
    ),
    Move(
        "averaged weights",
        ("AVERAGE_HALF_LIFE", "FINAL_LR_FRAC"),
        averaged,
        "An average of the last weights has less of their noise than a low rate leaves, so that the rate may stay "
        "higher (LAWA, arXiv 2209.14981).",
        "An average that reaches too far back lags behind; the last weights by themselves are noisier.",
    ),
    Move(
        "shorter windows",
        ("WINDOW_PATTERN", f"DEPTH|{couplings.LAYERS}"),
        shorter_windows,
        "Most of what predicts the next token is near: fewer long windows save attention time on every step.",
        "Long-range context is lost in more layers.",
    ),
    Move(
        "less decay",
        ("WEIGHT_DECAY",),
        times(0.5),
        "With less than an epoch of data there is little to regularise; decay then mostly slows learning.",
        "Weights may grow until the effective learning rate falls.",
    ),
    Move(
        "more decay",
        ("WEIGHT_DECAY",),
        times(1.5),
        "Decay keeps the weights small and so the effective learning rate high until the end.",
        "Too much of it erases what was learned.",
    ),
    Move(
        "longer second moment",
        ("ADAM_BETAS",),
        beta(1, 0.5),
        "Gradients of embeddings are sparse; a longer average of their squares gives steadier step sizes.",
        "Adapts more slowly at the start of the run.",
    ),
    Move(
        "longer first moment",
        ("ADAM_BETAS",),
        beta(0, 0.6),
        "A smoother direction helps when small batches make gradients noisy.",
        "Momentum may overshoot while the learning rate is high.",
    ),
    Move(
        "scalar rate down",
        ("SCALAR_LR",),
        times(0.5),
        "The per-layer scalars steer whole layers; calmer ones make the rest easier to train.",
        "They may not reach useful values in time.",
    ),
    Move(
        "matrix rate down",
        ("MATRIX_LR",),
        times(0.75),
        "If larger steps of the matrices do not pay, the present ones may already be too noisy.",
        "Slower learning in the first minutes.",
    ),
    Move(
        "embedding rate down",
        ("EMBEDDING_LR",),
        times(0.7),
        "If larger steps of the embedding do not pay, the present ones may already be too noisy.",
        "Rare tokens learn more slowly.",
    ),
    Move(
        "larger batch",
        ("TOTAL_BATCH_SIZE",),
        doubled,
        "If fewer, larger steps see more tokens (the optimizer's share of the time falls), they may win.",
        "Fewer updates.",
    ),
    Move(
        "short warmup",
        ("WARMUP_RATIO",),
        plus(0.05),
        "A short ramp lets the optimizer's averages form before full steps are taken.",
        "The ramp itself is time at low learning rates.",
    ),
    Move(
        "smaller heads",
        ("HEAD_DIM",),
        smaller_head,
        "More heads at the same width can attend to more things at once.",
        "Attention kernels are slower on small heads.",
    ),
    Move(
        "longer matrix momentum",
        (r"(MUON_|MATRIX_)?MOMENTUM",),
        nearer_one(0.7),
        "With small batches the orthogonalised step profits from a longer average of gradients.",
        "Stale directions when the learning rate falls.",
    ),
    Move(
        "shorter variance memory",
        (r"MUON_BETA_?2|NORMUON_BETA_?2?",),
        nearer_one(2.0),
        "A shorter average of the row variances follows their change during a short run.",
        "Noisier step sizes.",
    ),
    Move(
        "larger rotary base",
        (r"ROPE_(BASE|THETA)|ROTARY_BASE",),
        times(5.0),
        "Slower rotations keep far positions apart less strictly, which helps content-based attention.",
        "Near positions may blur.",
    ),
    Move(
        "weaker input shortcut",
        (r"X0_(INIT|LAMBDA|LAMBDA_INIT|SCALE)",),
        times(0.5),
        "Starting with less of the raw embedding in each layer lets the layers do the work sooner.",
        "Slower start.",
    ),
    Move(
        "smaller initial weights",
        (r"INIT_(SCALE|STD|GAIN)|WEIGHT_INIT(_SCALE)?",),
        times(0.8),
        "Smaller initial matrices make the first updates relatively larger.",
        "Signals may be too weak in deep models.",
    ),
    Move(
        "larger n-gram table",
        (r"(NGRAM|BIGRAM|TRIGRAM|HASH)_(TABLE|SIZE|ROWS|BUCKETS|TABLE_SIZE|TABLE_ROWS)",),
        doubled,
        "Fewer collisions: each row of the table stands for fewer n-grams.",
        "More VRAM; each row is trained on fewer tokens.",
    ),
    Move(
        "tighter soft cap",
        (r"(LOGIT_)?SOFT_?CAP",),
        times(0.8),
        "A tighter cap on the logits stops over-confident outputs early in training.",
        "Rare but certain predictions cannot be expressed.",
    ),
)
