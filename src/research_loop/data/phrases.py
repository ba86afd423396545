"""How the simulated world of `world.py` puts things: data only.

In a phrase `[one|other]` is a choice and `{p}` a slot. Slots: S the name of p or "He" or "She"; p, q, r people;
x, y things; n, m, left counts; w weather; place, home, far, spot, job, animal, pet, wish, day, hour what they say.
A slot's dotted form (`{p.his}`, `{x.an}`, `{place.at}`) is one of the forms a `Word` carries.
"""

from __future__ import annotations

PHRASES: dict[str, tuple[str, ...]] = {
    # scenes: who and what is where
    "once": (
        "One {w} [morning|afternoon|evening|day] in {month}, {names} were in the village of {village}.",
        "It was a {w} [morning|day] in {month}. {names} [lived|had met] in {village}.",
        "This [is a story|story is] about {names}, [who lived in|from] {village}. It begins on a {w} day in {month}.",
        "[Long ago|Last year], on a {w} {day}, {names} [spent the day|were together] in {village}.",
    ),
    "person": (
        "{p} was {place.at}.",
        "{p}, {job.an}, was {place.at}.",
        "{p} the {job} was {place.at}.",
        "{p} worked as {job.an}. [Now|That day] {p.he} was {place.at}.",
        "{job.An} called {p} was {place.at}.",
    ),
    "lies": (
        "There was {x.an} {spot} {place.at}.",
        "{x.An} lay {spot} {place.at}.",
        "Somebody had left {x.an} {spot} {place.at}.",
        "{spot.Cap} {place.at} there was {x.an}.",
    ),
    "holds": (
        "{p} had {x.an}.",
        "{p} [held|carried] {x.an}.",
        "{p} had [brought|found] {x.an}.",
    ),
    "pet": ("{p} had {animal.an} [called|named] {pet}.", "{p}'s {animal} was called {pet}."),
    "pet_acts": ("{pet} {act}.", "{pet} the {animal} {act}.", "Just then, {pet} {act}.", "{p}'s {animal} {act}."),
    "wish": (
        '"I [wish I could|would love to|want to] {wish} [one day|some day]," said {p}.',
        "{p} had one [great|secret|big] wish: to {wish}.",
        "More than anything, {p} wanted to {wish}.",
        "{p} dreamed of one thing: {p.he} wanted to {wish}.",
    ),
    "promise": (
        '"I will [bring|give] you the {x} [before supper|tonight|by evening]," {p} [told|promised] {q}.',
        "{p} promised to bring {q} the {x}.",
        '{p} [made|gave] {q} a promise: "You will get the {x} from me."',
    ),
    "kept": (
        "[So|And so] {p} kept {p.his} promise.",
        '"You kept your promise," said {q} [happily|with a smile].',
        "{p} had not forgotten {p.his} promise to {q}.",
    ),
    # scenes: what happens ({S}: the name of p, or He, or She)
    "walk": (
        "{S} [walked|went|ran|hurried] to {place}.",
        "[Then|Soon|Later|After a while] {p} [walked|went] to {place}.",
        "{S} left {old} and went to {place}.",
        '"I am going to {place}," said {p}, and off {p.he} went.',
    ),
    "take": (
        "{S} [took|picked up|grabbed] the {x}.",
        "{S} [saw|found|noticed] the {x} {spot} and took it.",
        "{S} looked {spot}, found the {x} and [picked it up|kept it].",
    ),
    "put": (
        "{S} [put|left|laid|hid] the {x} {spot}.",
        "{S} did not want to carry the {x} any longer and [put|left] it {spot}.",
        "[Carefully|Quickly], {p} put the {x} {spot}.",
    ),
    "give": (
        "{S} [gave|handed|passed] the {x} to {q}.",
        "{S} [gave|handed] {q} the {x}.",
        '"[Here|Look], this is for you," said {p}, and gave the {x} to {q}.',
        '"May I have the {x}?" asked {q}. {p} [nodded|smiled] and gave it to {q.him}.',
    ),
    "ask": (
        '"[Where is|Have you seen|Do you know where to find] the {x}?" asked {p}. "{fact}," [said|answered] {q}.',
        '{p} asked {q} about the {x}. "{fact}," [said|answered] {q}.',
        '"I am looking for the {x}," said {p} to {q}. "{fact}," [said|answered] {q}.',
    ),
    "feel": (
        "{S} [felt|was] [happy|tired|hungry|proud|curious|cheerful|a little sad|calm].",
        "{S} [hummed|sang|whistled] a [little|merry|slow] [song|tune].",
        "{S} [stopped|sat down] and [rested|looked around|listened] for a while.",
    ),
    "evening": (
        "[In the evening|At the end of the day|When night came], everyone [went over|talked about] the day.",
        "[So|And so|Thus] the {w} day came to an end.",
        "[At last|Finally], the stars came out over {village}.",
    ),
    "end_held": ("{p} had the {x}.", "The {x} was now with {p}.", "The {x} [belonged|stayed] with {p}."),
    "end_lies": ("The {x} was {spot} {place.at}.", "The {x} [still lay|lay] {spot} {place.at}."),
    "end_wish": (
        "That night {p} dreamed that {p.he} {wished}.",
        "{p} still hoped to {wish}.",
        "A year later, {p} really {wished}.",
    ),
    # counting
    "count_start": (
        "{p} had {n}.",
        "{p} [bought|picked|found] {n} [in the morning|at the market|early in the day].",
        "In {p}'s basket there were {n}.",
    ),
    "count_none": ("{p} had no {many} at all.", "{p} did not have any {many} yet."),
    "count_more": (
        "{S} [bought|found|picked|got] {n} more.",
        "An hour later, {p} [bought|found] {n} more.",
        "A [kind|friendly] {job} gave {p} {n} more.",
    ),
    "count_less": (
        "{S} [ate|sold|lost|dropped] {n} of them.",
        "{S} was hungry and ate {n}.",
        "{S} [cooked|used] {n} for [supper|lunch].",
    ),
    "count_give": (
        "{S} gave {n} to {q}.",
        "{S} [shared|was kind] and gave {q} {n}.",
        '"Please take {n}," said {p} to {q}, and {q} took them.',
    ),
    "count_now": ("Now {p} had {n}.", "So {p} had {n}.", "{p} counted: {n}."),
    # questions
    "who_has": ("Who has the {x}?", "Who holds the {x} now?"),
    "where_thing": ("Where is the {x}?", "Where can one find the {x}?"),
    "where_person": ("Where is {p}?", "Where is {p} now?"),
    "what_weather": ("What was the weather like?", "What kind of day was it?"),
    "what_wish": ("What does {p} wish to do?", "What is {p}'s wish?"),
    "who_wish": ("Who wants to {wish}?", "Who wishes to {wish}?"),
    "who_job": ("Who is the {job}?",),
    "who_wished": ("Who [wished|wanted] to {wish}?",),
    "who_asked_for": ("Who [asked for|wanted] the {y}?",),
    "what_pet": ("What is the name of {p}'s {animal}?", "What is {p}'s {animal} called?"),
    "how_many": ("How many {many} does {p} have?", "How many {many} are left for {p}?"),
    # talk between p and q, a line each
    "greet": ("[Good morning|Good day|Hello|Hi], {q}!", "{q}! How [nice|good] to see you.", "There you are, {q}."),
    "greet_back": (
        "[Hello|Good day|Hi], {p}. {w.Now} today.",
        "Nice to see you too, {p}. What a {w} day!",
        "{p}! Come in, {w.now}.",
    ),
    "ask_thing": ("Where is the {x}?", "I need the {x}. Where is it?", "Do you know where the {x} is?"),
    "go_look": (
        "[Good|Thanks|Fine]. Then I will look {spot} {place.at}.",
        "{spot.Cap} {place.at}? I would never have looked there.",
    ),
    "go_ask": ("[Good|Thanks|Fine]. Then I will ask {r} for it.", "{r}? I will talk to {r.him} tomorrow."),
    "ask_count": ("How many {many} did you [buy|pick|get]?", "Did you get any {many}?"),
    "tell_count": ("I got {n}. Then I gave {m} to {r}.", "{n.Cap}, but I gave {m} of them to {r}."),
    "reckon": ("So you have {left} left.", "{n.Word} minus {m} makes {left}.", "Then there are {left} left for you."),
    "ask_wish": ("What would you [like|love] to do one day?", "Do you have a wish?", "What do you dream of?"),
    "tell_wish": ("I [want|would like|would love] to {wish}.", "One day I will {wish}. That is my wish."),
    "like_wish": ("[Lovely|How nice]! I hope you will {wish} soon.", "To {wish}? I will come with you."),
    "ask_meet": ("[When|Where] shall we meet?", "Shall we meet again?", "Can we talk more this week?"),
    "tell_meet": ("Let us meet on {day} at {hour}, {place.at}.", "Come to {place} on {day} at {hour}."),
    "agree_meet": (
        "{day} at {hour}, {place.at}. [Good|Fine|I will be there].",
        "I will be {place.at} on {day} at {hour}.",
    ),
    "ask_pet": ("How is your {animal}?", "You have {animal.an}, right? How is it?"),
    "tell_pet": (
        "{pet} is [fine|well|a bit lazy|very hungry]. This morning {pet} {act}.",
        "Oh, {pet} {act} last night.",
    ),
    "recap": ("Let me see if I remember everything.", "Let me say it all again.", "I do not want to forget a thing."),
    "right": ("[That is right|Right|Yes|Exactly].", "Yes, you have a good memory.", "Correct!"),
    "bye": ("Goodbye, {p}!", "See you [soon|tomorrow], {p}.", "Take care, {p}. Keep [warm|well|dry]!"),
    # letters
    "thanks": (
        "Thank you[ so much| very much|] for the {x}.",
        "The {x} [you sent me|from you] came on {day}. What a [fine|lovely] present!",
        "How kind of you to send me the {x}!",
    ),
    "keep": (
        "I keep it {spot} {place.at}[, where it is safe|].",
        "It now has its place {spot} {place.at}.",
    ),
    "weather_here": (
        "Here in {village} {w.now}.",
        "The weather is {w} here in {village}.",
        "As I write this, {w.now}.",
    ),
    "news": (
        "Do you remember {r}? {r.He} is {job.an} now and works {place.at}.",
        "I often see {r}, who has become {job.an}. You can find {r.him} {place.at}.",
        "{r} sends you greetings. {r.He} works {place.at} as {job.an}.",
    ),
    "news_wish": ("{r.His} great wish is to {wish}.", "{r.He} [told me|says] that {r.he} wants to {wish}."),
    "harvest": (
        "Last week I picked {n}. I gave {m} to {r}, so {left} are left for you and me.",
        "There were {n} in my basket. {r} got {m}, and I kept {left}.",
    ),
    "borrow": (
        "You asked about the {y}. I left it {spot} {place.at}.",
        "Do not worry about the {y}: it is {spot} {place.at}.",
    ),
    "visit": (
        "Please visit me on {day}. I will wait for you {place.at} at {hour}.",
        "Can you come on {day}? We could meet {place.at} at {hour}.",
    ),
    "bring": ("I will [cook|bake] something from the {many}.", "We will eat the {many} together."),
    "recall_gift": (
        "Every time I see the {x}, I think of you.",
        "And I will show you where I keep the {x}: {spot} {place.at}.",
    ),
    "recall_visit": ("So do not forget: {day}, {hour}, {place.at}.", "I look forward to {day}."),
    "postscript": (
        "P.S. {r} the {job} says [hello|good luck].",
        "P.S. [Remember|Once more], the {y} is {spot} {place.at}.",
        "P.S. If {r} is to {wish}, {r.he} will need our help.",
    ),
    # diaries
    "diary_weather": ("Today {w.was}.", "{w.Was} all day.", "A {w} day.", "{w.Was}, so I [slept late|got up early]."),
    "diary_got": ("I [picked|bought|found] {n} {place.at}.", "{place.At} I got {n}."),
    "diary_gave": (
        "I [met|saw] {q} and gave {q.him} {m}.",
        "{q} came by, and I gave {q.him} {m}.",
        "I [ate|used] {m} today.",
    ),
    "diary_left": ("Now I have {left}.", "That leaves me with {left}.", "So there are {left} left."),
    "diary_put": ("I put the {x} {spot} {place.at}.", "I hid the {x} {spot} {place.at}. Nobody knows."),
    "diary_still": (
        "The {x} is still {spot} {place.at}.",
        "I went to see if the {x} was safe. It was {spot} {place.at}, as before.",
    ),
    "diary_lend": ("I took the {x} and lent it to {q}.", "{q} asked for the {x}, so I lent it to {q.him}."),
    "diary_lent": ("{q} still has the {x}.", "I asked {q} for the {x}, but {q.he} still needs it."),
    "diary_back": ("{q} gave me back the {x}. I put it {spot} {place.at}.",),
    "diary_wish": ("I told {q} that I want to {wish}.", "{q} asked for my wish. I said that I want to {wish}."),
    "diary_wish_again": ("I keep thinking of my wish to {wish}.", "Will I ever {wish}? I hope so."),
    # lost things
    "lost": (
        "LOST: {x.an}. {p} the {job} last had it {place.at} on {day}.",
        "{p} the {job} has lost {x.an}. {p.He} last saw it {place.at} on {day}.",
    ),
    "reward": (
        "Whoever finds the {x} [will get|gets] {n} from {p.him}.",
        "{p.He} [offers|promises] {n} to anyone who [finds|brings back] it.",
    ),
    "contact": ("You can find {p} {home.at}.", "Please bring it to {p} {home.at}."),
    "not_there": ("{r} looked {spot} {place.at}, but it was not there.", "{r} searched {place.at} and found nothing."),
    "found": (
        "On {next}, {q} found the {x} {spot} {far.at}.",
        "Good news on {next}: the {x} was {spot} {far.at}, where {q} found it.",
    ),
    "returned": (
        "{q} took the {x} to {p} {home.at} and got {n}.",
        "{q.He} brought it to {p}, who was {home.at}, and {p} gave {q.him} {n}.",
    ),
    "shared": ("{q} kept {left} and gave {m} to {r}.", "{r} got {m} of them from {q}, so {q} had {left} left."),
    "all_well": ("The {x} is back with {p}, who is [glad|happy|very thankful].", "{p} the {job} has the {x} again."),
    # wishing tales
    "spirit": (
        "{place.At} there [lived|was] {x.an}[ that could speak|]. It granted one wish to everyone who [came|asked].",
        "People said that {x.an} {place.at} could grant wishes.",
    ),
    "arrives_first": (
        "First came {p}, {job.an}.",
        "One day {p} the {job} came by.",
        "{p}, {job.an}, was the first to come.",
    ),
    "arrives": ("Next came {p}, {job.an}.", "{p} the {job} [came by|arrived] later.", "Then came {job.an} called {p}."),
    "offer": ('"What do you wish for?" asked the {x}.', '"Tell me your wish," said the {x}.'),
    "wishes_do": ('"I want to {wish}," [said|answered] {p}.', '"Let me {wish}," [begged|said] {p}.'),
    "wishes_have": ('"I want {y.an}," [said|answered] {p}.', '"Please give me {y.an}," said {p}.'),
    "granted": (
        '"[So be it|It will happen]," said the {x}.',
        "The {x} nodded and said nothing.",
        "The {x} closed its eyes.",
    ),
    "came_true_do": ("{p} {wished}.", "The wish of {p} came true: {p.he} {wished}."),
    "came_true_have": ("{p} got the {y}.", "The {y} [stood|lay] before {p}'s door[ one morning|]."),
    "moral": (
        "[Be|So be] careful what you wish for, and say thank you.",
        "Nobody ever saw the {x} again {place.at}.",
        "The {x} is still {place.at}, and it waits for you.",
    ),
    # riddles, lists and instructions
    "riddle": (
        "You need me to {use}. What am I?",
        "I am {look}, and I help you to {use}. What am I?",
        "Without me you cannot {use}. Where am I?",
    ),
    "compare": (
        "[stand|sit] in a row and compare.",
        "want to know how they compare.",
        "are [friends|cousins|neighbours], but they are not alike.",
    ),
    "sold": ("Sold {n} {many} to {p}.", "{p} bought {n} {many}."),
    "bought": ("[Got|Bought] {n} more {many}.", "A farmer brought {n} {many}."),
    "stored": ("The {many} are {spot} {place.at}.", "You [will|can] find the {many} {spot} {place.at}."),
    "fetch": ("Go to {place} and [get|fetch] the {n}.", "[Fetch|Bring|Get] the {n} from {place}."),
    "prepare": ("[Wash|Clean|Cut|Chop|Peel] the {n}.", "Count the {many}: there should be {n.word}. [Wash|Peel] them."),
    "mix": (
        "Put the {many} into the {tool} and [stir|wait for an hour].",
        "Cook the {many} [slowly|for half an hour] in the {tool}.",
    ),
    "serve": (
        "Serve the {dish} to {names}. {p} eats last.",
        "Now the {dish} is ready. {p} shares it with {names}.",
    ),
    "arrived": ("Now you are at {place}.", "At {place}, {p} will be waiting for you."),
    "bring_back": ("Take the {x}. It is {spot}.", "Look {spot}: there is {x.an}. Take it with you."),
    "like_pet": ("Give {pet} a [carrot|kiss|treat] from me.", "I like {pet}. A fine {animal}!"),
}
