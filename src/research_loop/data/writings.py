"""Documents that people write or speak themselves: each function simulates one and returns its text."""

from __future__ import annotations

import itertools
from functools import partial

from research_loop.data.telling import (
    ANIMALS,
    COUNTS,
    JOBS,
    PEOPLE,
    PLACES,
    SAY,
    SEASONS,
    WEATHER,
    WISHES,
    Dice,
    Teller,
    Word,
    ask_all,
    list_of,
)
from research_loop.data.words import DAYS, DISHES, NUMBERS, ORDERS, PETS, TOOLS, VILLAGES

TURNS = {"turn left": "turn right", "turn right": "turn left", "go straight on": "go straight on"}


def _hour(dice: Dice) -> str:
    return f"{NUMBERS[dice.between(1, 12)]} o'clock"


class Talk(Teller):
    """Two people in turn, a line each; `summary` gathers what they will say again at the end."""

    def __init__(self, dice: Dice) -> None:
        super().__init__(dice)
        self.p, self.q, *self.others = self.some(PEOPLE, 4)
        self.weather = self.pick(WEATHER)
        self.summary: list[tuple[Word, Word, str]] = []

    def turn(self, asks: str, tells: str, ends: str, fact: str, **slots: object) -> None:
        """One asks, the other tells (a phrase, or a sentence), the first answers, and will say `fact` at the end."""
        one, other = self.some((self.p, self.q), 2)
        self.line(f"{one}: {self.phrase(asks, **slots)}")
        self.line(f"{other}: {self.phrase(tells, **slots) if tells in SAY else tells}")
        self.line(f"{one}: {self.phrase(ends, **slots)}")
        self.summary.append((one, other, fact))

    def about_thing(self, thing: Word) -> None:
        """Where a thing is."""
        if self.chance(0.5):
            holder = self.pick(self.others)
            self.turn("ask_thing", f"{holder} has it.", "go_ask", f"{holder} has the {thing}.", x=thing, r=holder)
        else:
            place, spot = self.place_and_spot()
            where = f"is {spot} {place.at}."
            self.turn("ask_thing", f"It {where}", "go_look", f"The {thing} {where}", x=thing, place=place, spot=spot)

    def about_count(self) -> None:
        """How many of something are left."""
        names = self.pick(COUNTS)
        total = self.between(4, 20)
        given = self.between(2, total - 1)
        left = names[total - given]
        m = names[given].word
        slots = {"many": left.many, "n": names[total], "m": m, "left": left.word, "r": self.pick(self.others)}
        self.turn("ask_count", "tell_count", "reckon", f"You have {left} left.", **slots)

    def about_wish(self) -> None:
        """What the other dreams of."""
        wish, _ = self.pick(WISHES)
        self.turn("ask_wish", "tell_wish", "like_wish", f"You want to {wish}.", wish=wish)

    def about_meeting(self) -> None:
        """Where and when to meet again."""
        day, hour, place = self.pick(DAYS), _hour(self.dice), self.pick(PLACES)
        fact = f"We meet on {day} at {hour}, {place.at}."
        self.turn("ask_meet", "tell_meet", "agree_meet", fact, day=day, hour=hour, place=place)

    def about_pet(self) -> None:
        """How an animal is."""
        animal, pet = self.pick(ANIMALS), self.pick(PETS)
        fact = f"Your {animal} is called {pet}."
        self.turn("ask_pet", "tell_pet", "like_pet", fact, animal=animal, pet=pet, act=self.pick(animal.acts))


def talk(dice: Dice) -> str:
    """A dialogue in which facts are told, and said again at the end in another order."""
    t = Talk(dice)
    p, q = t.p, t.q
    t.line(f"{p}: {t.phrase('greet', q=q)}")
    t.line(f"{q}: {t.phrase('greet_back', p=p, w=t.weather)}")
    topics = t.some((t.about_count, t.about_wish, t.about_meeting, t.about_pet), dice.between(1, 3))
    topics += [partial(t.about_thing, thing) for thing in t.things(dice.between(1, 3))]
    for topic in t.some(topics, len(topics)):
        topic()
    if dice.chance(0.8):
        t.line(f"{p}: {t.phrase('recap')}")
        for one, other, fact in t.some(t.summary, len(t.summary)):
            t.line(f"{one}: {fact}")
            t.line(f"{other}: {t.phrase('right')}")
    t.line(f"{q}: {t.phrase('bye', p=p)}")
    return t.text()


def letter(dice: Dice) -> str:
    """A letter: thanks, weather, news, counts and a plan, which its end comes back to."""
    t = Teller(dice)
    p, q, r = t.some(PEOPLE, 3)
    x, y = t.things(2)
    (place, spot), (other, other_spot) = t.place_and_spot(), t.place_and_spot()
    meeting, work = t.some(PLACES, 2)
    day, hour, village = t.pick(DAYS), _hour(dice), t.pick(VILLAGES)
    job, (wish, _), names = t.pick(JOBS), t.pick(WISHES), t.pick(COUNTS)
    total = dice.between(5, 20)
    given = dice.between(2, total - 2)
    months, weathers = t.pick(SEASONS)
    t.line(f"{village}, {dice.between(1, 28)} {t.pick(months)}")
    t.line(f"Dear {q},")
    t.say("thanks", x=x, day=t.pick(DAYS))
    t.say("keep", spot=spot, place=place)
    t.say("weather_here", village=village, w=t.pick(weathers))
    t.end_paragraph()
    t.say("news", r=r, job=job, place=work)
    t.say("news_wish", r=r, wish=wish)
    if dice.chance(0.7):
        left = names[total - given]
        t.say("harvest", r=r, n=names[total], m=names[given].word, left=left.word)
        t.say("bring", many=left.many)
    t.end_paragraph()
    t.say("borrow", y=y, spot=other_spot, place=other)
    t.say("visit", day=day, place=meeting, hour=hour)
    t.say("recall_gift", x=x, spot=spot, place=place)
    t.say("recall_visit", day=day, place=meeting, hour=hour)
    t.line(t.pick(("Your friend,", "With love,", "Best wishes,", "Yours,")))
    t.line(p)
    t.line(t.phrase("postscript", r=r, job=job, y=y, spot=other_spot, place=other, wish=wish))
    return t.text()


class Diary(Teller):
    """Someone's days: a store of fruit that shrinks and a thing that is put away, lent and given back."""

    def __init__(self, dice: Dice) -> None:
        super().__init__(dice)
        self.writer, self.friend, self.other = self.some(PEOPLE, 3)
        (self.thing,) = self.things(1)
        self.place, self.spot = self.place_and_spot()
        self.names = self.pick(COUNTS)
        self.left = 0
        self.wish, _ = self.pick(WISHES)
        self.wish_told = False
        self.stage = 0

    def about_store(self) -> None:
        """Get some where none are left, else give some away."""
        if self.left < 3:
            got = self.between(5, 12)
            self.left += got
            self.say("diary_got", n=self.names[got], place=self.pick(PLACES))
            if self.left > got:
                self.say("diary_left", left=self.names[self.left])
            return
        given = self.between(1, self.left - 1)
        self.left -= given
        self.say("diary_gave", q=self.pick((self.friend, self.other)), m=self.names[given])
        self.say("diary_left", left=self.names[self.left].word)

    def about_thing(self) -> None:
        """The next that happens to the thing."""
        self.stage = self.stage + 1 if self.stage < 5 else 2
        key = ("put", "still", "lend", "lent", "back")[self.stage - 1]
        self.say(f"diary_{key}", x=self.thing, q=self.friend, spot=self.spot, place=self.place)

    def about_wish(self) -> None:
        """The writer's wish, told once and thought of after."""
        self.say("diary_wish_again" if self.wish_told else "diary_wish", q=self.other, wish=self.wish)
        self.wish_told = True


def diary(dice: Dice) -> str:
    """Three to six days in a diary, the last of which looks back."""
    t = Diary(dice)
    t.line(f"The diary of {t.writer}, {t.pick(JOBS).an} in {t.pick(VILLAGES)}")
    first = dice.between(0, 6)
    days = [DAYS[(first + number) % 7] for number in range(dice.between(3, 6))]
    _, possible = t.pick(SEASONS)
    weathers = [t.pick(possible) for _ in days]
    for day, weather in zip(days, weathers, strict=True):
        t.line(day)
        t.say("diary_weather", w=weather)
        if dice.chance(0.3):
            t.sentences.append(t.pick(weather.scenes))
        for about in t.some((t.about_store, t.about_thing, t.about_wish), dice.between(1, 3)):
            about()
        t.end_paragraph()
    past = [f"{weather} on {day}" for day, weather in zip(days, weathers, strict=True)]
    t.line(f"So these days were {list_of(past)}.")
    return t.text()


def riddles(dice: Dice) -> str:
    """A list of things and where they are, then riddles that mean one of them each."""
    t = Teller(dice)
    things = t.things(dice.between(3, 6))
    owners = t.some(PEOPLE, len(things))
    wheres = [t.place_and_spot() for _ in things]
    t.line(t.pick(("These things are in the game:", "Look at this list:", "Remember where these things are:")))
    for x, owner, (place, spot) in zip(things, owners, wheres, strict=True):
        t.line(f"- {owner}'s {x}: {spot} {place.at}")
    title = t.pick(("Riddle", "Number"))
    for number, index in enumerate(t.some(range(len(things)), dice.between(2, len(things)))):
        x, (place, spot) = things[index], wheres[index]
        t.line(f"{title} {number + 1}: {t.phrase('riddle', use=x.use, look=x.look)}")
        t.line(f"Answer: You are the {x} of {owners[index]}, {spot} {place.at}.")
    return t.text()


def order(dice: Dice) -> str:
    """Who is taller than whom: pairs in any order, then questions about the whole row."""
    t = Teller(dice)
    row = t.some(PEOPLE, dice.between(3, 5))
    more, most, less, least = t.pick(ORDERS)
    pairs = list(itertools.pairwise(row))
    t.line(f"{list_of(t.some(row, len(row)))} {t.phrase('compare')}")
    for high, low in t.some(pairs, len(pairs)):
        t.sentences.append(f"{high} is {more} than {low}." if dice.chance(0.5) else f"{low} is {less} than {high}.")
    t.end_paragraph()
    one, two = t.some(range(len(row)), 2)
    questions = [
        (f"Who is the {most}?", f"{row[0]}."),
        (f"Who is the {least}?", f"{row[-1]}."),
        (f"Is {row[one]} {more} than {row[two]}?", "Yes." if one < two else "No."),
        (f"Who is {less}, {row[one]} or {row[two]}?", f"{row[max(one, two)]}."),
        (f"Who is {more} than {row[-1]}?", f"{list_of(row[:-1])}."),
    ]
    ask_all(t, t.some(questions, dice.between(2, 4)))
    t.line(f"From {most} to {least}: {', '.join(row)}.")
    return t.text()


def stock(dice: Dice) -> str:
    """A shop's list of goods, the day's sales, and the list again."""
    t = Teller(dice)
    keeper, *buyers = t.some(PEOPLE, 4)
    goods = {names: dice.between(6, 30) for names in t.some(COUNTS, dice.between(3, 6))}
    first = dice.between(0, 6)
    t.line(f"The {t.pick(('shop', 'store', 'stall'))} of {keeper} in {t.pick(VILLAGES)}")
    for number in range(dice.between(1, 3)):
        t.line(f"{DAYS[(first + number) % 7]} morning:")
        _goods(t, goods)
        for names in t.some(list(goods), dice.between(2, len(goods))):
            _trade(t, goods, names, t.pick(buyers))
    t.line("At closing time:")
    _goods(t, goods)
    most = max(goods.values())
    if list(goods.values()).count(most) == 1:
        (names,) = (names for names in goods if goods[names] == most)
        t.line(f"There are more {names[0].many} than anything else.")
    return t.text()


def _goods(t: Teller, goods: dict[tuple[Word, ...], int]) -> None:
    for names, number in goods.items():
        t.line(f"- {names[0].many}: {number}")


def _trade(t: Teller, goods: dict[tuple[Word, ...], int], names: tuple[Word, ...], buyer: Word) -> None:
    if goods[names] > 4 and t.chance(0.7):
        n = t.between(2, min(9, goods[names] - 1))
        goods[names] -= n
        t.line(t.phrase("sold", p=buyer, n=n, many=names[0].many))
    else:
        n = t.between(2, 9)
        goods[names] += n
        t.line(t.phrase("bought", n=n, many=names[0].many))


def recipe(dice: Dice) -> str:
    """What to fetch, where it is, and what to do with it, step by step."""
    t = Teller(dice)
    kinds = t.some(COUNTS, dice.between(2, 4))
    needs = [t.pick(names[2:13]) for names in kinds]
    wheres = [t.place_and_spot() for _ in needs]
    tool, cook = t.pick(TOOLS), t.pick(PEOPLE)
    guests = t.some([person for person in PEOPLE if person is not cook], dice.between(1, 3))
    dish = f"{needs[0].one} {t.pick(DISHES)}"
    t.line(f"How {cook} makes {dish}")
    t.line(f"You need {list_of([*needs, tool])}.")
    for need, (place, spot) in zip(needs, wheres, strict=True):
        t.say("stored", many=need.many, spot=spot, place=place)
    t.end_paragraph()
    steps = [t.phrase("fetch", n=need, place=place) for need, (place, _) in zip(needs, wheres, strict=True)]
    steps += [t.phrase("prepare", n=need, many=need.many) for need in t.some(needs, len(needs))]
    steps += [t.phrase("mix", many=list_of([need.many for need in needs]), tool=tool.split(" ", 1)[1])]
    steps += [t.phrase("serve", dish=dish, p=cook, names=list_of(guests))]
    for number, step in enumerate(steps):
        t.line(f"{number + 1}. {step}")
    return t.text()


def route(dice: Dice) -> str:
    """The way there, turn by turn, and the way back."""
    t = Teller(dice)
    stops = t.some(PLACES, dice.between(4, 6))
    turns = [t.pick(tuple(TURNS)) for _ in stops[2:]]
    start, end = stops[0], stops[-1]
    t.line(f"How to get from {start} to {end} in {t.pick(VILLAGES)}")
    _walk_along(t, stops, turns)
    t.say("arrived", place=end, p=t.pick(PEOPLE))
    x = t.things(1)[0]
    t.say("bring_back", x=x, spot=t.pick(end.spots))
    t.line("The way back:")
    _walk_along(t, stops[::-1], [TURNS[turn] for turn in turns[::-1]])
    t.line(f"Now you are back at {start} with the {x}.")
    return t.text()


def _walk_along(t: Teller, stops: list[Word], turns: list[str]) -> None:
    t.line(f"1. Start at {stops[0]} and walk to {stops[1]}.")
    for number, (stop, turn, onward) in enumerate(zip(stops[1:], turns, stops[2:], strict=False)):
        t.line(f"{number + 2}. At {stop}, {turn} and {t.pick(('walk', 'go', 'keep going'))} to {onward}.")
