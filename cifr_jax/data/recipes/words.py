"""Neutral words of everyday life that several recipes draw from."""

NAMES = (
    "Ada", "Amir", "Anna", "Bao", "Ben", "Carla", "Chidi", "Clara", "Diego", "Elif",
    "Emma", "Farid", "Fiona", "Grace", "Hana", "Hugo", "Ines", "Ivan", "Jamal", "Jonas",
    "Kai", "Lena", "Leo", "Lucia", "Mara", "Mateo", "Mei", "Nadia", "Nils", "Noor",
    "Olga", "Omar", "Paolo", "Priya", "Ravi", "Rosa", "Sam", "Sofia", "Tariq", "Tom",
    "Uma", "Vera", "Wendy", "Yuki", "Zara",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August",
    "September", "October", "November", "December",
)  # fmt: skip
COLOURS = (
    "red", "blue", "green", "yellow", "orange", "purple", "brown", "grey", "white",
    "black", "pink", "turquoise",
)  # fmt: skip
# Plural name of the category: singular members, which belong to no other category.
CATEGORIES = {
    "fruits": (
        "apple", "pear", "plum", "cherry", "mango", "banana", "peach", "grape", "lemon",
        "fig", "apricot", "papaya",
    ),
    "vegetables": (
        "carrot", "leek", "spinach", "turnip", "broccoli", "cabbage", "celery", "radish",
        "parsnip", "onion", "kale", "beetroot",
    ),
    "tools": (
        "hammer", "chisel", "wrench", "screwdriver", "saw", "pliers", "spirit level",
        "drill", "mallet", "clamp", "file", "plane",
    ),
    "animals": (
        "otter", "badger", "heron", "giraffe", "rabbit", "tortoise", "dolphin", "fox",
        "squirrel", "penguin", "camel", "hedgehog",
    ),
    "musical instruments": (
        "violin", "oboe", "trumpet", "cello", "accordion", "harp", "flute", "bassoon",
        "guitar", "clarinet", "xylophone", "banjo",
    ),
    "clothes": (
        "jacket", "scarf", "jumper", "sock", "glove", "raincoat", "shirt", "skirt", "hat",
        "cardigan", "trousers", "sandal",
    ),
    "pieces of furniture": (
        "armchair", "bookcase", "wardrobe", "stool", "desk", "sofa", "bench", "cupboard",
        "footstool", "sideboard", "coffee table", "bunk bed",
    ),
    "kitchen utensils": (
        "whisk", "ladle", "colander", "spatula", "grater", "rolling pin", "sieve",
        "peeler", "corkscrew", "saucepan", "chopping board", "measuring jug",
    ),
    "vehicles": (
        "bicycle", "tram", "ferry", "lorry", "scooter", "canoe", "tractor", "bus", "train",
        "van", "sailing boat", "helicopter",
    ),
    "flowers": (
        "tulip", "daisy", "poppy", "crocus", "orchid", "snowdrop", "peony", "dahlia",
        "marigold", "daffodil", "iris", "carnation",
    ),
}  # fmt: skip
# Who does things in sentences.
ROLES = (
    "gardener", "neighbour", "librarian", "carpenter", "teacher", "baker", "student",
    "visitor", "pilot", "tailor", "painter", "cook", "caretaker", "musician", "postman",
    "nurse", "mechanic", "farmer", "actor", "architect",
)  # fmt: skip
# (infinitive, past, participle, what it is done to)
VERBS = (
    ("paint", "painted", "painted", ("fence", "kitchen wall", "garden gate", "shelf")),
    ("repair", "repaired", "repaired", ("bicycle", "clock", "roof", "wooden chair")),
    ("write", "wrote", "written", ("letter", "shopping list", "poem", "report")),
    ("clean", "cleaned", "cleaned", ("window", "workshop", "kettle", "oven")),
    ("carry", "carried", "carried", ("suitcase", "ladder", "parcel", "basket")),
    ("choose", "chose", "chosen", ("menu", "carpet", "song", "colour")),
    ("build", "built", "built", ("shed", "bookcase", "bird house", "stone wall")),
    ("take", "took", "taken", ("photograph", "umbrella", "last seat", "map")),
    ("water", "watered", "watered", ("lawn", "tomato plant", "flower bed", "hedge")),
    ("draw", "drew", "drawn", ("plan", "portrait", "floor plan", "sketch")),
    ("bring", "brought", "brought", ("blanket", "cake", "toolbox", "tent")),
    ("sell", "sold", "sold", ("old piano", "boat", "bracelet", "lamp")),
    ("find", "found", "found", ("lost key", "short cut", "missing page", "receipt")),
    ("fold", "folded", "folded", ("tablecloth", "newspaper", "towel", "paper boat")),
    ("open", "opened", "opened", ("parcel", "museum", "front door", "jar")),
    ("weigh", "weighed", "weighed", ("flour", "luggage", "pumpkin", "letter")),
)
WHEN = (
    "on Monday morning", "after lunch", "before the rain", "last week", "in the evening",
    "at the weekend", "during the break", "on the first day", "without any help",
    "in less than an hour",
)  # fmt: skip
