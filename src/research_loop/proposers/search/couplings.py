"""Constants that divide each other, under the names that GPT scripts commonly give them: a width is whole heads, a
batch whole device batches of whole rows.

What divides before a change has to divide after it. Where it does not, the constant that was turned goes on or back to
the nearest value that does, on the same side of the old one; a batch below one pass takes its rows along.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
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
BATCHES: Final = (("step", "batch"), ("step", "rows"), ("batch", "rows"))
"""The second divides the first; the first pair only where no rows are known."""
WIDTHS: Final = (("width", "heads"), ("width", "head size"), ("heads", "key heads"))
"""The second divides the first."""
EIGHTS: Final = 8
"""Matrix units take numbers by eights, and rotations a head's by twos: as many of these as there were stay."""
SHAPE: Final = ("DEPTH", "ASPECT_RATIO", "HEAD_DIM")
"""What gives the width under upstream's names."""
LAYERS: Final = r"(N|NUM)_(HIDDEN_)?LAYERS?|LAYERS"
"""How many there are, by the field's names; upstream's is DEPTH."""
_SHAPED: Final = "DEPTH * ASPECT_RATIO"
"""That width, among the names."""
_FARTHEST: Final = 64


@dataclass(frozen=True, slots=True)
class _Link:
    """`whole` is a multiple of `factor` times the product of `parts`."""

    whole: str
    parts: tuple[str, ...]
    factor: int = 1

    def unit(self, values: Mapping[str, Value]) -> int:
        return self.factor * math.prod(_number(values, part) for part in self.parts)

    def holds(self, values: Mapping[str, Value]) -> bool:
        number, unit = _number(values, self.whole), self.unit(values)
        return number > 0 and unit > 0 and number % unit == 0


@lru_cache(maxsize=4096)
def role(name: str) -> str | None:
    return next((role for role, names in ROLES.items() if names.fullmatch(name)), None)


def follows(name: str, leader: str) -> bool:
    """Whether it is adapted along with its leader: when both change, the idea was the leader's."""
    return (role(leader), role(name) or name) in (*BATCHES, ("head size", "ASPECT_RATIO"))


def width(depth: int, aspect: int, head: int) -> int:
    """Model width: depth x aspect ratio, rounded up to whole heads."""
    return -(-depth * aspect // head) * head


def aspect_for(wanted: int, depth: int, head: int) -> int | None:
    """The largest aspect ratio that gives this width, or None when no whole number does."""
    aspect = wanted // depth
    return aspect if aspect >= 1 and width(depth, aspect, head) == wanted else None


def shape(values: Mapping[str, Value]) -> tuple[int, int, int] | None:
    """(depth, aspect ratio, head dimension) when all three are whole and positive."""
    depth, aspect, head = (_number(values, name) for name in SHAPE)
    return (depth, aspect, head) if depth and aspect and head else None


def fit(values: Mapping[str, Value], settled: dict[str, Value], length: int | None) -> bool:
    """Whether what divides in `values` does so after the changes `settled`, which are put right where that is possible.

    `length` is of a row in tokens, None where it is not known.
    """
    if not any(role(name) or name in SHAPE for name in settled):
        return True  # it is asked thousands of times for one proposal
    links = _links(values, length)
    widths = [link for link in links if role(link.whole) not in ("step", "batch")]
    alone = [link for link in links if link not in widths and settled.keys().isdisjoint(link.parts)]
    if not all(_rows_follow(link, values, settled) for link in alone if link.whole in settled):
        return False
    for name in list(settled):
        _round(name, [link for link in (*widths, *alone) if name == link.whole], values, settled)
    for name in list(settled):
        _round(name, [link for link in widths if name in (link.whole, *link.parts)], values, settled)
    return _heads_follow(values, settled) and all(link.holds({**values, **settled}) for link in links)


def _rows_follow(link: _Link, values: Mapping[str, Value], settled: dict[str, Value]) -> bool:
    """A batch below one pass takes the rows of one along, by halves; False where it is below one row."""
    most = _number(settled, link.whole) // link.factor
    for part in link.parts:
        rows = _number({**values, **settled}, part)
        while rows > most > 0:
            rows //= 2
            settled[part] = rows
    return most > 0


def _heads_follow(values: Mapping[str, Value], settled: dict[str, Value]) -> bool:
    """A width that is heads times their size stays so, which many scripts rely on: what was not turned follows. False
    where nothing can."""
    after = {**values, **settled}
    triples = itertools.product(*(_named(values, kind) for kind in ("width", "heads", "head size")))
    apart = [found for found in triples if _is_product(values, *found) and not _is_product(after, *found)]
    if not apart:
        return True
    width, heads, size = apart[0]
    follower, other = (size, heads) if heads in settled and size not in settled else (heads, size)
    if follower in settled or _number(after, width) % _number(after, other):
        return False
    settled[follower] = _number(after, width) // _number(after, other)
    return True


def _links(values: Mapping[str, Value], length: int | None) -> list[_Link]:
    """What divides now."""
    named = {kind: _named(values, kind) for kind in ROLES}
    lengths = {length or 1, *(_number(values, name) for name in named["length"])}
    found = [_Link(name, (), tokens) for name in named["step"] for tokens in lengths]
    found += [_Link(name, (), math.gcd(_number(values, name), EIGHTS)) for name in named["width"]]
    for kind, part_kind in (*WIDTHS, *BATCHES) if not named["rows"] else (*WIDTHS, *BATCHES[1:]):
        for whole, part in itertools.product(named[kind], named[part_kind]):
            features = math.gcd(_number(values, whole) // _number(values, part), EIGHTS)
            factors = {features} if part_kind == "heads" else lengths if (kind, part_kind) in BATCHES else {1}
            found += [_Link(whole, (part,), factor) for factor in sorted({1, *factors})]
    if not named["heads"]:
        triples = itertools.product([*named["width"], _SHAPED], named["head size"], named["key heads"])
        found += [_Link(whole, (size, groups)) for whole, size, groups in triples]
    return [link for link in found if link.holds(values)]


def _named(values: Mapping[str, Value], kind: str) -> list[str]:
    return [name for name in values if role(name) == kind and _number(values, name)]


def _is_product(values: Mapping[str, Value], width: str, heads: str, size: str) -> bool:
    return _number(values, width) == _number(values, heads) * _number(values, size)


def _number(values: Mapping[str, Value], name: str) -> int:
    """A whole number above zero; 0 for all else."""
    if name == _SHAPED:
        found = shape(values)
        return width(*found) if found else 0
    value = values.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _round(name: str, links: list[_Link], values: Mapping[str, Value], settled: dict[str, Value]) -> None:
    """To the nearest number that divides, and is divided by, what it should; on its side of the old one."""
    after = {**values, **settled}
    wanted, old = _number(after, name), _number(values, name)
    unit = math.lcm(*(link.unit(after) for link in links if link.whole == name))
    if not links or not wanted or not unit:
        return
    middle = wanted // unit
    near = sorted((n * unit for n in range(middle - _FARTHEST, middle + _FARTHEST + 1)), key=lambda n: abs(n - wanted))
    sided = (n for n in near if n > 0 and n != old and (n > old) == (wanted > old))
    settled[name] = next((n for n in sided if all(link.holds({**after, name: n}) for link in links)), wanted)
