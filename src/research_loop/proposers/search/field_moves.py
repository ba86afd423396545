"""The ranked moves for the names that other GPT scripts use: nanoGPT's, litGPT's and their heirs'.

As in moves.py each is a direction and a usual step, and no value that was tuned; the reasons are those of words.py.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from research_loop.proposers.search.couplings import LAYERS, ROLES
from research_loop.proposers.search.moves import MOVES, Move
from research_loop.proposers.search.steps import doubled, halved, nearer_one, plus_whole, times
from research_loop.proposers.search.words import MLP

_WIDTH: Final = ROLES["width"].pattern
_RATE: Final = r"(MAX_|PEAK_|BASE_|ADAMW?_|MUON_)?(LR|LEARNING_RATE)"
_STEP, _ROWS = rf"(?!TOTAL_BATCH_SIZE$)(?:{ROLES['step'].pattern})", ROLES["batch"].pattern
_CLIP: Final = r"(MAX_)?(GRAD|GRADIENT)_?(CLIP|NORM)(_NORM|_VALUE)?|CLIP_GRAD(_NORM)?|MAX_NORM|CLIP"
_ACCUMULATED: Final = r"(GRADIENT|GRAD)_(ACCUMULATION|ACCUM)(_STEPS)?"

FIELD_MOVES: Final[tuple[Move, ...]] = (
    Move("smaller step", (_STEP,), halved),
    Move("smaller batch of rows", (_ROWS,), halved),
    Move("fewer accumulated", (_ACCUMULATED,), halved),
    Move("wider elsewhere", (_WIDTH,), times(1.25)),
    Move("deeper elsewhere", (LAYERS,), plus_whole(1)),
    Move("shallower elsewhere", (LAYERS,), plus_whole(-1)),
    Move("narrower elsewhere", (_WIDTH,), times(0.8)),
    Move("rate up", (_RATE,), times(1.4)),
    Move("shorter warmup", (r"(LR_)?WARMUP(_ITERS|_STEPS)?|(N|NUM)_WARMUP(_STEPS)?",), times(0.5)),
    Move("earlier decay", (r"(LR_)?DECAY_(ITERS|STEPS)",), times(0.6)),
    Move("lower final rate", (r"(MIN|FINAL|END)_(LR|LEARNING_RATE)",), times(0.5)),
    Move("longer second moment elsewhere", (r"(ADAMW?_)?(BETA_?2|B2)",), nearer_one(0.5)),
    Move("longer first moment elsewhere", (r"(ADAMW?_)?(BETA_?1|B1)",), nearer_one(0.6)),
    Move("less dropout", (r"((ATTN|ATTENTION|RESID|EMBD|EMBED)_)?(DROPOUT|P?DROP)(_RATE|_PROB|_P)?",), times(0.5)),
    Move("less smoothing", (r"LABEL_SMOOTHING",), times(0.5)),
    Move("looser clip", (_CLIP,), times(1.5)),
    Move("tighter clip", (_CLIP,), times(0.6)),
    Move("wider MLP", (MLP,), plus_whole(1)),
    Move("rate down", (_RATE,), times(0.7)),
    Move("larger step", (_STEP,), doubled),
    Move("larger batch of rows", (_ROWS,), doubled),
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
