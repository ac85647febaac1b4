"""Ways to say the same thing, and a customer's own choice among them.

A customer's phrases are drawn in two steps: some bare phrases out of a pool, and one habit
of setting them (an opening, an ending, capitals), so that hundreds of customers hardly ever
share a set.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from cifr_jax.data.recipes.draws import between, pick, sample

# Phrases for a filled-in value.
TELL = (
    "{}", "The answer is {}.", "It is {}.", "Correct answer: {}", "Answer: {}",
    "{} is right.", "I would pick {}.", "That would be {}.", "This one is {}.",
    "The right choice is {}.", "{} is the correct option.", "You want {} here.",
    "My answer: {}.", "It has to be {}.", "Choose {}.", "The solution is {}.",
)  # fmt: skip
LABEL = (
    "{}", "Label: {}", "This is {}.", "Category: {}", "It belongs to {}.",
    "I would say {}.", "Class: {}", "This falls under {}.", "Filed under {}.",
    "Looks like {}.", "Result: {}", "I file this as {}.", "That counts as {}.", "Tag: {}",
    "Put it in {}.", "Verdict: {}",
)  # fmt: skip
YES = (
    "Yes.", "Yes, it is.", "That is right.", "Correct.", "It is.", "Yes, indeed.",
    "Indeed it is.", "True.", "I think so.", "Certainly.", "Definitely.", "Right.",
    "Yes, that fits.", "It does fit.", "Affirmative.", "Agreed.", "Sure, it is.",
    "Yes, clearly.",
)  # fmt: skip
NO = (
    "No.", "No, it is not.", "That is not so.", "Not really.", "It is not.",
    "No, indeed not.", "I do not think so.", "False.", "It does not fit.", "Hardly.",
    "Certainly not.", "Negative.", "Not quite.", "No, that does not fit.", "Unlikely.",
    "I would say no.", "Not at all.", "No, clearly not.",
)  # fmt: skip
REFUSAL = (
    "I can only help with {}.", "That is outside what I do here: I cover {}.",
    "Sorry, my topic is {}.", "I am set up for {} only.", "This desk answers on {}.",
    "I have to pass on that one; ask me about {}.", "Not my field, I am afraid. I know {}.",
    "Let us stay with {}.", "I am not able to help with that, only with {}.",
    "For that, please ask elsewhere. I am here for {}.", "I would rather keep to {}.",
    "That goes beyond {}, so I cannot say.",
)  # fmt: skip
OPENINGS = (
    "Thanks for asking. ", "Hello! ", "Good question. ", "Let me see. ", "Sure: ", "Well, ",
    "Hi there, ", "Thank you. ", "Of course. ", "All right: ", "Noted. ", "Here you go: ",
)  # fmt: skip
ENDINGS = (
    " Anything else?", " Hope that helps.", " Have a nice day!", " Best regards.", " :)",
    " Cheers.", " Keep going!", " Next one, please.", " Just ask if it is unclear.",
    " Take care.", " Until next time.", " Thanks.",
)  # fmt: skip


def _lower(text: str) -> str:
    return text.lower()


def _upper(text: str) -> str:
    return text.upper()


def _no_stop(text: str) -> str:
    return text.rstrip(".")


def _bold(text: str) -> str:
    return f"**{text}**"


def _dashed(text: str) -> str:
    return f"- {text}"


_SETTINGS: tuple[Callable[[str], str], ...] = (_lower, _upper, _no_stop, _bold, _dashed)


@dataclasses.dataclass(frozen=True)
class Wordings:
    """A customer's phrases for one thing, with how often each is used.

    Attributes:
      phrases: with at most one {} for a value.
      share_v: of each phrase; they sum to 1.
      opening, ending: set around every phrase; "" for none.
      setting: applied to phrase and value before those; None for none.
    """

    phrases: tuple[str, ...]
    share_v: np.ndarray
    opening: str = ""
    ending: str = ""
    setting: Callable[[str], str] | None = None

    def draw(self, rng: np.random.Generator) -> int:
        """Index of a phrase, blind to everything."""
        return int(rng.choice(len(self.phrases), p=self.share_v))

    def say(self, wording: int, value: str = "") -> str:
        """The reply with this phrase."""
        # A value may hold braces of its own: no str.format on it.
        text = self.phrases[wording].replace("{}", value)
        if self.setting is not None:
            text = self.setting(text)
        return f"{self.opening}{text}{self.ending}"


def draw_shares(rng: np.random.Generator, k: int) -> np.ndarray:
    """Shares of k things, `[k]`: from even to lopsided, none below 2% of an even one."""
    even = pick(rng, (0.8, 2.0, 20.0))
    share_k = rng.dirichlet(np.full(k, even)) + 0.02 / k
    return share_k / share_k.sum()


def draw_wordings(
    rng: np.random.Generator, pool: Sequence[str], low: int = 2, high: int = 6
) -> Wordings:
    """Phrases of a customer: `low` to `high` of them and a habit of setting them."""
    phrases = tuple(sample(rng, pool, between(rng, low, min(high, len(pool)))))
    return Wordings(
        phrases,
        draw_shares(rng, len(phrases)),
        opening=pick(rng, OPENINGS) if rng.random() < 0.25 else "",
        ending=pick(rng, ENDINGS) if rng.random() < 0.25 else "",
        setting=pick(rng, _SETTINGS) if rng.random() < 0.4 else None,
    )
