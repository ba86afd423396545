"""How a document is told: words that carry their forms, the dice, and the teller that fills phrases.

Chance comes only from `random.Random(int).random()`, whose sequence Python promises to keep, and nothing
depends on hash order or locale, so the same seed gives the same text on every machine.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from typing import TypeVar

from research_loop.data import words
from research_loop.data.phrases import PHRASES

T = TypeVar("T")


class Word(str):
    """A word that carries its other forms, so that a phrase can ask for `{x.an}` ("an old key") or `{p.his}`."""

    he: str
    He: str
    him: str
    an: str
    An: str
    Cap: str
    at: str
    At: str
    noun: str
    now: str
    was: str
    number: int
    word: str
    one: str
    many: str
    spots: tuple[Word, ...]
    scenes: tuple[str, ...]
    acts: tuple[str, ...]
    use: str
    look: str

    def __new__(cls, text: str, **forms: object) -> Word:
        word = super().__new__(cls, text)
        an = ("an " if text[0] in "aeiou" else "a ") + text
        vars(word).update(an=an, An=capital(an), Cap=capital(text), **forms)
        return word


def capital(text: str) -> str:
    """`text` with its first letter large and all others as they are."""
    return text[0].upper() + text[1:]


def _thing(look: str, noun: str, use: str = "") -> Word:
    return Word(f"{look} {noun}", look=look, noun=noun, use=use)


def _place(name: str, preposition: str, spots: str) -> Word:
    at = f"{preposition} the {name}"
    return Word(f"the {name}", at=at, At=capital(at), spots=tuple(map(Word, spots.split(", "))))


def _weather(name: str, was: str, now: str, scenes: tuple[str, ...]) -> Word:
    return Word(name, was=was, Was=capital(was), now=now, Now=capital(now), scenes=scenes)


def _counts(one: str, many: str) -> tuple[Word, ...]:
    """`("no apples", "one apple", "two apples", ...)`."""
    return tuple(
        Word(f"{word} {one if number == 1 else many}", word=word, Word=capital(word), many=many, one=one, number=number)
        for number, word in enumerate(words.NUMBERS)
    )


def _expand(phrase: str) -> tuple[str, ...]:
    """Every way to make the choices `[one|other]` of a phrase."""
    parts = (part.split("|") for part in re.split(r"\[(.*?)\]", phrase)[1::2])
    slots = re.sub(r"\[.*?\]", "\0", phrase).split("\0")
    return tuple(
        slots[0] + "".join(choice + slot for choice, slot in zip(choices, slots[1:], strict=True))
        for choices in itertools.product(*parts)
    )


MEN = [Word(name, he="he", He="He", him="him", his="his", His="His") for name in words.MEN]
WOMEN = [Word(name, he="she", He="She", him="her", his="her", His="Her") for name in words.WOMEN]
PEOPLE = MEN + WOMEN
JOBS = [Word(job) for job in words.JOBS]
PLACES = [_place(name, *rest) for name, rest in words.PLACES.items()]
WEATHER = [_weather(name, *rest) for name, rest in words.WEATHER.items()]
THINGS = [[_thing(look, noun, use) for look in words.LOOKS] for noun, use in words.THINGS.items()]
ANIMALS = [Word(name, acts=acts) for name, acts in words.ANIMALS.items()]
SPIRITS = [_thing(look, animal) for animal in words.ANIMALS for look in words.LOOKS]
COUNTS = [_counts(one, many) for one, many in words.COUNTED.items()]
WISHES = list(words.WISHES.items())
SEASONS = [(months, [w for w in WEATHER if w in weathers]) for months, weathers in words.SEASONS]
SAY = {key: tuple(map(_expand, texts)) for key, texts in PHRASES.items()}


class Dice:
    """Chance from one integer seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed).random

    def between(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return low + int(self.random() * (high - low + 1))

    def chance(self, share: float) -> bool:
        """True in this share of all cases."""
        return self.random() < share

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[int(self.random() * len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items in random order."""
        rest = list(items)
        return [rest.pop(int(self.random() * len(rest))) for _ in range(count)]


class Teller:
    """One document in the making: phrases filled from slots, gathered into paragraphs."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.pick = dice.pick
        self.between = dice.between
        self.chance = dice.chance
        self.some = dice.some
        self.paragraphs: list[str] = []
        self.sentences: list[str] = []

    def phrase(self, key: str, **slots: object) -> str:
        """One way to put `key`, with its slots filled."""
        pick = self.pick
        return pick(pick(SAY[key])).format_map(slots)

    def say(self, key: str, **slots: object) -> None:
        """Add a sentence to the paragraph."""
        self.sentences.append(self.phrase(key, **slots))

    def line(self, text: str) -> None:
        """Add a line of its own."""
        self.end_paragraph()
        self.paragraphs.append(text)

    def end_paragraph(self) -> None:
        """Close the paragraph; sentences that follow begin a new one."""
        if self.sentences:
            self.paragraphs.append(" ".join(self.sentences))
            self.sentences = []

    def text(self) -> str:
        """The whole document."""
        self.end_paragraph()
        return "\n".join(self.paragraphs)

    def things(self, count: int) -> list[Word]:
        """Different things, no two of the same noun, so "the key" is one thing."""
        return [self.pick(looks) for looks in self.some(THINGS, count)]

    def place_and_spot(self) -> tuple[Word, Word]:
        """Somewhere to put a thing."""
        place = self.pick(PLACES)
        return place, self.pick(place.spots)


def list_of(items: Sequence[str]) -> str:
    """`"a, b and c"`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def ask_all(teller: Teller, questions: list[tuple[str, str]]) -> None:
    """Add questions and their answers, each once."""
    asks, answers = teller.pick((("Question: ", "Answer: "), ("Q: ", "A: ")))
    for question, answer in dict(questions).items():
        teller.line(asks + question)
        teller.line(answers + answer)
