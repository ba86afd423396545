"""The words of the simulated world that `world.py` tells about: data only."""

from __future__ import annotations


def _each(text: str) -> tuple[str, ...]:
    return tuple(text.split())


MEN = _each(
    "Adam Ben Carl David Emil Felix George Hugo Ivan Jack Karim Leo Max Noah Omar Paul Ravi Sam Tom Viktor Oleg "
    "Yusuf Arthur Bruno Diego Finn Henry Jonas Luca Marco Oscar Pedro Simon Theo Walter Kenji"
)

WOMEN = _each(
    "Anna Bella Clara Dora Emma Fiona Grace Hanna Ida Julia Kate Lily Mia Nora Olga Paula Rosa Sara Tina Vera Wanda "
    "Zoe Alice Berta Celia Elsa Frida Greta Irene Jana Laila Maria Nina Petra Sofia Yuki"
)

JOBS = _each(
    "baker farmer teacher sailor painter gardener doctor miller tailor carpenter singer fisher shepherd cook potter "
    "engineer actor artist inventor weaver blacksmith librarian beekeeper clockmaker postman judge nurse poet"
)

LOOKS = _each(
    "red blue green yellow white black brown grey purple orange golden silver old new small tiny large shiny heavy "
    "striped broken pretty"
)

# noun: what one needs it for
THINGS = {
    "key": "open a door",
    "lamp": "light a dark room",
    "rope": "tie up a boat",
    "knife": "cut bread",
    "spoon": "stir soup",
    "cup": "drink tea",
    "bucket": "carry water",
    "broom": "sweep the floor",
    "hammer": "drive in a nail",
    "needle": "mend a coat",
    "kite": "play in the wind",
    "drum": "make a loud noise",
    "bell": "call people to lunch",
    "flute": "play a tune",
    "book": "read a long story",
    "map": "find the way",
    "umbrella": "stay dry",
    "scarf": "keep your neck warm",
    "hat": "keep your head warm",
    "basket": "carry fruit",
    "box": "store small treasures",
    "bottle": "keep milk",
    "saw": "cut wood",
    "ball": "play catch",
    "coin": "pay for bread",
    "clock": "tell the time",
    "mirror": "see your own face",
    "candle": "see without a lamp",
    "brush": "paint a wall",
    "pen": "write a letter",
    "pencil": "draw a picture",
    "blanket": "sleep well in the cold",
    "pillow": "rest your head",
    "ring": "get married",
    "whistle": "call a dog",
    "lantern": "walk at night",
    "net": "catch fish",
    "oar": "row a boat",
    "axe": "split logs",
    "spade": "dig a hole",
    "jug": "pour water",
    "plate": "serve cake",
    "kettle": "boil water",
    "towel": "dry your hands",
    "comb": "tidy your hair",
    "camera": "take a photo",
    "radio": "hear the news",
    "telescope": "look at the moon",
    "puppet": "put on a show",
    "sponge": "wash the dishes",
    "magnet": "pick up pins",
    "compass": "find north",
    "envelope": "post a letter",
    "purse": "keep money safe",
}

COUNTED = {
    "apple": "apples",
    "pear": "pears",
    "plum": "plums",
    "egg": "eggs",
    "potato": "potatoes",
    "carrot": "carrots",
    "onion": "onions",
    "lemon": "lemons",
    "cherry": "cherries",
    "walnut": "walnuts",
    "tomato": "tomatoes",
    "peach": "peaches",
    "mushroom": "mushrooms",
    "strawberry": "strawberries",
    "bean": "beans",
    "pumpkin": "pumpkins",
    "turnip": "turnips",
    "bun": "buns",
    "biscuit": "biscuits",
    "olive": "olives",
    "apricot": "apricots",
    "fig": "figs",
    "pancake": "pancakes",
    "radish": "radishes",
}

# place: (preposition, spots in it)
PLACES = {
    "kitchen": ("in", "on the table, under the table, on the shelf, in the cupboard, by the stove"),
    "barn": ("in", "under the bench, behind the door, in the hay, on the hook, by the ladder"),
    "garden": ("in", "under the apple tree, by the well, behind the hedge, on the wall, among the roses"),
    "library": ("in", "on the top shelf, on the desk, under the chair, by the window, in the drawer"),
    "market": ("at", "behind the fruit stall, on the counter, under the cart, by the fountain"),
    "harbour": ("at", "in the boat, on the pier, under the nets, by the anchor"),
    "mill": ("in", "on the stairs, behind the sacks, by the wheel, under the window"),
    "school": ("at", "on the desk, in the cupboard, under the blackboard, by the door"),
    "station": ("at", "under the bench, on the platform, by the clock, in the waiting room"),
    "bakery": ("in", "by the oven, on the counter, behind the flour, under the table"),
    "forest": ("in", "under the oak, in the hollow tree, behind the rock, by the stream"),
    "beach": ("on", "in the sand, behind the dune, under the boat, by the rocks"),
    "castle": ("in", "in the tower, under the bed, behind the curtain, on the throne"),
    "workshop": ("in", "on the bench, in the toolbox, under the stool, by the saw"),
    "attic": ("in", "in the trunk, under the roof beam, behind the chimney, on the rocking chair"),
    "cellar": ("in", "behind the barrel, on the bottom step, under the sacks, in the corner"),
    "theatre": ("in", "on the stage, behind the curtain, under the first seat, in the wardrobe"),
    "park": ("in", "on the bench, under the bridge, by the pond, behind the statue"),
    "lighthouse": ("in", "on the stairs, by the lamp, under the window, in the chest"),
    "farm": ("on", "by the gate, in the shed, behind the tractor, under the trough"),
    "museum": ("in", "in the glass case, behind the door, on the bench, by the old coach"),
    "stable": ("in", "in the straw, on the hook, under the saddle, by the manger"),
    "church": ("in", "on the front seat, by the organ, under the stairs, behind the pillar"),
    "hospital": ("at", "on the window sill, under the bed, in the drawer, by the lift"),
}

# weather: (what it did, what it does, scenes)
WEATHER = {
    "rainy": (
        "it rained",
        "it is raining",
        (
            "Rain ran down the windows.",
            "The rain did not stop.",
            "Everyone had wet shoes.",
            "Drops fell from the roof.",
        ),
    ),
    "sunny": (
        "the sun shone",
        "the sun is shining",
        ("The sun warmed the stones.", "Not one cloud was in the sky.", "The light was bright and golden."),
    ),
    "snowy": (
        "it snowed",
        "it is snowing",
        ("Snow lay on every roof.", "White flakes danced in the air.", "Every step left a mark in the snow."),
    ),
    "windy": (
        "a strong wind blew",
        "a strong wind is blowing",
        ("The wind shook the trees.", "A hat flew down the road.", "Doors banged in the wind."),
    ),
    "foggy": (
        "there was thick fog",
        "there is thick fog",
        ("The fog hid the hills.", "Nobody could see far.", "Everything looked pale in the fog."),
    ),
    "stormy": (
        "there was a storm",
        "there is a storm",
        ("Thunder rolled over the hills.", "Lightning lit up the sky.", "The storm rattled the shutters."),
    ),
    "cloudy": (
        "clouds covered the sky",
        "clouds cover the sky",
        ("The sky was full of clouds.", "The clouds hung low.", "The sun stayed behind the clouds."),
    ),
    "frosty": (
        "there was frost",
        "there is frost",
        ("Frost shone on the grass.", "The puddles were frozen.", "People could see their breath."),
    ),
    "hot": (
        "it was hot",
        "it is hot",
        ("The air stood still in the heat.", "Everybody looked for shade.", "The heat made people sleepy."),
    ),
}

# wish: the same in the past
WISHES = {
    "see the sea": "saw the sea",
    "learn to swim": "learned to swim",
    "ride a horse": "rode a horse",
    "build a treehouse": "built a treehouse",
    "fly in a balloon": "flew in a balloon",
    "sing on a stage": "sang on a stage",
    "bake a huge cake": "baked a huge cake",
    "plant an apple tree": "planted an apple tree",
    "catch a big fish": "caught a big fish",
    "write a book": "wrote a book",
    "climb a high mountain": "climbed a high mountain",
    "sleep under the stars": "slept under the stars",
    "find a treasure": "found a treasure",
    "travel by train": "travelled by train",
    "play the violin": "played the violin",
    "meet a queen": "met a queen",
    "see a whale": "saw a whale",
    "skate on a frozen lake": "skated on a frozen lake",
    "keep bees": "kept bees",
    "dance all night": "danced all night",
    "cook for the whole village": "cooked for the whole village",
    "tame an owl": "tamed an owl",
    "win a race": "won a race",
    "sail around an island": "sailed around an island",
    "open a small shop": "opened a small shop",
    "paint a ship": "painted a ship",
    "walk across a desert": "walked across a desert",
    "grow a giant melon": "grew a giant melon",
}

# animal: what it may do
ANIMALS = {
    "dog": ("barked", "wagged its tail", "ran in circles"),
    "cat": ("purred", "licked its paws", "climbed onto the roof"),
    "duck": ("quacked", "looked for water", "shook its feathers"),
    "goat": ("bleated", "chewed on a sleeve", "jumped over a fence"),
    "hen": ("clucked", "scratched the ground", "laid an egg"),
    "horse": ("snorted", "shook its mane", "asked for sugar"),
    "parrot": ("said hello", "whistled a song", "cracked a nut"),
    "rabbit": ("hopped away", "nibbled some grass", "wiggled its nose"),
    "owl": ("hooted", "turned its head", "blinked twice"),
    "donkey": ("brayed", "refused to move", "flicked its ears"),
}

PETS = _each(
    "Pepper Biscuit Shadow Snowy Ginger Rusty Patch Bubbles Muffin Pirate Duchess Coco Whiskers Comet Nutmeg Button"
)
VILLAGES = _each(
    "Ashford Birchwood Claybridge Dunmore Eastwell Fernhill Greenley Hollowbrook Ironbridge Larkfield Millbrook "
    "Northbay Oakham Pinedale Quarrydale Redcliff Stonebridge Thornbury Westport Yarrow"
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SEASONS = (
    (_each("November December January February March"), _each("rainy sunny snowy windy foggy stormy cloudy frosty")),
    (_each("April May June July August September October"), _each("rainy sunny windy foggy stormy cloudy hot")),
)
"""Months, and the weather they may have."""
NUMBERS = _each(
    "no one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty twenty-one twenty-two twenty-three twenty-four twenty-five twenty-six twenty-seven "
    "twenty-eight twenty-nine thirty"
)

# smaller-than-larger pairs: (comparative, superlative, reverse comparative, reverse superlative)
ORDERS = (
    ("taller", "tallest", "shorter", "shortest"),
    ("older", "oldest", "younger", "youngest"),
    ("faster", "fastest", "slower", "slowest"),
    ("stronger", "strongest", "weaker", "weakest"),
    ("richer", "richest", "poorer", "poorest"),
    ("louder", "loudest", "quieter", "quietest"),
)

DISHES = ("soup", "pie", "stew", "salad", "jam", "bread", "pudding", "curry")
TOOLS = ("a large pot", "a deep bowl", "a flat pan", "a clay dish", "an iron pot", "an old tin")
