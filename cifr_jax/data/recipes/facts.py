"""Plain facts about the world, as tables: what everybody may know and nobody disputes."""

CAPITALS = {
    "Albania": "Tirana", "Algeria": "Algiers", "Angola": "Luanda",
    "Argentina": "Buenos Aires", "Australia": "Canberra", "Austria": "Vienna",
    "Bangladesh": "Dhaka", "Belgium": "Brussels", "Botswana": "Gaborone",
    "Brazil": "Brasília", "Bulgaria": "Sofia", "Cambodia": "Phnom Penh",
    "Canada": "Ottawa", "Chile": "Santiago", "Colombia": "Bogotá", "Croatia": "Zagreb",
    "Cuba": "Havana", "Czechia": "Prague", "Denmark": "Copenhagen", "Ecuador": "Quito",
    "Egypt": "Cairo", "Estonia": "Tallinn", "Ethiopia": "Addis Ababa", "Fiji": "Suva",
    "Finland": "Helsinki", "France": "Paris", "Germany": "Berlin", "Ghana": "Accra",
    "Greece": "Athens", "Hungary": "Budapest", "Iceland": "Reykjavík",
    "India": "New Delhi", "Ireland": "Dublin", "Italy": "Rome", "Jamaica": "Kingston",
    "Japan": "Tokyo", "Jordan": "Amman", "Kenya": "Nairobi", "Laos": "Vientiane",
    "Latvia": "Riga", "Lithuania": "Vilnius", "Madagascar": "Antananarivo",
    "Malta": "Valletta", "Mexico": "Mexico City", "Mongolia": "Ulaanbaatar",
    "Morocco": "Rabat", "Mozambique": "Maputo", "Namibia": "Windhoek",
    "Nepal": "Kathmandu", "New Zealand": "Wellington", "Norway": "Oslo", "Oman": "Muscat",
    "Panama": "Panama City", "Paraguay": "Asunción", "Peru": "Lima",
    "Philippines": "Manila", "Poland": "Warsaw", "Portugal": "Lisbon",
    "Romania": "Bucharest", "Rwanda": "Kigali", "Senegal": "Dakar",
    "Slovakia": "Bratislava", "Slovenia": "Ljubljana", "South Korea": "Seoul",
    "Spain": "Madrid", "Sweden": "Stockholm", "Thailand": "Bangkok",
    "Tunisia": "Tunis", "Turkey": "Ankara", "Uganda": "Kampala",
    "Uruguay": "Montevideo", "Vietnam": "Hanoi", "Zambia": "Lusaka",
    "Zimbabwe": "Harare",
}  # fmt: skip
# Symbols in the order of the atomic numbers, from 1.
ELEMENTS = {
    "hydrogen": "H", "helium": "He", "lithium": "Li", "beryllium": "Be", "boron": "B",
    "carbon": "C", "nitrogen": "N", "oxygen": "O", "fluorine": "F", "neon": "Ne",
    "sodium": "Na", "magnesium": "Mg", "aluminium": "Al", "silicon": "Si",
    "phosphorus": "P", "sulphur": "S", "chlorine": "Cl", "argon": "Ar", "potassium": "K",
    "calcium": "Ca", "scandium": "Sc", "titanium": "Ti", "vanadium": "V", "chromium": "Cr",
    "manganese": "Mn", "iron": "Fe", "cobalt": "Co", "nickel": "Ni", "copper": "Cu",
    "zinc": "Zn", "gallium": "Ga", "germanium": "Ge", "arsenic": "As", "selenium": "Se",
    "bromine": "Br", "krypton": "Kr", "rubidium": "Rb", "strontium": "Sr", "yttrium": "Y",
    "zirconium": "Zr", "niobium": "Nb", "molybdenum": "Mo", "technetium": "Tc",
    "ruthenium": "Ru", "rhodium": "Rh", "palladium": "Pd", "silver": "Ag", "cadmium": "Cd",
    "indium": "In", "tin": "Sn", "antimony": "Sb", "tellurium": "Te", "iodine": "I",
    "xenon": "Xe",
}  # fmt: skip
YOUNG = {
    "cat": "kitten", "dog": "puppy", "cow": "calf", "horse": "foal", "sheep": "lamb",
    "goat": "kid", "hen": "chick", "duck": "duckling", "goose": "gosling", "swan": "cygnet",
    "lion": "cub", "deer": "fawn", "kangaroo": "joey", "frog": "tadpole", "pig": "piglet",
    "owl": "owlet", "hare": "leveret", "eagle": "eaglet", "butterfly": "caterpillar",
}  # fmt: skip
PAST_TENSE = {
    "begin": "began", "blow": "blew", "break": "broke", "bring": "brought", "buy": "bought",
    "catch": "caught", "choose": "chose", "come": "came", "draw": "drew", "drink": "drank",
    "drive": "drove", "eat": "ate", "fall": "fell", "feel": "felt", "find": "found",
    "fly": "flew", "forget": "forgot", "freeze": "froze", "give": "gave", "go": "went",
    "grow": "grew", "hold": "held", "keep": "kept", "know": "knew", "leave": "left",
    "lose": "lost", "make": "made", "meet": "met", "ride": "rode", "ring": "rang",
    "rise": "rose", "run": "ran", "see": "saw", "sing": "sang", "sleep": "slept",
    "speak": "spoke", "stand": "stood", "steal": "stole", "swim": "swam", "take": "took",
    "teach": "taught", "tell": "told", "think": "thought", "throw": "threw",
    "wear": "wore", "win": "won", "write": "wrote",
}  # fmt: skip
PLURALS = {
    "child": "children", "foot": "feet", "goose": "geese", "half": "halves",
    "knife": "knives", "leaf": "leaves", "life": "lives", "loaf": "loaves", "man": "men",
    "mouse": "mice", "ox": "oxen", "person": "people", "shelf": "shelves",
    "thief": "thieves", "tooth": "teeth", "wife": "wives", "wolf": "wolves",
    "woman": "women", "crisis": "crises", "oasis": "oases", "phenomenon": "phenomena",
}  # fmt: skip
UNITS = {
    "length": "metre", "mass": "kilogram", "time": "second", "electric current": "ampere",
    "temperature": "kelvin", "amount of substance": "mole", "luminous intensity": "candela",
    "force": "newton", "energy": "joule", "power": "watt", "pressure": "pascal",
    "frequency": "hertz", "electric charge": "coulomb", "voltage": "volt",
    "electric resistance": "ohm", "capacitance": "farad", "magnetic flux": "weber",
    "inductance": "henry",
}  # fmt: skip
POLYGONS = {
    "triangle": "3", "quadrilateral": "4", "pentagon": "5", "hexagon": "6",
    "heptagon": "7", "octagon": "8", "nonagon": "9", "decagon": "10", "dodecagon": "12",
}  # fmt: skip
_ROMAN = (
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"),
    (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
)  # fmt: skip


def roman(number: int) -> str:
    """A number from 1 to 3999 in Roman numerals."""
    text = ""
    for value, letters in _ROMAN:
        count, number = divmod(number, value)
        text += letters * count
    return text
