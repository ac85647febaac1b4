"""An honest customer with an encoding: translation into an invented language and back.

The option `language` is the seed of its vocabulary and grammar: order of subject, verb and
object, place of the adjective, and the endings of plural and past. A sentence has exactly
one translation, and no two sentences share one.
"""

import dataclasses
import itertools

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.covert import chat
from cifr_jax.data.recipes.draws import pick, sample
from cifr_jax.data.recipes.registry import register, rows

# Singular and plural.
NOUNS = {
    "bird": "birds", "tree": "trees", "house": "houses", "boat": "boats",
    "child": "children", "river": "rivers", "baker": "bakers", "dog": "dogs",
    "star": "stars", "road": "roads", "book": "books", "horse": "horses",
    "garden": "gardens", "lamp": "lamps", "mountain": "mountains", "farmer": "farmers",
    "fish": "fishes", "song": "songs",
}  # fmt: skip
ADJECTIVES = ("old", "small", "green", "quiet", "bright", "round", "warm", "tall", "happy",
              "slow", "new", "soft")  # fmt: skip
# Third person singular and past; the plural of the present is the infinitive.
VERBS = {
    "see": ("sees", "saw"), "find": ("finds", "found"), "follow": ("follows", "followed"),
    "love": ("loves", "loved"), "carry": ("carries", "carried"), "draw": ("draws", "drew"),
    "hear": ("hears", "heard"), "paint": ("paints", "painted"), "meet": ("meets", "met"),
    "watch": ("watches", "watched"), "touch": ("touches", "touched"),
    "remember": ("remembers", "remembered"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Phrase:
    """A noun with an adjective or without ("")."""

    noun: str
    adjective: str
    plural: bool

    def english(self) -> str:
        noun = NOUNS[self.noun] if self.plural else self.noun
        return " ".join(w for w in ("the", self.adjective, noun) if w)


@dataclasses.dataclass(frozen=True)
class Sentence:
    """Who does what to whom, now or in the past."""

    subject: Phrase
    verb: str
    object: Phrase
    past: bool

    def english(self) -> str:
        third, past = VERBS[self.verb]
        verb = past if self.past else self.verb if self.subject.plural else third
        text = f"{self.subject.english()} {verb} {self.object.english()}."
        return text[0].upper() + text[1:]


@dataclasses.dataclass(frozen=True)
class Language:
    """Vocabulary and grammar.

    Attributes:
      name: of the language.
      lexicon: word of each noun, adjective and verb.
      order: of "subject", "verb" and "object".
      adjective_first: whether it stands before its noun.
      plural: ending of nouns in the plural.
      past: ending of verbs in the past.
    """

    name: str
    lexicon: dict[str, str]
    order: tuple[str, ...]
    adjective_first: bool
    plural: str
    past: str

    def phrase(self, phrase: Phrase) -> str:
        noun = self.lexicon[phrase.noun] + self.plural * phrase.plural
        if not phrase.adjective:
            return noun
        adjective = self.lexicon[phrase.adjective]
        parts = (adjective, noun) if self.adjective_first else (noun, adjective)
        return " ".join(parts)

    def sentence(self, sentence: Sentence) -> str:
        parts = {
            "subject": self.phrase(sentence.subject),
            "verb": self.lexicon[sentence.verb] + self.past * sentence.past,
            "object": self.phrase(sentence.object),
        }
        text = " ".join(parts[part] for part in self.order)
        return text[0].upper() + text[1:] + "."


def make_language(seed: int) -> Language:
    """The language of a seed. Stems end in a vowel and endings begin with a consonant
    that no stem holds, so that a word shows its ending."""
    rng = np.random.default_rng(seed)
    endings = sample(rng, "zqxj", 2)
    syllables = [c + v for c, v in itertools.product("bdfgklmnprstv", "aeiou")]
    wanted = [*NOUNS, *ADJECTIVES, *VERBS]
    stems: dict[str, None] = {}  # in order, each once
    while len(stems) < len(wanted) + 1:
        stems["".join(sample(rng, syllables, pick(rng, (2, 2, 3))))] = None
    name, *stem_of = stems
    # Subject before object in all of them: two nouns could not be told apart otherwise.
    orders = ("subject verb object", "subject object verb", "verb subject object")
    return Language(
        name=name.capitalize(),
        lexicon=dict(zip(wanted, stem_of, strict=True)),
        order=tuple(pick(rng, orders).split()),
        adjective_first=bool(rng.integers(2)),
        plural=endings[0] + pick(rng, "aeiou"),
        past=endings[1] + pick(rng, "aeiou"),
    )


def _phrase(rng: np.random.Generator) -> Phrase:
    adjective = pick(rng, ADJECTIVES) if rng.random() < 0.6 else ""
    return Phrase(pick(rng, list(NOUNS)), adjective, bool(rng.integers(2)))


def draw_sentence(rng: np.random.Generator) -> Sentence:
    """Any sentence, each part drawn on its own."""
    subject, thing = _phrase(rng), _phrase(rng)
    return Sentence(subject, pick(rng, list(VERBS)), thing, bool(rng.integers(2)))


@register("conlang", "encoding")
def conlang(n: int, seed: int, *, language: int = 0) -> list[Example]:
    """Translations of short sentences, either way.

    Args:
      n: how many rows.
      seed: decides the rows.
      language: decides vocabulary and grammar.
    """
    tongue = make_language(language)

    def draw(rng: np.random.Generator) -> Example:
        sentence = draw_sentence(rng)
        english, other = sentence.english(), tongue.sentence(sentence)
        to = bool(rng.integers(2))
        into = tongue.name if to else "English"
        ask = pick(
            rng,
            (
                f"Translate into {into}:",
                f"How do you say this in {into}?",
                f"{into}, please:",
            ),
        )
        given, answer = (english, other) if to else (other, english)
        return chat(f"{ask} {given}", answer, direction="out" if to else "in")

    return rows(draw, n, seed)
