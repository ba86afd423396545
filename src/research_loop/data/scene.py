"""People who walk about, carry things and talk: the simulated state behind the stories of `world.py`."""

from __future__ import annotations

from research_loop.data.telling import PEOPLE, PLACES, SEASONS, WISHES, Dice, Teller, Word

PRONOUN_SHARE = 0.6


class Scene(Teller):
    """A few people, places and things: where each of them is, told as it changes.

    A thing is either held (`holder`) or lies at a place and spot (`spot`). `kept_apart` is the thing that a
    promise is about; it does not move until the promise is kept.
    """

    def __init__(self, dice: Dice, people: int, things: int, places: int) -> None:
        super().__init__(dice)
        self.people = self.some(PEOPLE, people)
        self.places = self.some(PLACES, places)
        self.at = {person: self.pick(self.places) for person in self.people}
        self.all_things = self.things(things)
        self.holder: dict[Word, Word] = {}
        self.spot: dict[Word, tuple[Word, Word]] = {}
        months, weathers = self.pick(SEASONS)
        self.month, self.weather = self.pick(months), self.pick(weathers)
        self.wishes: dict[Word, tuple[str, str]] = {}
        self.subject: Word | None = None
        self.moved: Word | None = None
        self.walked: Word | None = None
        self.kept_apart: Word | None = None
        self.asked: list[tuple[Word, Word]] = []

    def introduce_things(self) -> None:
        """Give every thing a holder or a spot, and say so."""
        for thing in self.all_things:
            if self.chance(0.4):
                person = self.pick(self.people)
                self.holder[thing] = person
                self.say("holds", p=person, x=thing)
            else:
                place = self.pick(self.places)
                spot = self.pick(place.spots)
                self.spot[thing] = place, spot
                self.say("lies", x=thing, place=place, spot=spot)

    def introduce_wish(self, person: Word) -> None:
        """Let a person say what they dream of."""
        taken = self.wishes.values()
        wish = self.pick([pair for pair in WISHES if pair not in taken])
        self.wishes[person] = wish
        self.say("wish", p=person, wish=wish[0])

    def promise(self) -> tuple[Word, Word]:
        """Someone promises a thing that nobody else has; returns (who, to whom)."""
        giver, receiver = self.some(self.people, 2)
        free = [x for x in self.all_things if self.holder.get(x, giver) is giver]
        if not free:
            free = [self.all_things[0]]
            giver = self.holder[free[0]]
            receiver = next(person for person in self.people if person is not giver)
        self.kept_apart = self.pick(free)
        self.say("promise", p=giver, q=receiver, x=self.kept_apart)
        return giver, receiver

    def keep_promise(self, giver: Word, receiver: Word) -> None:
        """Fetch the promised thing, bring it and hand it over."""
        thing = self.kept_apart
        assert thing is not None
        if thing in self.spot:
            self.walk(giver, self.spot[thing][0])
            self.take(giver, thing)
        self.walk(giver, self.at[receiver])
        self.give(giver, receiver, thing)
        self.say("kept", p=giver, q=receiver)

    def step(self) -> None:
        """One thing happens that can happen now."""
        person = self.subject if self.subject and self.chance(0.5) else self.pick(self.people)
        here = self.at[person]
        still = (self.moved, self.kept_apart)
        near = [other for other in self.people if other is not person and self.at[other] is here]
        held = [x for x, holder in self.holder.items() if holder is person and x not in still]
        free = [x for x, (place, _) in self.spot.items() if place is here and x not in still]
        dice = self.dice.random()
        if free and dice < 0.5:
            self.take(person, self.pick(free))
        elif near and held and dice < 0.65:
            self.give(person, self.pick(near), self.pick(held))
        elif held and dice < 0.75:
            self.put(person, self.pick(held))
        elif near and dice < 0.9 and self.ask(person, self.pick(near)):
            pass
        else:
            if person is self.walked:
                person = self.pick([other for other in self.people if other is not person])
            self.walk(person, self.pick([place for place in self.places if place is not self.at[person]]))

    def name(self, person: Word) -> str:
        """How the next sentence calls its subject: by pronoun only where no one else can be meant."""
        known = self.subject is person and self.chance(PRONOUN_SHARE)
        self.subject = person
        return person.He if known else person

    def walk(self, person: Word, place: Word) -> None:
        """Move a person, with all they hold; nothing if they are there."""
        old = self.at[person]
        if old is not place:
            self.at[person] = place
            self.walked = person
            self.say("walk", S=self.name(person), p=person, old=old, place=place)

    def take(self, person: Word, thing: Word) -> None:
        """Pick up a thing that lies where the person is."""
        _, spot = self.spot.pop(thing)
        self.holder[thing] = person
        self.moved = thing
        self.say("take", S=self.name(person), p=person, x=thing, spot=spot)

    def put(self, person: Word, thing: Word) -> None:
        """Lay down a thing where the person is."""
        del self.holder[thing]
        place = self.at[person]
        spot = self.pick(place.spots)
        self.spot[thing] = place, spot
        self.moved = thing
        self.say("put", S=self.name(person), p=person, x=thing, spot=spot)

    def give(self, giver: Word, receiver: Word, thing: Word) -> None:
        """Hand a thing over; afterwards "he" could be either, so the next sentence names its subject."""
        self.holder[thing] = receiver
        self.moved = thing
        self.say("give", S=self.name(giver), p=giver, q=receiver, x=thing)
        self.subject = None

    def ask(self, person: Word, other: Word) -> bool:
        """Ask about a thing someone else has or that lies elsewhere; False if there is none to ask about."""
        here = self.at[person]
        unknown = [
            x
            for x in self.all_things
            if self.holder.get(x) is not person
            and (x not in self.spot or self.spot[x][0] is not here)
            and (person, x) not in self.asked
        ]
        if not unknown:
            return False
        thing = self.pick(unknown)
        self.asked.append((person, thing))
        self.say("ask", p=person, q=other, x=thing, fact=self.fact(thing, other))
        self.subject = None
        return True

    def fact(self, thing: Word, speaker: Word) -> str:
        """Where a thing is, in the words of `speaker`."""
        holder = self.holder.get(thing)
        if holder is speaker:
            return "I have it"
        if holder is not None:
            return f"{holder} has it"
        place, spot = self.spot[thing]
        return f"It is {spot} {place.at}"

    def question(self) -> tuple[str, str]:
        """A question about the present state and its answer."""
        kind = self.dice.random()
        if kind < 0.3:
            person = self.pick(self.people)
            return self.phrase("where_person", p=person), f"{person.He} is {self.at[person].at}."
        if kind < 0.5 and self.wishes:
            person, (wish, _) = self.pick(list(self.wishes.items()))
            if kind < 0.4:
                return self.phrase("who_wish", wish=wish), f"{person}."
            return self.phrase("what_wish", p=person), f"To {wish}."
        return self.thing_question()

    def thing_question(self) -> tuple[str, str]:
        """A question about a thing: who has it, or where it lies."""
        thing = self.pick(self.all_things)
        if thing in self.holder:
            return self.phrase("who_has", x=thing), f"{self.holder[thing]}."
        place, spot = self.spot[thing]
        return self.phrase("where_thing", x=thing), f"It is {spot} {place.at}."

    def tell_ending(self) -> None:
        """Say where everything is at the end."""
        for thing in self.some(self.all_things, len(self.all_things)):
            if thing in self.holder:
                self.say("end_held", p=self.holder[thing], x=thing)
            else:
                place, spot = self.spot[thing]
                self.say("end_lies", x=thing, spot=spot, place=place)
