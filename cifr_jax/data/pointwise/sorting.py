"""Multiple-choice items that share their four options, in the same order.

A model of a hundred million parameters knows what kind of thing a word names, and can learn
to tell it through any channel; which of four freshly shuffled options stands at letter C it
cannot tell even when asked for the letter (`configs/pointwise.py` measures both). These
items show what the channel carries where the knowledge is there.
"""

import numpy as np

from cifr_jax.data.pointwise.questions import Question

OPTIONS = ("animal", "food", "country", "job")
TOPIC = "sorting"
_STEM = 'Which kind of thing does the word "{}" name?'
_WORDS = {
    "animal": (
        "lion, tiger, elephant, giraffe, zebra, kangaroo, koala, panda, wolf, fox, "
        "bear, otter, beaver, badger, hedgehog, squirrel, rabbit, hare, mouse, rat, "
        "bat, horse, donkey, camel, llama, goat, sheep, cow, pig, dog, cat, monkey, "
        "gorilla, whale, dolphin, seal, walrus, penguin, eagle, hawk, owl, sparrow, "
        "pigeon, parrot, swan, ostrich, frog, toad, lizard, snake, crocodile, tortoise, "
        "shark, octopus, spider, beetle, moth, wasp, ant, snail, leopard, cheetah, "
        "hyena, buffalo"
    ),
    "food": (
        "bread, butter, cheese, yoghurt, rice, pasta, noodles, soup, salad, pizza, "
        "burger, sandwich, sausage, ham, bacon, omelette, pancake, waffle, porridge, "
        "honey, jam, sugar, flour, chocolate, cake, biscuit, pie, pudding, apple, pear, "
        "plum, cherry, peach, grape, lemon, banana, mango, melon, strawberry, potato, "
        "carrot, onion, garlic, cabbage, spinach, lettuce, tomato, cucumber, pumpkin, "
        "bean, lentil, mushroom, almond, walnut, peanut, olive, steak, stew, curry, "
        "sushi, taco, lasagne, croissant, popcorn"
    ),
    "country": (
        "France, Germany, Italy, Spain, Portugal, Belgium, Austria, Switzerland, "
        "Poland, Hungary, Romania, Bulgaria, Greece, Norway, Sweden, Finland, Denmark, "
        "Iceland, Ireland, Estonia, Latvia, Lithuania, Ukraine, Serbia, Croatia, "
        "Slovenia, Albania, Egypt, Morocco, Algeria, Tunisia, Nigeria, Ghana, Kenya, "
        "Ethiopia, Uganda, Tanzania, Zambia, Angola, Senegal, India, Pakistan, Nepal, "
        "Japan, Vietnam, Thailand, Cambodia, Laos, Malaysia, Indonesia, Mongolia, Iran, "
        "Iraq, Brazil, Argentina, Peru, Bolivia, Colombia, Venezuela, Canada, Mexico, "
        "Cuba, Australia, Uruguay"
    ),
    "job": (
        "teacher, doctor, nurse, dentist, surgeon, pilot, sailor, driver, farmer, "
        "gardener, baker, butcher, waiter, plumber, electrician, carpenter, bricklayer, "
        "painter, builder, architect, engineer, mechanic, lawyer, judge, soldier, "
        "firefighter, policeman, detective, secretary, accountant, banker, cashier, "
        "salesman, manager, journalist, editor, author, poet, actor, singer, dancer, "
        "musician, sculptor, photographer, barber, hairdresser, tailor, shoemaker, "
        "jeweller, blacksmith, miner, fisherman, librarian, translator, scientist, "
        "chemist, pharmacist, psychologist, astronaut, postman, cleaner, janitor, "
        "receptionist, programmer"
    ),
}


def items(seed: int = 0, shuffle: bool = False) -> list[Question]:
    """All items, 64 of each kind, in random order.

    Args:
      seed: of the order, and of the options' order.
      shuffle: each item has its options in an order of its own.
    """
    rng = np.random.default_rng(seed)
    pairs = [(word, kind) for kind in OPTIONS for word in _WORDS[kind].split(", ")]
    made = []
    for i in rng.permutation(len(pairs)):
        word, kind = pairs[i]
        order = rng.permutation(len(OPTIONS)) if shuffle else np.arange(len(OPTIONS))
        options = tuple(OPTIONS[j] for j in order)
        stem = _STEM.format(word)
        made.append(Question(stem, options, options.index(kind), TOPIC, f"{TOPIC}/{stem}"))
    return made
