"""Tables on animals, colours, food, the body and the sciences."""

from itertools import islice

from cifr_jax.data.pointwise.tables import Table, members, pairs
from cifr_jax.data.recipes.facts import ELEMENTS, UNITS

_YOUNG = pairs(
    "a cat: kitten, a dog: puppy, a cow: calf, a horse: foal, a sheep: lamb, a goat: kid, "
    "a hen: chick, a duck: duckling, a goose: gosling, a swan: cygnet, a lion: cub, "
    "a deer: fawn, a kangaroo: joey, a frog: tadpole, a pig: piglet, "
    "a butterfly: caterpillar"
)
# A young bird of any kind is a chick.
_ALSO_YOUNG = {bird: ("chick",) for bird in ("a duck", "a goose", "a swan")}
_SOUNDS = pairs(
    "a dog: bark, a cat: meow, a cow: moo, a sheep: baa, a pig: oink, a duck: quack, "
    "a lion: roar, a horse: neigh, an owl: hoot, a bee: buzz, a snake: hiss, a wolf: howl, "
    "a frog: croak, a mouse: squeak, a donkey: bray, an elephant: trumpet"
)
_ALSO_SOUNDS = {
    "a dog": ("howl",), "a cat": ("hiss",), "a wolf": ("bark",), "a donkey": ("neigh",),
    "a horse": ("bray",),
}  # fmt: skip
_HOMES = pairs(
    "a bee: hive, a robin: nest, a spider: web, a fox: den, a rabbit: burrow, a bat: cave, "
    "a horse: stable, a pet dog: kennel, a pig: sty, a hen: coop, a beaver: lodge, "
    "a goldfish: aquarium"
)
_ALSO_HOMES = {
    "a bee": ("nest",), "a fox": ("burrow", "cave"), "a rabbit": ("nest", "den"),
    "a bat": ("nest",), "a horse": ("sty",), "a pig": ("stable",), "a hen": ("nest",),
    "a beaver": ("den", "burrow"), "a pet dog": ("den",), "a spider": ("nest", "burrow"),
}  # fmt: skip
_CLASSES = members({
    "mammal": "dog, cow, whale, bat, dolphin, lion, rabbit, monkey, bear, horse",
    "bird": "penguin, duck, sparrow, parrot, robin, hawk, chicken, swan",
    "fish": "salmon, shark, trout, herring, goldfish, cod",
    "insect": "butterfly, beetle, mosquito, moth, wasp, grasshopper",
    "reptile": "crocodile, lizard, turtle, python, gecko, cobra",
    "amphibian": "frog, toad, newt, salamander",
}, "the ")  # fmt: skip
_LEGS = pairs(
    "a spider: 8, a dog: 4, an ant: 6, a chicken: 2, a snake: 0, a horse: 4, a beetle: 6, "
    "an ostrich: 2, a scorpion: 8, a worm: 0, a crab: 10, a shrimp: 10"
)
_COLOURS = members({
    "yellow": "a ripe banana, a lemon, a sunflower petal, mustard, a newly hatched chick",
    "red": "blood, a ripe tomato, a ripe strawberry, a ruby, ketchup, a stop sign",
    "green": "grass, spinach, an emerald, a cucumber, broccoli, a pea, a lime",
    "blue": "a clear sky, a sapphire, a blueberry, a pair of jeans, a cornflower",
    "white": "snow, milk, a polar bear, salt, a pearl, cauliflower, a blank sheet of paper",
    "black": "coal, tar, a raven, a panther, soot",
    "brown": "milk chocolate, a chestnut, the bark of an oak, a roasted coffee bean, "
             "cinnamon",
    "orange": "a carrot, a pumpkin, a mandarin, a traffic cone, an apricot",
    "grey": "an elephant, ash, concrete, a rain cloud, a rhinoceros",
    "purple": "an aubergine, lavender, an amethyst, a red grape juice stain, a violet",
    "pink": "a flamingo, a pig, bubble gum, a cherry blossom",
})  # fmt: skip
_ALSO_COLOURS = {
    "a ruby": ("pink",), "a blueberry": ("purple", "black"), "a chestnut": ("red",),
    "cinnamon": ("red", "orange"), "an apricot": ("yellow", "pink"), "coal": ("grey",),
    "a cornflower": ("purple",), "lavender": ("blue", "pink"), "ash": ("white", "black"),
    "a rain cloud": ("white", "black"), "a cherry blossom": ("white",), "soot": ("grey",),
    "a red grape juice stain": ("red", "pink", "blue"), "a violet": ("blue",),
    "mustard": ("brown",), "the bark of an oak": ("grey",), "an amethyst": ("pink",),
    "a panther": ("brown",), "a roasted coffee bean": ("black",), "a lime": ("yellow",),
    "a flamingo": ("orange", "red"), "a pig": ("white", "black", "brown"),
    "a mandarin": ("red",), "an aubergine": ("black",), "a pearl": ("grey", "pink"),
    "an elephant": ("brown",), "concrete": ("white",), "a pair of jeans": ("black",),
    "a rhinoceros": ("white", "black", "brown"), "a stop sign": ("white",),
}  # fmt: skip
_FOOD = members({
    "fruit": "an apple, a pear, a mango, a banana, a plum, a pineapple, a cherry",
    "vegetable": "a carrot, a cabbage, an onion, spinach, a leek, broccoli",
    "meat": "beef, pork, lamb, bacon, ham, veal",
    "grain": "rice, wheat, barley, rye, millet",
    "cheese": "cheddar, brie, gouda, mozzarella, feta",
    "drink": "tea, coffee, lemonade, cola, cider",
    "spice": "cinnamon, cumin, nutmeg, saffron, turmeric",
    "fish": "salmon, tuna, cod, trout, herring",
    "nut": "an almond, a walnut, a hazelnut, a cashew, a pecan",
})  # fmt: skip
_ALSO_FOOD = {
    **{fish: ("meat",) for fish in ("salmon", "tuna", "cod", "trout", "herring")},
    **{nut: ("fruit",) for nut in _FOOD if _FOOD[nut] == "nut"},
    "nutmeg": ("nut",),
}
_MADE_FROM = pairs(
    "wine: grapes, cheese: milk, bread: flour, writing paper: wood, "
    "chocolate: cocoa beans, an omelette: eggs, a car tyre: rubber, a window pane: glass, "
    "a candle: wax, a warm jumper: wool, ketchup: tomatoes, French fries: potatoes, "
    "yoghurt: milk, raisins: grapes, tofu: soya beans, popcorn: maize, "
    "guacamole: avocados, hummus: chickpeas, a brick: clay, a coin: metal, "
    "a T-shirt: cotton, marzipan: almonds, porridge: oats, sauerkraut: cabbage, "
    "prunes: plums, butter: milk, a nail: metal"
)
_ALSO_MADE_FROM = {
    "bread": ("oats", "maize", "potatoes"), "chocolate": ("milk",), "popcorn": ("flour",),
    "an omelette": ("milk",), "a warm jumper": ("cotton",), "a T-shirt": ("wool",),
    "writing paper": ("cotton",), "porridge": ("milk", "maize"), "wine": ("plums",),
}  # fmt: skip
_BODY = pairs(
    "see: eyes, hear: ears, smell: nose, taste: tongue, chew: teeth, think: brain, "
    "pump blood: heart, breathe in air: lungs, digest food: stomach, "
    "bend the leg: knee, bend the arm: elbow, hold a pencil: fingers"
)
_WORN_ON = pairs(
    "a hat: head, a glove: hand, a ring: finger, a sock: foot, a scarf: neck, "
    "a belt: waist, a watch: wrist, an earring: ear, a necklace: neck, a mitten: hand, "
    "a bracelet: wrist, a shoe: foot, a crown: head, a helmet: head, a tie: neck"
)
_ALSO_WORN_ON = {
    "a glove": ("finger", "wrist"), "a ring": ("hand", "ear"), "a mitten": ("finger",),
    "a watch": ("hand",), "a bracelet": ("hand",), "an earring": ("head",),
    "a scarf": ("head",), "a helmet": ("ear",), "a hat": ("ear",),
}  # fmt: skip
_PLANETS = pairs(
    "nearest to the Sun: Mercury, known as the Red Planet: Mars, the largest: Jupiter, "
    "best known for its rings: Saturn, the one we live on: Earth, "
    "second from the Sun: Venus, seventh from the Sun: Uranus, "
    "farthest from the Sun: Neptune"
)
_STUDIES = pairs(
    "animals: zoology, plants: botany, stars and planets: astronomy, rocks: geology, "
    "the mind: psychology, the past: history, the weather: meteorology, "
    "human society: sociology, numbers: mathematics, birds: ornithology, "
    "substances and how they react: chemistry, motion and forces: physics"
)
_ALSO_STUDIES = {
    "birds": ("zoology",), "the weather": ("physics",), "stars and planets": ("physics",),
    "rocks": ("chemistry",),
}  # fmt: skip

TABLES = (
    Table("animals", "What is the young of {} called?", _YOUNG, _ALSO_YOUNG),
    Table("animals", "Which sound does {} make?", _SOUNDS, _ALSO_SOUNDS),
    Table("animals", "Where does {} live?", _HOMES, _ALSO_HOMES),
    Table("animals", "What kind of animal is {}?", _CLASSES),
    Table("animals", "How many legs does {} have?", _LEGS),
    Table("colours", "Which colour is {} usually?", _COLOURS, _ALSO_COLOURS),
    Table("food", "What kind of food is {}?", _FOOD, _ALSO_FOOD),
    Table("food", "What do people make {} from?", _MADE_FROM, _ALSO_MADE_FROM),
    Table("body", "Which part of the body do people use to {}?", _BODY),
    Table("body", "On which part of the body is {} worn?", _WORN_ON, _ALSO_WORN_ON),
    Table(
        "science",
        "What is the chemical symbol of {}?",
        dict(islice(ELEMENTS.items(), 36)),
    ),
    Table(
        "science",
        "Which planet is {}?",
        _PLANETS,
        {"best known for its rings": ("Uranus",)},
    ),
    Table("science", "What is the study of {} called?", _STUDIES, _ALSO_STUDIES),
    Table("science", "What is the SI unit of {}?", UNITS),
)
