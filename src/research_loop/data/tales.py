"""Documents that tell what happened: each function simulates one and returns its text."""

from __future__ import annotations

from research_loop.data.scene import Scene
from research_loop.data.telling import (
    ANIMALS,
    COUNTS,
    JOBS,
    PEOPLE,
    PLACES,
    SPIRITS,
    WISHES,
    Dice,
    Teller,
    Word,
    ask_all,
    capital,
    list_of,
)
from research_loop.data.words import DAYS, PETS, VILLAGES


def story(dice: Dice) -> str:
    """A day on which things change hands, with wishes, a promise and an evening that looks back."""
    s = Scene(dice, people=dice.between(2, 4), things=dice.between(2, 4), places=dice.between(2, 4))
    village = s.pick(VILLAGES)
    s.say("once", w=s.weather, month=s.month, day=s.pick(DAYS), names=list_of(list[str](s.people)), village=village)
    jobs = dict(zip(s.people, s.some(JOBS, len(s.people)), strict=True))
    for person in s.people:
        s.say("person", p=person, job=jobs[person], place=s.at[person])
    s.introduce_things()
    s.end_paragraph()
    for person in s.some(s.people, dice.between(1, 2)):
        s.introduce_wish(person)
    pet_owner, animal, pet = s.pick(s.people), s.pick(ANIMALS), s.pick(PETS)
    s.say("pet", p=pet_owner, animal=animal, pet=pet)
    promise = s.promise() if dice.chance(0.6) else None
    s.end_paragraph()
    for number in range(dice.between(4, 14)):
        s.step()
        if dice.chance(0.25):
            diversion(s, pet_owner, animal, pet)
        if number % 5 == 4:
            s.end_paragraph()
            s.subject = None
    s.end_paragraph()
    if promise:
        s.keep_promise(*promise)
        s.end_paragraph()
    s.say("evening", w=s.weather, village=village)
    if dice.chance(0.7):
        s.tell_ending()
    for person, (wish, wished) in s.wishes.items():
        s.say("end_wish", p=person, wish=wish, wished=wished)
    if dice.chance(0.6):
        ask_all(s, [s.question() for _ in range(dice.between(1, 3))] + [about_people(s, jobs, pet_owner, animal, pet)])
    return s.text()


def diversion(s: Scene, pet_owner: Word, animal: Word, pet: str) -> None:
    """A sentence beside the action: the weather, a pet or a mood."""
    kind = s.dice.random()
    if kind < 0.35:
        s.sentences.append(s.pick(s.weather.scenes))
    elif kind < 0.7:
        s.say("pet_acts", p=pet_owner, animal=animal, pet=pet, act=s.pick(animal.acts))
        s.subject = None
    else:
        person = s.subject or s.pick(s.people)
        s.say("feel", S=s.name(person), p=person)


def about_people(s: Scene, jobs: dict[Word, Word], pet_owner: Word, animal: Word, pet: str) -> tuple[str, str]:
    """A question on what a story said at its beginning."""
    kind = s.dice.random()
    if kind < 0.4:
        person = s.pick(s.people)
        return s.phrase("who_job", job=jobs[person]), f"{person}."
    if kind < 0.7:
        return s.phrase("what_weather"), f"It was {s.weather}."
    return s.phrase("what_pet", p=pet_owner, animal=animal), f"{pet}."


def finding(dice: Dice) -> str:
    """Plain facts in order, with questions between them about the state so far."""
    s = Scene(dice, people=dice.between(2, 3), things=dice.between(2, 3), places=dice.between(2, 4))
    for person in s.people:
        s.say("person", p=person, job=s.pick(JOBS), place=s.at[person])
    s.introduce_things()
    for _ in range(dice.between(2, 4)):
        s.end_paragraph()
        s.subject = None
        for _ in range(dice.between(1, 4)):
            s.step()
        question, answer = s.question()
        s.line(f"Q: {question}")
        s.line(f"A: {answer}")
    return s.text()


def counting(dice: Dice) -> str:
    """Two or three people who get, give and eat; what each has left is asked at the end."""
    t = Teller(dice)
    people = t.some(PEOPLE, dice.between(2, 3))
    names = t.pick(COUNTS)
    many = names[0].many
    has = {}
    for person in people:
        has[person] = dice.between(3, 12) if dice.chance(0.8) else 0
        t.say("count_start" if has[person] else "count_none", p=person, n=names[has[person]], many=many)
    t.end_paragraph()
    last = None
    for _ in range(dice.between(3, 9)):
        person = t.pick(people)
        subject = person.He if person is last and dice.chance(0.5) else person
        last = person if change_count(t, names, has, person, subject) else None
        if dice.chance(0.5):
            t.say("count_now", p=person, n=names[has[person]])
    t.end_paragraph()
    order = t.some(people, len(people))
    ask_all(t, [(t.phrase("how_many", p=p, many=many), f"{capital(names[has[p]])}.") for p in order])
    if dice.chance(0.5):
        total = sum(has.values())
        if total < len(names):
            t.line(f"Together they have {names[total]}.")
    return t.text()


def change_count(t: Teller, names: tuple[Word, ...], has: dict[Word, int], person: Word, subject: str) -> bool:
    """One person gets, uses or gives away some; False if the next "he" would not be clear."""
    kind = t.dice.random()
    if kind < 0.4 or has[person] < 3:
        n = t.between(2, 6)
        if has[person] + n < len(names):
            has[person] += n
            t.say("count_more", S=subject, p=person, n=names[n].word, job=t.pick(JOBS))
        return True
    n = t.between(2, min(has[person] - 1, 6))
    has[person] -= n
    other = t.pick([q for q in has if q is not person])
    if kind < 0.7 or has[other] + n >= len(names):
        t.say("count_less", S=subject, p=person, n=names[n].word)
        return True
    has[other] += n
    t.say("count_give", S=subject, p=person, q=other, n=names[n].word)
    return False


def wishing(dice: Dice) -> str:
    """Visitors wish for something, and later it comes true for each of them."""
    t = Teller(dice)
    place, spirit = t.pick(PLACES), t.pick(SPIRITS)
    t.say("spirit", x=spirit, place=place)
    t.end_paragraph()
    people = t.some(PEOPLE, dice.between(2, 4))
    jobs = t.some(JOBS, len(people))
    things = t.things(len(people))
    wishes = t.some(WISHES, len(people))
    to_do = [dice.chance(0.5) for _ in people]
    for number, person in enumerate(people):
        t.say("arrives" if number else "arrives_first", p=person, job=jobs[number])
        t.say("offer", x=spirit)
        key = "wishes_do" if to_do[number] else "wishes_have"
        t.say(key, p=person, wish=wishes[number][0], y=things[number])
        t.say("granted", x=spirit)
        t.end_paragraph()
    t.sentences.append(t.pick(("A year went by.", "Soon everything came true.", "Winter came and went.")))
    order = t.some(range(len(people)), len(people))
    for number in order:
        key = "came_true_do" if to_do[number] else "came_true_have"
        t.say(key, p=people[number], wished=wishes[number][1], y=things[number])
    t.say("moral", x=spirit, place=place)
    for number in t.some(order, 2):
        key = t.pick(("who_job", "who_wished" if to_do[number] else "who_asked_for"))
        t.line(f"Q: {t.phrase(key, job=jobs[number], wish=wishes[number][0], y=things[number])}")
        t.line(f"A: {people[number]}.")
    return t.text()


def lost(dice: Dice) -> str:
    """A notice about a lost thing, the search, and who got the reward."""
    t = Teller(dice)
    p, q, r = t.some(PEOPLE, 3)
    (thing,) = t.things(1)
    place, far, home = t.some(PLACES, 3)
    names = t.pick(COUNTS)
    total = dice.between(4, 20)
    given = dice.between(2, total - 1)
    day = dice.between(0, 6)
    job = t.pick(JOBS)
    t.say("lost", p=p, x=thing, job=job, place=place, day=DAYS[day])
    t.say("reward", p=p, n=names[total], x=thing)
    t.say("contact", p=p, home=home)
    t.end_paragraph()
    t.say("not_there", r=r, spot=t.pick(place.spots), place=place)
    t.say("found", q=q, x=thing, next=DAYS[(day + dice.between(1, 3)) % 7], spot=t.pick(far.spots), far=far)
    t.say("returned", p=p, q=q, x=thing, home=home, n=names[total])
    if dice.chance(0.6):
        t.say("shared", q=q, r=r, m=names[given].word, left=names[total - given])
    t.say("all_well", p=p, x=thing, job=job)
    t.end_paragraph()
    ask_all(
        t,
        t.some(
            [
                (t.phrase("who_has", x=thing), f"{p}."),
                (t.phrase("who_job", job=job), f"{p}."),
                (f"Who found the {thing}?", f"{q}, {far.at}."),
                (f"Where was the {thing} lost?", f"{place.At}."),
                ("What was the reward?", f"{names[total].Cap}."),
            ],
            dice.between(1, 3),
        ),
    )
    return t.text()
