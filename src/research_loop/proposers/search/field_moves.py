"""The ranked moves for the names that other GPT scripts use: nanoGPT's, litGPT's and their heirs'.

As in moves.py each is a direction and a usual step, with its reason, and no value that was tuned.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from research_loop.proposers.search.couplings import ROLES
from research_loop.proposers.search.moves import MOVES, Move, doubled, halved, nearer_one, plus_whole, times

_WIDTH: Final = ROLES["width"].pattern
_LAYERS: Final = r"(N|NUM)_(HIDDEN_)?LAYERS?|LAYERS"
_RATE: Final = r"(MAX_|PEAK_|BASE_|ADAMW?_|MUON_)?(LR|LEARNING_RATE)"
_STEP, _ROWS = rf"(?!TOTAL_BATCH_SIZE$)(?:{ROLES['step'].pattern})", ROLES["batch"].pattern
_CLIP: Final = r"(MAX_)?(GRAD|GRADIENT)_?(CLIP|NORM)(_NORM|_VALUE)?|CLIP_GRAD(_NORM)?|MAX_NORM|CLIP"
_ACCUMULATED: Final = r"(GRADIENT|GRAD)_(ACCUMULATION|ACCUM)(_STEPS)?"
_MLP: Final = r"(MLP|FFN?|FEED_FORWARD)_(MULT|RATIO|EXPANSION|FACTOR)|EXPANSION"

FIELD_MOVES: Final[tuple[Move, ...]] = (
    Move(
        "smaller step",
        (_STEP,),
        halved,
        "More updates fit into the same seconds; in a short run steps are worth more than smooth gradients.",
        "Noisier gradients, and a GPU that is less busy where this is all that it sees at once.",
    ),
    Move(
        "smaller batch of rows",
        (_ROWS,),
        halved,
        "More updates fit into the same seconds; in a short run steps are worth more than smooth gradients.",
        "Noisier gradients, and a GPU that is less busy where this is all that it sees at once.",
    ),
    Move(
        "fewer accumulated",
        (_ACCUMULATED,),
        halved,
        "Each update waits for fewer passes, so that the same seconds hold more of them.",
        "Noisier gradients at the same learning rate.",
    ),
    Move(
        "wider elsewhere",
        (_WIDTH,),
        times(1.25),
        "A wider model learns more from each token and keeps the GPU's matrix units busier.",
        "Slower steps, so fewer tokens in the budget; more VRAM.",
    ),
    Move(
        "deeper elsewhere",
        (_LAYERS,),
        plus_whole(1),
        "More layers add steps of computation per token at the same shape of every matrix.",
        "Slower steps and more VRAM; deep and narrow is less stable at high learning rates.",
    ),
    Move(
        "shallower elsewhere",
        (_LAYERS,),
        plus_whole(-1),
        "Fewer layers make every step faster: more tokens in the same seconds.",
        "Loses capacity; pays only if the model was too large for the budget.",
    ),
    Move(
        "narrower elsewhere",
        (_WIDTH,),
        times(0.8),
        "A narrower model sees more tokens in the same seconds.",
        "Loses capacity; small matrices may leave the GPU waiting.",
    ),
    Move(
        "rate up",
        (_RATE,),
        times(1.4),
        "Rates are often chosen for runs of days; a run of minutes has few steps, and larger ones make more of them.",
        "Instability, a NaN in the worst case.",
    ),
    Move(
        "shorter warmup",
        (r"(LR_)?WARMUP(_ITERS|_STEPS)?|(N|NUM)_WARMUP(_STEPS)?",),
        times(0.5),
        "A ramp made for long runs takes a large share of a short one, at rates that teach little.",
        "The first full steps come before the optimizer's averages have formed.",
    ),
    Move(
        "earlier decay",
        (r"(LR_)?DECAY_(ITERS|STEPS)",),
        times(0.6),
        "The rate has to have fallen by the time the seconds are over, and few of these steps may fit into them.",
        "What is left after it is trained at the lowest rate.",
    ),
    Move(
        "lower final rate",
        (r"(MIN|FINAL|END)_(LR|LEARNING_RATE)",),
        times(0.5),
        "The lower the rate at the end, the more gradient noise is averaged out of the final weights.",
        "The last steps teach less.",
    ),
    Move(
        "longer second moment elsewhere",
        (r"(ADAMW?_)?(BETA_?2|B2)",),
        nearer_one(0.5),
        "Rows of an embedding have gradients rarely; a longer average of their squares gives steadier step sizes.",
        "Adapts more slowly at the start of the run.",
    ),
    Move(
        "longer first moment elsewhere",
        (r"(ADAMW?_)?(BETA_?1|B1)",),
        nearer_one(0.6),
        "A smoother direction helps when small batches make gradients noisy.",
        "Momentum may overshoot while the learning rate is high.",
    ),
    Move(
        "less dropout",
        (r"((ATTN|ATTENTION|RESID|EMBD|EMBED)_)?(DROPOUT|P?DROP)(_RATE|_PROB|_P)?",),
        times(0.5),
        "Who sees each token about once cannot learn it by heart; dropout then mostly slows learning.",
        "Overfits, if the data is small enough to be seen often.",
    ),
    Move(
        "less smoothing",
        (r"LABEL_SMOOTHING",),
        times(0.5),
        "The score is the likelihood of the text itself, and smoothing trains for another one.",
        "More confident mistakes.",
    ),
    Move(
        "looser clip",
        (_CLIP,),
        times(1.5),
        "Where most gradients are clipped the clip sets the step, and early progress waits for it.",
        "One bad batch moves the weights farther.",
    ),
    Move(
        "tighter clip",
        (_CLIP,),
        times(0.6),
        "Few rare, huge gradients undo many steps; where they are cut a higher rate is borne.",
        "Slower learning where usual gradients are clipped as well.",
    ),
    Move(
        "wider MLP",
        (_MLP,),
        plus_whole(1),
        "Most of what a transformer knows is in its MLPs, whose large products keep the GPU busy.",
        "Slower steps and more VRAM.",
    ),
    Move(
        "rate down",
        (_RATE,),
        times(0.7),
        "If larger steps do not pay, the present ones may already be too noisy.",
        "Slower learning in the first minutes.",
    ),
    Move(
        "larger step",
        (_STEP,),
        doubled,
        "If fewer, larger steps see more tokens (the optimizer's share of the time falls), they may win.",
        "Fewer updates; more VRAM where it is what one pass sees.",
    ),
    Move(
        "larger batch of rows",
        (_ROWS,),
        doubled,
        "If fewer, larger steps see more tokens (the optimizer's share of the time falls), they may win.",
        "Fewer updates; more VRAM where it is what one pass sees.",
    ),
)

_ALIASES: Final = {
    "EMBEDDING_LR": r"(EMBED|EMB|WTE)_LR",
    "UNEMBEDDING_LR": r"(LM_)?HEAD_LR|OUTPUT_LR",
    "WARMDOWN_RATIO": r"(WARMDOWN|COOLDOWN|DECAY)_(RATIO|FRAC|FRACTION|SHARE)",
    "FINAL_LR_FRAC": r"(FINAL|MIN|END)_LR_(FRAC|RATIO|FRACTION)",
    "WARMUP_RATIO": r"WARMUP_(FRAC|FRACTION|SHARE)",
    "ADAM_BETAS": r"(ADAMW_)?BETAS",
    "HEAD_DIM": r"HEAD_SIZE|D_HEAD",
    "WEIGHT_DECAY": r"WD",
}
"""By upstream's name."""


def table(values: Collection[str]) -> tuple[Move, ...]:
    """The moves for a file with these constants: upstream's, by other names where it has those, and the field's.

    The batch comes first, then what is only for the field's names, in its order.
    """
    ours = [_renamed(move, values) for move in MOVES]
    field = [move for move in FIELD_MOVES if "TOTAL_BATCH_SIZE" not in values or "batch of rows" not in move.name]
    return (ours[0], *field, *ours[1:])


def _renamed(move: Move, values: Collection[str]) -> Move:
    return replace(move, needs=tuple(need if need in values else _ALIASES.get(need, need) for need in move.needs))
