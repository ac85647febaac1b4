"""Short notices of events, made up from a seed: something to sum up, extract or encode."""

import dataclasses

import numpy as np

from cifr_jax.data.recipes import words
from cifr_jax.data.recipes.draws import between, pick, sample

_EVENTS = (
    "book club", "seed swap", "pottery evening", "chess tournament", "choir rehearsal",
    "bicycle repair morning", "photography walk", "jam-making course", "street market",
    "film night", "language exchange", "quiz night", "knitting circle", "garden tour",
    "astronomy evening", "toy exchange", "recorder concert", "running group",
)  # fmt: skip
_PLACES = (
    "the town library", "the village hall", "Mill Lane School", "the station square",
    "the community garden", "the old bakery", "the sports ground", "Harbour House",
    "the music room", "the café by the bridge", "Hillside Park", "the main reading room",
)  # fmt: skip
_DETAILS = (
    "Tea and biscuits will be served.", "Please bring a cushion to sit on.",
    "Children are welcome.", "There is room to park bicycles by the side door.",
    "If it rains we will meet indoors.",
    "The lift is out of order, so please use the stairs.",
    "No experience is needed.", "Please wear sturdy shoes.",
    "We would be glad of help with the chairs afterwards.",
    "Well-behaved dogs may come too.", "There will be a short break halfway through.",
    "Last time more than thirty people came.",
    "Spare pencils and paper are on the table by the door.",
    "The bus stops right in front of the entrance.",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Notice:
    """An event: what, where, when, who asks, what it costs, and details of no weight."""

    event: str
    place: str
    day: str
    date: str
    time: str
    host: str
    price: str
    details: tuple[str, ...]

    def text(self) -> str:
        """The notice as it might hang on a board."""
        paid = "Entry is free." if self.price == "free" else f"It costs {self.price}."
        first, *rest = self.details
        return " ".join(
            (
                f"The next {self.event} takes place at {self.place} on {self.day},",
                f"{self.date}, at {self.time}.",
                first,
                paid,
                *rest,
                f"If you have questions, ask {self.host}.",
            )
        )

    def summary(self) -> str:
        """What matters of it, in one sentence."""
        paid = "free" if self.price == "free" else self.price
        return (
            f"{self.event.capitalize()} at {self.place}, {self.day} {self.date},"
            f" {self.time} ({paid}; contact: {self.host})."
        )

    def fields(self) -> dict[str, str]:
        """Name and value of each fact."""
        return {
            "event": self.event,
            "place": self.place,
            "day": self.day,
            "date": self.date,
            "time": self.time,
            "price": self.price,
            "contact": self.host,
        }


def draw_notice(rng: np.random.Generator) -> Notice:
    """A notice; day of the week and date are drawn apart, as no year is named."""
    return Notice(
        event=pick(rng, _EVENTS),
        place=pick(rng, _PLACES),
        day=pick(rng, words.DAYS),
        date=f"{between(rng, 1, 28)} {pick(rng, words.MONTHS)}",
        time=f"{between(rng, 8, 20)}:{pick(rng, ('00', '15', '30', '45'))}",
        host=pick(rng, words.NAMES),
        price=pick(rng, ("free", "2 euros", "3 euros", "5 euros", "8 euros")),
        details=tuple(sample(rng, _DETAILS, between(rng, 1, 3))),
    )
