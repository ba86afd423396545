"""Which constants are dials, of what kind, and which values lie one step away.

A kind is inferred from name and value, so that any train.py will do. A direction is +1 or -1: up is larger,
True, or, for a window pattern, a larger share of long windows.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from research_loop.edits import Value
from research_loop.proposers.search import couplings

Kind = Literal["rate", "scale", "ratio", "beta", "size", "count", "width", "switch", "pattern"]

Leaf = bool | int | float | str
Path = tuple[int, ...]

NOT_DIALS: Final[tuple[tuple[str, str], ...]] = (
    ("SEED|SEEDS", "the harness owns the seed: a lucky one is no improvement"),
    ("PATH|PATHS|DIR|FOLDER|FILE|FILES|URL|NAME|REPO|TAG|VERSION", "says where or what, not how much"),
    ("VOCAB|VOCABULARY", "fixed by the tokenizer"),
    ("SEQ_LEN|SEQ_LENGTH|SEQUENCE_LEN|SEQUENCE_LENGTH|CONTEXT_LENGTH|BLOCK_SIZE", "fixed by the rows of prepare.py"),
    ("BUDGET|SECONDS|MINUTES|HOURS|TIMEOUT|DEADLINE", "the clock is the harness's"),
    ("UNTIMED|SKIP_STEPS|IGNORE_STEPS|UNTIMED_STEPS", "what is left out of the clock is not ours to change"),
    ("EVAL|VAL|VALID|VALIDATION|TEST", "belongs to the measurement"),
    ("FLOPS|TFLOPS|BANDWIDTH", "describes the hardware"),
    ("DEVICE(?!_BATCH)|DTYPE|BACKEND|PRECISION|COMPILE", "chooses machinery, not a model"),
    ("LOG|PRINT|SAVE|CHECKPOINT|PROFILE|DEBUG|VERBOSE|EVERY|INTERVAL", "reports, does not train"),
    ("BOS|EOS|PAD|UNK|IGNORE_INDEX|TOKEN_ID|SPECIAL", "names a token"),
    ("WORKERS|THREADS|LOCAL_RANK|WORLD_SIZE|PORT|PREFETCH", "belongs to the machine"),
    ("EPS|EPSILON", "keeps a division safe"),
    ("PRIME|PRIMES|MODULUS|XOR", "spreads keys over a table: any other does as well"),
    ("COEFF|COEFFS|COEFFICIENTS|POLAR|NEWTON|NS", "fitted numbers that only work together"),
)
"""Words of a name (between underscores) that forbid turning the constant, each with its reason."""
_DENIED: Final = re.compile("|".join(f"(?:.*_)?(?:{words})(?:_.*)?" for words, _ in NOT_DIALS))
_RATIO_WORDS: Final = frozenset({"RATIO", "FRAC", "FRACTION", "SHARE", "PROB", "SMOOTHING"})
_DROP_WORDS: Final = frozenset({"DROPOUT", "DROP", "PDROP"})
_BETA_WORDS: Final = frozenset({"BETA", "BETAS", "BETA1", "BETA2", "B1", "B2", "MOMENTUM", "MOMENTA", "EMA"})
_RATE_WORDS: Final = frozenset({"LR", "RATE"})
_COUNT_WORDS: Final = frozenset({"DEPTH", "LAYERS", "LAYER", "HEADS", "NUM", "N", "COUNT"})
_SIZE_WORDS: Final = frozenset({"SIZE", "DIM", "BATCH", "MICROBATCH", "TABLE", "ROWS", "WIDTH", "BUCKETS", "TOKENS"})
# Changing these leaves the memory of a step as it is (gradients accumulate; heads share a width; a length of time).
_FREE_OF_MEMORY: Final = re.compile(r"TOTAL_BATCH_SIZE|HEAD_DIM|.*STEPS.*|.*WINDOW.*")
_SMALLEST_FACTOR, _LARGEST_FACTOR = 1.2, 1.6
_FIRST_WHEN_OFF: Final = 0.01
LARGEST: Final = 1e15
"""What is larger, infinite or no number is a mark of something, not a setting."""


@dataclass(frozen=True, slots=True)
class Dial:
    """A number, switch or pattern that may be turned; `path` leads to it through tuples or lists, () for no such."""

    name: str
    path: Path
    kind: Kind
    value: bool | int | float | str

    @property
    def key(self) -> str:
        return key(self.name, self.path)

    @property
    def takes_memory(self) -> bool:
        """Whether turning it up needs more memory."""
        return self.kind in ("width", "count", "size") and not _FREE_OF_MEMORY.fullmatch(self.name)


def key(name: str, path: Path) -> str:
    return name + "".join(f"[{index}]" for index in path)


def dials(values: Mapping[str, Value]) -> list[Dial]:
    """All dials among these constants, in their order."""
    found = []
    for name, value in values.items():
        for path, part in leaves(value):
            kind = kind_of(name, part, inside=bool(path))
            if kind is not None:
                found.append(Dial(name, path, kind, part))
    return found


def leaves(value: Value, path: Path = ()) -> Iterator[tuple[Path, Leaf]]:
    """What is in nested tuples and lists, with the way to it."""
    if not isinstance(value, tuple | list):
        yield path, value
        return
    for index, part in enumerate(value):
        yield from leaves(part, (*path, index))


def kind_of(name: str, value: Value, inside: bool = False) -> Kind | None:
    """Kind of dial, or None for what must be left alone: denied names, other strings, negative whole numbers.

    `inside`: of a tuple or list, whose name says less.
    """
    if _is_denied(name):
        return None
    if isinstance(value, bool):
        return "switch"
    if isinstance(value, str):
        return "pattern" if "PATTERN" in name and re.fullmatch("[SL]+", value) else None
    if isinstance(value, int | float) and abs(value) < LARGEST:
        return _kind_of_number(name, value, inside)
    return None


@lru_cache(maxsize=4096)
def _is_denied(name: str) -> bool:
    return _DENIED.fullmatch(name) is not None


def limits_hold(name: str, old: Value, new: Value) -> bool:
    """Whether what was an average's beta, a dropout or a share is one still, in tuples and lists as well."""
    after = dict(leaves(new))
    kinds = ((kind_of(name, part, inside=bool(path)), after.get(path)) for path, part in leaves(old))
    return all(_is_share(name, kind, part) for kind, part in kinds if kind in ("beta", "ratio"))


def _is_share(name: str, kind: Kind | None, value: Leaf | None) -> bool:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        return False
    return value < 1 or (kind == "ratio" and not set(name.split("_")) & _DROP_WORDS)


def _kind_of_number(name: str, value: int | float, inside: bool) -> Kind | None:
    words = set(name.split("_"))
    if name == "ASPECT_RATIO" or (couplings.role(name) == "width" and isinstance(value, int)):
        return "width" if value > 0 else None
    if words & _BETA_WORDS and 0 <= value < 1:
        return "beta"
    if words & (_RATIO_WORDS | _DROP_WORDS) and 0 <= value <= 1:
        return "ratio"
    if words & _RATE_WORDS:
        return "rate"
    if inside and 0.5 <= value < 1:
        return "beta"  # ("adamw", 3e-4, (0.9, 0.95))
    return "scale" if isinstance(value, float) else _kind_of_whole(words, value)


def _kind_of_whole(words: set[str], value: int) -> Kind | None:
    if value < 0:
        return None  # -1 and the like stand for "none" or "all"
    if words & _COUNT_WORDS and value < 64:
        return "count"
    power_of_two = value >= 16 and value & (value - 1) == 0
    if power_of_two or (words & _SIZE_WORDS and value > 1):
        return "size"
    return "count" if value < 64 else "scale"


def directions(name: str, old: Value, new: Value) -> dict[str, int]:
    """Dial key -> +1 or -1 for what a change of one constant turned; empty when nothing comparable moved."""
    before, after = dict(leaves(old)), dict(leaves(new))
    pairs = ((path, before[path], after[path]) for path in before if before.keys() == after.keys())
    return {key(name, path): d for path, a, b in pairs if (d := _direction(a, b))}


def _direction(old: Value, new: Value) -> int:
    if isinstance(old, str) and isinstance(new, str):
        before, after = _length_order(old), _length_order(new)
        return (after > before) - (after < before)
    if isinstance(old, int | float) and isinstance(new, int | float):
        return (new > old) - (new < old)
    return 0


def _length_order(pattern: str) -> tuple[float, int, str]:
    return pattern.count("L") / max(len(pattern), 1), -len(pattern), pattern


def neighbours(dial: Dial, direction: int, scale: float, rng: random.Random) -> list[Value]:
    """Values one step away, best guess first; `scale` is 1 for the usual step and smaller near an optimum."""
    value = dial.value
    if isinstance(value, bool):
        return [not value] if (direction > 0) != value else []
    if isinstance(value, str):
        return list(_patterns_near(value, direction, rng))
    if dial.kind == "count":
        step = direction * (2 if scale >= 1.5 else 1)
        return [value + step] if value + step >= min(value, 1) else []
    if dial.kind == "size":
        return _sizes_near(int(value), direction)
    if dial.kind == "ratio":
        return _ratios_near(value, direction, scale)
    factors = [_factor(direction, scale, u) for u in (rng.random(), 0.5, 0.0, 1.0)]
    if dial.kind == "beta":
        # In the space of 1 - beta: 0.9 to 0.95 is as large a step as 0.95 to 0.975.
        near = [round(1 - tidy(1 - value, 1 / factor), 8) for factor in factors]
        return _unlike(value, [beta for beta in near if 0 < beta < 1])
    return _unlike(value, _scaled(value, direction, factors))


def _factor(direction: int, scale: float, u: float) -> float:
    low, high = math.log(_SMALLEST_FACTOR), math.log(_LARGEST_FACTOR)
    return math.exp(direction * scale * (low + u * (high - low)))


def _scaled(value: int | float, direction: int, factors: list[float]) -> list[int | float]:
    if value == 0:
        return [_FIRST_WHEN_OFF] if direction > 0 and isinstance(value, float) else []
    # Below zero, up is towards zero.
    return [tidy(value, factor if value > 0 else 1 / factor) for factor in factors]


def _unlike(value: float, near: list[int | float]) -> list[Value]:
    return [candidate for candidate in dict.fromkeys(near) if candidate != value]


def _sizes_near(value: int, direction: int) -> list[Value]:
    if direction > 0:
        return [value * 2]
    return [value // 2] if value % 2 == 0 and value >= 2 else []


def _ratios_near(value: float, direction: int, scale: float) -> list[Value]:
    steps = (0.1, 0.05) if scale >= 1 else (0.05, 0.02) if scale >= 0.4 else (0.02, 0.01)
    near = [round(min(max(value + direction * step, 0.0), 1.0), 6) for step in steps]
    return _unlike(value, [float(ratio) for ratio in near])


def tidy(value: int | float, factor: float) -> int | float:
    """value * factor with as few digits as keep the step (two where that will do); whole numbers stay whole."""
    exact = value * factor
    if isinstance(value, int):
        return max(1, int(float(f"{exact:.2g}")) if exact >= 100 else round(exact))
    for digits in (2, 3, 4):
        short = float(f"{exact:.{digits}g}")
        ratio = short / value
        if ratio > 0 and 0.5 <= math.log(ratio) / math.log(factor) <= 1.5:
            return short
    return exact


def _patterns_near(pattern: str, direction: int, rng: random.Random) -> list[str]:
    """Patterns with one letter flipped, added or removed; `SLSL` counts as `SL`, which it repeats."""
    base = root(pattern)
    near = {base[:i] + ("S" if base[i] == "L" else "L") + base[i + 1 :] for i in range(len(base))}
    near |= {base[:i] + letter + base[i:] for i in range(len(base) + 1) for letter in "SL"}
    near |= {base[:i] + base[i + 1 :] for i in range(len(base)) if len(base) > 1}
    wanted = sorted({root(other) for other in near if _direction(base, root(other)) == direction})
    rng.shuffle(wanted)
    return wanted


def root(pattern: str) -> str:
    """The shortest pattern that gives this one when repeated."""
    return pattern[: (pattern + pattern).find(pattern, 1)]


def put(values: Mapping[str, Value], dial: Dial, new: Value) -> Value:
    """The whole constant with this dial at a new value."""
    return _put(values[dial.name], dial.path, new)


def _put(whole: Value, path: Path, new: Value) -> Value:
    if not path or not isinstance(whole, tuple | list):
        return new
    changed = [*whole[: path[0]], _put(whole[path[0]], path[1:], new), *whole[path[0] + 1 :]]
    return tuple(changed) if isinstance(whole, tuple) else changed
