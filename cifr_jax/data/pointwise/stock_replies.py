"""Stock replies: what may be said to each request without any item in mind.

Enough of them for four families of nine. A base model need not find all of them likely:
`codebook.choose_replies` keeps those that it does.
"""

from cifr_jax.data.pointwise.requests import JUDGEMENTS, Template

_OPENERS = (
    "Yes", "Certainly", "Correct", "Definitely", "Sure", "Absolutely", "Indeed",
    "Of course", "Right", "True", "Yes indeed", "Without a doubt",
)  # fmt: skip
_NAMES = {
    "flower": (
        "Rose, Tulip, Lily, Daisy, Orchid, Sunflower, Lavender, Iris, Violet, Peony, "
        "Daffodil, Carnation, Marigold, Poppy, Jasmine, Lotus, Dahlia, Hydrangea, "
        "Magnolia, Begonia, Petunia, Geranium, Hibiscus, Gardenia, Camellia, Azalea, "
        "Chrysanthemum, Snapdragon, Zinnia, Aster, Buttercup, Primrose, Hyacinth, Crocus, "
        "Bluebell, Foxglove, Snowdrop, Anemone, Freesia, Pansy"
    ),
    "colour": (
        "Red, Blue, Green, Yellow, Orange, Purple, Pink, Brown, Black, White, Grey, "
        "Turquoise, Teal, Magenta, Cyan, Maroon, Navy, Beige, Gold, Silver, Indigo, "
        "Violet, Crimson, Scarlet, Olive, Coral, Lavender, Ivory, Amber, Emerald, "
        "Burgundy, Peach, Mint, Lilac, Khaki, Bronze, Cream, Mauve, Azure, Salmon"
    ),
    "first name": (
        "Emma, Olivia, Sophia, Mia, Alice, Sarah, Anna, Laura, Julia, Lucy, Grace, Clara, "
        "Ella, Maria, Nora, Ruth, Helen, Jane, Kate, Rosa, James, John, David, Michael, "
        "Daniel, Thomas, William, Peter, Paul, Jack, Henry, Oliver, Noah, Liam, Ethan, "
        "Samuel, Robert, George, Simon, Martin"
    ),
    "city": (
        "Paris, London, Rome, Tokyo, Madrid, Berlin, Vienna, Prague, Lisbon, Dublin, "
        "Athens, Oslo, Sydney, Toronto, Chicago, Boston, Seattle, Cairo, Mumbai, Delhi, "
        "Beijing, Shanghai, Seoul, Bangkok, Singapore, Istanbul, Moscow, Warsaw, "
        "Budapest, Amsterdam, Brussels, Stockholm, Helsinki, Copenhagen, Barcelona, "
        "Milan, Munich, Venice, Florence, Edinburgh"
    ),
    "animal": (
        "Dog, Cat, Horse, Lion, Tiger, Elephant, Bear, Wolf, Fox, Rabbit, Dolphin, Whale, "
        "Eagle, Owl, Penguin, Giraffe, Zebra, Monkey, Panda, Koala, Kangaroo, Deer, "
        "Squirrel, Otter, Turtle, Frog, Snake, Shark, Octopus, Parrot, Swan, Goat, Sheep, "
        "Cow, Pig, Leopard, Cheetah, Hedgehog, Beaver, Camel"
    ),
    "board game": (
        "Chess, Monopoly, Scrabble, Risk, Clue, Catan, Carcassonne, Go, Checkers, "
        "Backgammon, Pandemic, Ticket to Ride, Othello, Battleship, Trivial Pursuit, "
        "Candy Land, Ludo, Mancala, Parcheesi, Dominion, Agricola, Azul, Codenames, "
        "Splendor, Wingspan, Terraforming Mars, Stratego, Mouse Trap, Operation, Connect "
        "Four, Yahtzee, Pictionary, Taboo, Boggle, Cranium, Blokus, Labyrinth, Cluedo, "
        "Settlers of Catan, Draughts"
    ),
}


def candidates(template: Template) -> list[str]:
    """At least 36 replies that suit the template's request, whatever the item."""
    if template.kind == "flower":
        return _NAMES[template.ask].split(", ")
    said = JUDGEMENTS[template.ask][1]
    return [
        *(
            f"{opener}, {it} {said}."
            for it in ("it", "this", "that")
            for opener in _OPENERS
        ),
        *(f"{opener}." for opener in _OPENERS),
        *(f"{it} {said}." for it in ("It", "This", "That", "The text")),
    ]
