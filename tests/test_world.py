"""The simulated world: its bytes are pinned, its English holds, and an independent reader agrees with every answer."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from research_loop.data import tales, words, world, writings
from research_loop.data.telling import SAY, Dice

VALIDATION = world.SHARDS - 1
SHA256 = {
    0: "e9464a0e1a61751ea723e7426403b41bd306aa27cdf384e09fca7a80919eb34a",
    VALIDATION: "5a15f3fca41a7a43284763738b65c6072cd651c1a5f9ce07f86aa0fd131e79f8",
}
NAME = "[A-Z][a-z]+"
PATTERNS = {
    "S": f"(?P<S>{NAME})",
    "p": f"(?P<p>{NAME})",
    "q": f"(?P<q>{NAME})",
    "x": "(?P<x>[a-z]+ [a-z]+)",
    "x.an": "an? (?P<x>[a-z]+ [a-z]+)",
    "x.An": "An? (?P<x>[a-z]+ [a-z]+)",
    "place": "(?P<place>the [a-z]+)",
    "old": "the [a-z]+",
    "place.at": "(?:in|at|on) (?P<place>the [a-z]+)",
    "spot": "(?P<spot>[a-z]+ [a-z ]+?)",
    "spot.Cap": "(?P<spot>[A-Z][a-z]+ [a-z ]+?)",
    "job": "(?P<job>[a-z]+)",
    "job.an": "an? (?P<job>[a-z]+)",
    "job.An": "An? (?P<job>[a-z]+)",
    "fact": "(?P<fact>[A-Z][^.,]+)",
    "place.At": "(?:In|At|On) (?P<place>the [a-z]+)",
    "n": "(?P<n>[a-z-]+)(?: [a-z]+?)??",
    "m": "(?P<m>[a-z-]+)(?: [a-z]+?)??",
    "left": "(?P<left>[a-z-]+)(?: [a-z]+?)??",
}
SCENE = ("person", "lies", "holds", "walk", "take", "put", "give", "ask", "feel")
DIARY = ("diary_got", "diary_gave", "diary_left")
COUNT = ("count_start", "count_none", "count_more", "count_less", "count_give", "count_now")


def pattern(phrase: str) -> re.Pattern[str]:
    """What a phrase can say, as a regular expression; a slot that comes again must say the same."""
    seen: set[str] = set()
    out = ""
    for number, part in enumerate(re.split(r"\{(.*?)\}", phrase)):
        if number % 2 == 0:
            out += re.escape(part)
            continue
        known = PATTERNS.get(part, r"[\w-]+")
        group = re.search(r"\(\?P<(\w+)>.*?\)", known)
        out += known.replace(group[0], f"(?P={group[1]})") if group and group[1] in seen else known
        seen.update(group.groups() if group else ())
    return re.compile(out + r"(?=\s|$)")


def patterns(keys: tuple[str, ...]) -> list[tuple[str, re.Pattern[str]]]:
    return [(key, pattern(text)) for key in keys for choices in SAY[key] for text in choices]


SCENE_PATTERNS = patterns(SCENE)
COUNT_PATTERNS = patterns(COUNT)
DIARY_PATTERNS = patterns(DIARY)


def events(text: str, known: list[tuple[str, re.Pattern[str]]]) -> Iterator[tuple[str, dict[str, str]]]:
    """The sentences of a text that one of the known phrases can say, in order; a `line` is each question or answer."""
    at = 0
    while at < len(text):
        found = next(((key, m) for key, regex in known if (m := regex.match(text, at))), None)
        line = re.compile(r"(Q|A|Question|Answer): (.*)").match(text, at)
        if line:
            yield "line", {"kind": line[1][0], "text": line[2]}
        elif found:
            yield found[0], found[1].groupdict()
        end = line.end() if line else found[1].end() if found else at
        next_start = re.compile(r"\s+(?=\S)").search(text, end)
        at = next_start.end() if next_start else len(text)


class Reader:
    """Follows a story by its sentences alone and answers questions; knows nothing of the generator's state."""

    def __init__(self) -> None:
        self.at: dict[str, str] = {}
        self.job: dict[str, str] = {}
        self.holder: dict[str, str] = {}
        self.spot: dict[str, tuple[str, str]] = {}
        self.subject = ""
        self.asked = ""
        self.checked = 0

    def who(self, said: dict[str, str]) -> str:
        name = said.get("S") or said["p"]
        if name in ("He", "She"):
            assert self.subject in (words.MEN if name == "He" else words.WOMEN)
            return self.subject
        self.subject = name
        return name

    def read(self, text: str) -> Reader:
        for key, said in events(text, SCENE_PATTERNS):
            getattr(self, f"on_{key}")(said)
        return self

    def on_person(self, said: dict[str, str]) -> None:
        self.at[said["p"]] = said["place"]
        self.job[said.get("job") or ""] = said["p"]

    def on_lies(self, said: dict[str, str]) -> None:
        self.spot[said["x"]] = said["spot"].lower(), said["place"]

    def on_holds(self, said: dict[str, str]) -> None:
        self.holder[said["x"]] = said["p"]

    def on_walk(self, said: dict[str, str]) -> None:
        who = self.who(said)
        assert self.at[who] != said["place"]
        self.at[who] = said["place"]

    def on_take(self, said: dict[str, str]) -> None:
        who = self.who(said)
        spot, place = self.spot.pop(said["x"])
        assert place == self.at[who] and said.get("spot") in (None, spot)
        self.holder[said["x"]] = who

    def on_put(self, said: dict[str, str]) -> None:
        who = self.who(said)
        assert self.holder.pop(said["x"]) == who
        self.spot[said["x"]] = said["spot"], self.at[who]

    def on_give(self, said: dict[str, str]) -> None:
        who = self.who(said)
        assert self.holder[said["x"]] == who and self.at[who] == self.at[said["q"]]
        self.holder[said["x"]] = said["q"]

    def on_ask(self, said: dict[str, str]) -> None:
        assert self.at[said["p"]] == self.at[said["q"]]
        fact = said["fact"].replace("I have", f"{said['q']} has")
        assert fact + "." == self.where(said["x"])
        self.checked += 1

    def on_feel(self, said: dict[str, str]) -> None:
        self.who(said)

    def on_line(self, said: dict[str, str]) -> None:
        if said["kind"] == "Q":
            self.asked = said["text"]
        elif (expected := self.answer(self.asked)) is not None:
            assert said["text"] == expected, self.asked
            self.checked += 1

    def where(self, thing: str) -> str:
        if thing in self.holder:
            return f"{self.holder[thing]} has it."
        spot, place = self.spot[thing]
        return f"It is {spot} {preposition(place)} {place}."

    def answer(self, question: str) -> str | None:
        if thing := re.match(r"(?:Who (?:has|holds)|Where (?:is|can one find)) the (\w+ \w+?)(?: now)?\?$", question):
            return self.where(thing[1]).replace(" has it.", ".")
        if person := re.match(rf"Where is ({NAME})(?: now)?\?$", question):
            he = "He" if person[1] in words.MEN else "She"
            place = self.at[person[1]]
            return f"{he} is {preposition(place)} {place}."
        if job := re.match(r"Who is the (\w+)\?$", question):
            return f"{self.job[job[1]]}." if job[1] in self.job else None
        return None


def preposition(place: str) -> str:
    return words.PLACES[place.removeprefix("the ")][0]


@pytest.fixture(scope="module")
def shards() -> list[list[str]]:
    return [world.shard(index) for index in range(world.SHARDS)]


def digest(documents: list[str]) -> str:
    return hashlib.sha256("\0".join(documents).encode()).hexdigest()


@pytest.mark.parametrize("index", SHA256)
def test_the_bytes_of_a_shard_are_pinned(shards: list[list[str]], index: int) -> None:
    assert digest(shards[index]) == SHA256[index], "the bytes changed: pin the new digest and raise world.VERSION"


def test_another_process_with_another_hash_seed_makes_the_same_bytes() -> None:
    code = (
        "import hashlib; from research_loop.data import world;"
        f"print(hashlib.sha256('\\0'.join(world.shard({VALIDATION})).encode()).hexdigest())"
    )
    for seed in ("1", "2"):
        made = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        assert made.stdout.decode().strip() == SHA256[VALIDATION]


def test_there_are_30_megabytes_to_train_on_and_one_to_validate(shards: list[list[str]]) -> None:
    sizes = [sum(map(len, documents)) for documents in shards]
    assert sum(sizes[:-1]) >= 30_000_000
    assert all(size < 3_010_000 for size in sizes)
    assert sizes[-1] >= 1_000_000


def test_an_index_outside_is_refused() -> None:
    for index in (-1, world.SHARDS):
        with pytest.raises(IndexError, match="there are shards 0 to"):
            world.shard(index)


def test_a_shard_takes_less_than_a_second_of_one_core() -> None:
    start = time.process_time()
    world.shard(1)
    assert time.process_time() - start < 1


def test_no_document_comes_twice_nor_any_of_validation_in_training(shards: list[list[str]]) -> None:
    every = [document for documents in shards for document in documents]
    assert len(set(every)) == len(every)


def test_documents_are_ascii_and_of_readable_length(shards: list[list[str]]) -> None:
    lengths = sorted(len(document.split()) for document in shards[0])
    assert all(document.isascii() for document in shards[0])
    assert lengths[0] >= 30 and lengths[-1] <= 600
    assert lengths[len(lengths) // 20] >= 60 and lengths[-len(lengths) // 20] >= 300


def test_words_and_phrases_vary(shards: list[list[str]]) -> None:
    spoken = re.findall(r"[A-Za-z']+", " ".join(shards[0]))
    fives = list(zip(*(spoken[number:] for number in range(5)), strict=False))
    assert len({word.lower() for word in spoken}) > 800
    assert len(set(fives)) / len(fives) > 0.4


@pytest.mark.parametrize(
    "wrong",
    [
        r"\b[Aa] [aeiou]",
        r"\b[Aa]n (?!hour)[^aeiou]",
        r"  | [.,!?]|[{}\[\]|]",
        r"(?<!P\.S)[.!?] [a-z]",
        r"(?m)^[a-z]",
        r"(?<!-)\b[Oo]ne (" + "|".join(words.COUNTED.values()) + r")\b",
        r"\b(two|three|four|five|six|seven|eight|nine|ten|no) (" + "|".join(words.COUNTED) + r")\b",
        r"(\b\w+) \1\b",
    ],
)
def test_articles_plurals_and_spacing_are_right(shards: list[list[str]], wrong: str) -> None:
    assert re.findall(wrong, "\n".join(shards[0]))[:5] == []


@pytest.mark.parametrize("kind", [tales.story, tales.finding])
def test_a_reader_of_the_sentences_agrees_with_every_answer(kind: Callable[[Dice], str]) -> None:
    assert sum(Reader().read(kind(Dice(seed))).checked for seed in range(200)) > 400


def test_a_reader_who_counts_along_agrees_with_every_count() -> None:
    for seed in range(200):
        text = tales.counting(Dice(seed))
        has = count_along(text)
        asked = re.findall(rf"(?:does|for) ({NAME})(?: have)?\?\n(?:A|Answer): (\w[\w-]*)", text)
        assert asked and all(words.NUMBERS[has[name]] == number.lower() for name, number in asked), text


def count_along(text: str) -> dict[str, int]:
    has: dict[str, int] = {}
    subject = ""
    for key, said in events(text, COUNT_PATTERNS):
        if key == "line":
            break
        name = said.get("S") or said["p"]
        subject = subject if name in ("He", "She") else name
        n = words.NUMBERS.index((said.get("n") or "no").lower())
        if key == "count_now":
            assert has[subject] == n, text
        has[subject] = {"count_start": n, "count_none": 0, "count_now": n}.get(
            key, has.get(subject, 0) + (n if key == "count_more" else -n)
        )
        if key == "count_give":
            has[said["q"]] += n
    return has


def test_what_a_diary_says_is_left_is_what_was_got_less_what_was_given() -> None:
    checked = 0
    for seed in range(200):
        text, has = writings.diary(Dice(seed)), 0
        for key, said in events(text, DIARY_PATTERNS):
            number = words.NUMBERS.index(next(said[slot] for slot in ("n", "m", "left") if slot in said))
            assert key != "diary_left" or number == has, text
            has += {"diary_got": number, "diary_gave": -number}.get(key, 0)
            checked += key == "diary_left"
    assert checked > 200


def test_what_is_said_again_at_the_end_of_a_talk_was_said_before() -> None:
    checked = 0
    for seed in range(200):
        text = writings.talk(Dice(seed))
        talk = [line.split(": ", 1)[1] for line in text.splitlines()]
        told = dict(re.findall(r"the (\w+ \w+?)(?: is)?[?.].*\n\w+: (It is .*|\w+ has it)\.", text))
        for again in talk[6:]:
            if where := re.fullmatch(r"The (\w+ \w+) (is .*)\.", again):
                assert told[where[1]] == f"It {where[2]}", text
            elif has := re.fullmatch(rf"({NAME} has) the (\w+ \w+)\.", again):
                assert told[has[2]] == f"{has[1]} it", text
            elif left := re.fullmatch(r"You have ([\w-]+) (\w+) left\.", again):
                many = words.COUNTED.get(left[2], left[2])
                total, given = re.search(rf"([\w-]+) {many}(?:\. Then I|, but I) gave (\w+)", text).groups()  # type: ignore[union-attr]
                total, given, rest = (words.NUMBERS.index(n.lower()) for n in (total, given, left[1]))
                assert total - given == rest, text
            else:
                continue
            checked += 1
    assert checked > 300


def test_what_a_shop_has_left_is_what_it_had_and_bought_less_what_it_sold() -> None:
    for seed in range(200):
        has: dict[str, int] = {}
        for line in writings.stock(Dice(seed)).splitlines():
            if entry := re.match(r"- (\w+): (\d+)", line):
                assert has.setdefault(entry[1], int(entry[2])) == int(entry[2])
            elif trade := re.search(r"(\d+) (?:more )?(\w+)", line):
                gain = line.startswith(("Got", "Bought", "A farmer"))
                has[trade[2]] += int(trade[1]) if gain else -int(trade[1])


def test_a_row_from_most_to_least_agrees_with_every_comparison_and_answer() -> None:
    for seed in range(200):
        text = writings.order(Dice(seed))
        more, row = re.search(r"From (\w+)est to \w+: (.*)\.", text).groups()  # type: ignore[union-attr]
        names = row.split(", ")
        for left, how, right in re.findall(rf"({NAME}) is (\w+)er than ({NAME})", text.split("\nQ")[0]):
            assert (names.index(left) < names.index(right)) == (how == more), text
        for left, right, answer in re.findall(rf"Is ({NAME}) \w+ than ({NAME})\?\n\w+: (Yes|No)", text):
            assert (names.index(left) < names.index(right)) == (answer == "Yes"), text


def test_the_way_back_takes_every_turn_the_other_way_round() -> None:
    other = {"turn left": "turn right", "turn right": "turn left", "go straight on": "go straight on"}
    for seed in range(200):
        there, back = (
            re.findall(r"At (the \w+), (turn left|turn right|go straight on)", part)
            for part in writings.route(Dice(seed)).split("The way back:")
        )
        assert len(there) >= 2
        assert back == [(place, other[turn]) for place, turn in reversed(there)]
