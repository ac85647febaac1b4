"""Tables on words, numbers, the calendar, tools, work, sport and music."""

from cifr_jax.data.pointwise.tables import Table, members, pairs
from cifr_jax.data.recipes.facts import PAST_TENSE, PLURALS, POLYGONS, roman

_OPPOSITES = pairs(
    "hot: cold, up: down, big: small, fast: slow, day: night, happy: sad, open: closed, "
    "wet: dry, bright: dark, full: empty, early: late, left: right, rich: poor, "
    "strong: weak, loud: quiet, hard: soft, old: young, clean: dirty, true: false, "
    "black: white, long: short, wide: narrow, deep: shallow, high: low, thick: thin, "
    "first: last, near: far, easy: difficult, cheap: expensive, win: lose, buy: sell, "
    "push: pull, give: take, inside: outside, above: below, front: back, before: after, "
    "always: never, love: hate, question: answer, north: south, east: west, "
    "summer: winter, brave: cowardly, sharp: blunt, smooth: rough, friend: enemy, "
    "alive: dead, asleep: awake, accept: refuse, remember: forget, victory: defeat, "
    "entrance: exit, import: export, ancient: modern, guilty: innocent, polite: rude, "
    "generous: stingy, tight: loose, safe: dangerous, absent: present, floor: ceiling, "
    "sunrise: sunset, hello: goodbye, build: destroy, increase: decrease, "
    "maximum: minimum, beautiful: ugly, laugh: cry, tall: short, large: small, "
    "quick: slow"
)
_ALSO_OPPOSITES = {
    "up": ("low", "below"), "high": ("down", "below", "short"), "above": ("down", "low"),
    "big": ("short", "thin", "narrow"), "large": ("short", "thin", "narrow"),
    "tall": ("low", "small"), "long": ("small",), "wide": ("thin",), "thick": ("narrow",),
    "win": ("defeat",), "victory": ("lose",), "happy": ("cry",), "laugh": ("sad",),
    "loud": ("soft",), "old": ("modern",), "ancient": ("young",), "front": ("last",),
    "before": ("late",), "early": ("after",), "first": ("after", "back"),
    "bright": ("night",), "day": ("dark", "sunset"), "strong": ("soft", "thin"),
    "deep": ("low",), "give": ("refuse",), "brave": ("weak",), "near": ("outside",),
    "sunrise": ("night", "west"), "maximum": ("small", "low"),
    "hot": ("winter",), "polite": ("rough",), "tight": ("soft",), "accept": ("exit",),
    "build": ("defeat",), "beautiful": ("dirty",), "floor": ("below",),
    "generous": ("poor",), "summer": ("cold",), "sharp": ("soft",), "full": ("thin",),
}  # fmt: skip
# Sums, differences and products whose answers have two digits.
_SUMS = {f"{a} + {b}": str(a + b) for a in range(4, 20, 3) for b in (8, 9, 11, 13, 15)}
_DIFFERENCES = {f"{a} - {b}": str(a - b) for a in range(21, 60, 7) for b in (2, 5, 8, 10)}
_PRODUCTS = {
    f"{a} × {b}": str(a * b) for a in range(2, 10) for b in range(a, 10) if a * b > 9
}
_DIGITS = pairs(
    "three: 3, seven: 7, nine: 9, four: 4, twelve: 12, fifteen: 15, eleven: 11, "
    "eighteen: 18, twenty: 20, thirty: 30, forty-two: 42, fifty: 50, sixty-one: 61, "
    "eighty: 80, ninety-nine: 99, twenty-four: 24, thirty-five: 35, seventy-six: 76, "
    "one hundred: 100, two hundred: 200"
)
_AFTER = {
    str(n): str(n + 1) for n in (6, 9, 12, 15, 19, 23, 29, 34, 39, 47, 52, 59, 66, 78)
}
_ROMAN = {
    str(n): roman(n) for n in (2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 20, 40, 50, 100)
}
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_AMOUNTS = pairs(
    "days are in a week: 7, months are in a year: 12, hours are in a day: 24, "
    "minutes are in an hour: 60, weeks are in a year: 52, years are in a century: 100, "
    "years are in a decade: 10, days are in April: 30, days are in July: 31, "
    "seasons are in a year: 4, seconds are in a minute: 60, days are in a leap year: 366"
)
_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
    "tenth", "eleventh", "twelfth",
)  # fmt: skip
_TOOLS = pairs(
    "cut paper: scissors, drive in a nail: hammer, dig a hole: spade, "
    "sweep the floor: broom, read the time: clock, write a letter: pen, "
    "open a lock: key, eat soup: spoon, cut a tree trunk: saw, paint a wall: brush, "
    "take a picture: camera, look at the stars: telescope, look at a cell: microscope, "
    "measure a fever: thermometer, draw a straight line: ruler, dry the hands: towel, "
    "boil water: kettle, keep food cold: fridge, light a dark room: lamp, "
    "sew on a button: needle, weigh flour: scales, find north: compass, "
    "climb onto a roof: ladder, stay dry in the rain: umbrella, bake a cake: oven, "
    "rub out pencil: eraser, turn a screw: screwdriver, catch a trout: fishing rod, "
    "water the flowers: watering can, mow the lawn: lawnmower, "
    "brown a slice of bread: toaster, "
    "add up large numbers: calculator, gather leaves: rake, smooth a shirt: iron, "
    "look at your face: mirror, sleep: bed"
)
_ALSO_TOOLS = {
    "write a letter": ("brush",), "boil water": ("oven",), "gather leaves": ("broom",),
    "brown a slice of bread": ("oven",), "sweep the floor": ("brush",),
    "look at your face": ("camera",), "measure a fever": ("scales",),
    "dig a hole": ("rake",), "cut paper": ("ruler",), "cut a tree trunk": ("scissors",),
    "find north": ("telescope",), "draw a straight line": ("pen",),
}  # fmt: skip
_WORK = pairs(
    "bakes bread: baker, teaches pupils: teacher, puts out fires: firefighter, "
    "flies planes: pilot, treats sick people: doctor, treats sick animals: vet, "
    "cuts hair: hairdresser, looks after teeth: dentist, grows crops: farmer, "
    "cooks in a restaurant: chef, delivers letters: postman, mends water pipes: plumber, "
    "designs buildings: architect, sells meat: butcher, works on a ship: sailor, "
    "writes novels: author, paints portraits: painter, plays in an orchestra: musician, "
    "catches fish: fisherman, mends cars: mechanic, sells flowers: florist, "
    "makes suits: tailor, makes wooden tables: carpenter, passes sentence in court: judge, "
    "lends out books: librarian, studies the stars: astronomer, digs for coal: miner, "
    "lays electric cables: electrician, travels into space: astronaut, "
    "acts on a stage: actor, keeps bees: beekeeper, serves at table: waiter, "
    "guards the goal: goalkeeper, takes photographs: photographer"
)
_ALSO_WORK = {
    "studies the stars": ("astronaut",), "catches fish": ("sailor",),
    "bakes bread": ("chef",), "travels into space": ("pilot",), "keeps bees": ("farmer",),
    "works on a ship": ("fisherman",), "serves at table": ("chef",),
}  # fmt: skip
_SPORTS = pairs(
    "a shuttlecock: badminton, a puck: ice hockey, clubs and a tee: golf, "
    "wickets and bails: cricket, a home plate: baseball, waves and a board: surfing, "
    "a cue and chalk: billiards, padded gloves and a ring: boxing, "
    "a bow and arrows: archery, ten pins and a heavy ball: bowling, "
    "a king and pawns: chess, snow and two poles: skiing, a horse and a saddle: riding, "
    "a foil and a mask: fencing, oars: rowing, an oval ball and a scrum: rugby, "
    "a high hoop and a board: basketball, a bicycle: cycling, "
    "a rope and a rock face: climbing, goggles and lanes of water: swimming, "
    "a balance beam: gymnastics"
)
_TEAMS = pairs(
    "football: 11, basketball: 5, volleyball: 6, baseball: 9, rugby union: 15, "
    "water polo: 7, beach volleyball: 2, cricket: 11, handball: 7"
)
_INSTRUMENTS = members({
    "strings": "violin, viola, cello, harp, guitar, banjo, lute",
    "woodwind": "flute, clarinet, oboe, bassoon, piccolo, saxophone",
    "brass": "trumpet, trombone, tuba, French horn, cornet, bugle",
    "percussion": "snare drum, cymbal, triangle, tambourine, gong, xylophone",
    "keyboards": "church organ, synthesizer, harmonium, accordion",
}, "the ")  # fmt: skip
_ALSO_INSTRUMENTS = {
    "the accordion": ("woodwind",), "the harmonium": ("woodwind",),
    "the church organ": ("woodwind",), "the saxophone": ("brass",),
    "the xylophone": ("keyboards",),
}  # fmt: skip


def _following(cycle: tuple[str, ...], step: int) -> dict[str, str]:
    return {name: cycle[(n + step) % len(cycle)] for n, name in enumerate(cycle)}


TABLES = (
    Table("opposites", 'What is the opposite of "{}"?', _OPPOSITES, _ALSO_OPPOSITES),
    Table("grammar", 'What is the plural of "{}"?', PLURALS),
    Table("grammar", 'What is the past tense of "{}"?', PAST_TENSE),
    Table("arithmetic", "What is {}?", {**_SUMS, **_DIFFERENCES, **_PRODUCTS}),
    Table("numbers", "How is {} written in digits?", _DIGITS),
    Table("numbers", "Which number comes right after {}?", _AFTER),
    Table("numbers", "How is {} written in Roman numerals?", _ROMAN),
    Table("numbers", "How many sides does a {} have?", POLYGONS),
    Table("calendar", "Which month comes right after {}?", _following(_MONTHS, 1)),
    Table("calendar", "Which month comes right before {}?", _following(_MONTHS, -1)),
    Table("calendar", "Which day comes right after {}?", _following(_DAYS, 1)),
    Table("calendar", "Which day comes right before {}?", _following(_DAYS, -1)),
    Table(
        "calendar",
        "Which is the {} month of the year?",
        dict(zip(_ORDINALS, _MONTHS, strict=True)),
    ),
    Table("calendar", "How many {}?", _AMOUNTS),
    Table("tools", "What do people use to {}?", _TOOLS, _ALSO_TOOLS),
    Table("work", "Who {}?", _WORK, _ALSO_WORK),
    Table("sport and music", "Which sport or game needs {}?", _SPORTS),
    Table(
        "sport and music",
        "How many players of one {} team are on the field of play?",
        _TEAMS,
    ),
    Table(
        "sport and music",
        "To which group of instruments does {} belong?",
        _INSTRUMENTS,
        _ALSO_INSTRUMENTS,
    ),
)
