"""Constants that divide each other, under the names that GPT scripts commonly give them: a width is whole heads, a
batch whole device batches of whole rows.

What divides before a change has to divide after it. Where it does not, the constant that was turned goes on or back to
the nearest value that does, on the same side of the old one.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from research_loop.edits import Value

ROLES: Final[Mapping[str, re.Pattern[str]]] = {
    "width": re.compile(
        r"(N_|NUM_)?EMB(E?D)?(_DIM|_SIZE|_WIDTH)?|(D|DIM)_MODEL|(MODEL|HIDDEN)_(DIM|SIZE|WIDTH)|WIDTH|DIM"
    ),
    "heads": re.compile(r"(N|NUM)_((ATTN|ATTENTION|QUERY|Q)_)?HEADS?|HEADS"),
    "key heads": re.compile(r"(N|NUM)_(KV|KEY_VALUE)_HEADS?|KV_HEADS"),
    "head size": re.compile(r"HEAD_(DIM|SIZE|WIDTH)|D_HEAD"),
    "step": re.compile(r"(TOTAL|GLOBAL|EFFECTIVE)_BATCH(_SIZE|_TOKENS)?|BATCH_TOKENS|(TOTAL_)?TOKENS_PER_(STEP|BATCH)"),
    "batch": re.compile(r"(TRAIN_)?BATCH_SIZE"),
    "rows": re.compile(r"(DEVICE|MICRO|MINI)_?BATCH(_SIZE)?"),
    "length": re.compile(r"(MAX_)?SEQ(UENCE)?_LEN(GTH)?|BLOCK_SIZE|CONTEXT_(LEN|LENGTH|SIZE)"),
}
"""What a constant is, by its whole name."""
DIVIDED: Final = (
    ("width", "heads"),
    ("width", "head size"),
    ("heads", "key heads"),
    ("step", "batch"),
    ("step", "rows"),
    ("batch", "rows"),
)
"""The second divides the first; a batch beside a step and rows divides nothing of the step."""
EIGHTS: Final = 8
"""Matrix units take numbers by eights, and rotations a head's by twos: as many of these as there were stay."""
_FARTHEST: Final = 512


@dataclass(frozen=True, slots=True)
class _Link:
    """`whole` is a multiple of `factor` times `part`; of `factor` alone where that is None."""

    whole: str
    part: str | None
    factor: int

    def unit(self, values: Mapping[str, Value]) -> int:
        return self.factor * (_number(values, self.part) if self.part else 1)

    def holds(self, values: Mapping[str, Value]) -> bool:
        number, unit = _number(values, self.whole), self.unit(values)
        return number > 0 and unit > 0 and number % unit == 0


@lru_cache(maxsize=4096)
def role(name: str) -> str | None:
    return next((role for role, names in ROLES.items() if names.fullmatch(name)), None)


def fit(values: Mapping[str, Value], settled: dict[str, Value], length: int | None) -> bool:
    """Whether what divides in `values` does so after the changes `settled`, which are put right where that is possible.

    `length` is of a row in tokens, None where it is not known.
    """
    if not any(role(name) for name in settled):
        return True  # it is asked thousands of times for one proposal
    links = [link for link in _links(values, length) if link.whole in settled or link.part in settled]
    for name in {link.whole: None for link in links if link.whole in settled}:
        _round(name, links, values, settled)
    for name in {link.part: None for link in links if link.part is not None and link.part in settled}:
        _search(name, links, values, settled)
    if not _heads_follow(values, settled):
        return False
    touched = (link for link in _links(values, length) if link.whole in settled or link.part in settled)
    return all(link.holds({**values, **settled}) for link in touched)


def _heads_follow(values: Mapping[str, Value], settled: dict[str, Value]) -> bool:
    """A width that is heads times their size stays so, which many scripts rely on: what was not turned follows. False
    where nothing can."""
    named = {role(name): name for name in values if _number(values, name)}
    if not {"width", "heads", "head size"} <= named.keys():
        return True
    width, heads, size = named["width"], named["heads"], named["head size"]
    after = {**values, **settled}
    before, now = (_number(of, width) == _number(of, heads) * _number(of, size) for of in (values, after))
    if now or not before:
        return True
    follower, other = (size, heads) if heads in settled and size not in settled else (heads, size)
    if follower in settled or _number(after, width) % _number(after, other):
        return False
    settled[follower] = _number(after, width) // _number(after, other)
    return True


def _links(values: Mapping[str, Value], length: int | None) -> Iterator[_Link]:
    """What divides now."""
    known = {name: kind for name in values if (kind := role(name)) and _number(values, name)}
    rows = length or next((_number(values, name) for name, kind in known.items() if kind == "length"), 1)
    for whole, kind in known.items():
        if kind == "width":
            yield _Link(whole, None, math.gcd(_number(values, whole), EIGHTS))
        if kind == "step" and _Link(whole, None, rows).holds(values):
            yield _Link(whole, None, rows)
    divided = [pair for pair in DIVIDED if pair != ("step", "batch") or "rows" not in known.values()]
    for whole, part in itertools.permutations(known, 2):
        if (known[whole], known[part]) in divided and _Link(whole, part, 1).holds(values):
            yield _Link(whole, part, _factor(values, whole, part, known, rows))


def _factor(values: Mapping[str, Value], whole: str, part: str, known: Mapping[str, str], rows: int) -> int:
    if known[part] == "heads":
        return math.gcd(_number(values, whole) // _number(values, part), EIGHTS)
    tokens = known[part] != "head size" and _Link(whole, part, rows).holds(values)  # a batch may be counted in either
    return rows if tokens else 1


def _number(values: Mapping[str, Value], name: str | None) -> int:
    """A whole number above zero; 0 for all else."""
    value = values.get(name) if name else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _round(name: str, links: list[_Link], values: Mapping[str, Value], settled: dict[str, Value]) -> None:
    """To the nearest multiple of all that divide it that is on its side of the old one."""
    after = {**values, **settled}
    unit = math.lcm(*(link.unit(after) for link in links if link.whole == name))
    wanted, old = _number(after, name), _number(values, name)
    if not unit or not wanted or wanted % unit == 0:
        return
    near = sorted((wanted // unit * unit, -(-wanted // unit) * unit), key=lambda multiple: abs(multiple - wanted))
    for multiple in near:
        if multiple > 0 and _same_side(multiple, wanted, old):
            settled[name] = multiple
            return


def _search(name: str, links: list[_Link], values: Mapping[str, Value], settled: dict[str, Value]) -> None:
    """To the nearest number by which all is divided."""
    wanted, old = _number(settled, name), _number(values, name)
    ours = [link for link in links if name in (link.whole, link.part)]
    for distance in range(_FARTHEST if wanted else 0):
        for number in (wanted - distance, wanted + distance):
            after = {**values, **settled, name: number}
            if _same_side(number, wanted, old) and all(link.holds(after) for link in ours):
                settled[name] = number
                return


def _same_side(number: int, wanted: int, old: int) -> bool:
    return (number > old) == (wanted > old) and number != old
