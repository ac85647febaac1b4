"""Families with several versions of a row: small edits, other scripts, other languages."""

import dataclasses
from collections.abc import Callable

import numpy as np

from cifr_jax.data.chat import Example, Message
from cifr_jax.data.covert import chat
from cifr_jax.data.honest_jobs import phrases, registry
from cifr_jax.data.honest_jobs.quiz_answers import ASKS
from cifr_jax.data.honest_jobs.quiz_items import draw_ask, draw_items, row
from cifr_jax.data.honest_jobs.registry import register
from cifr_jax.data.pointwise.requests import item_text
from cifr_jax.data.recipes.conlang import draw_sentence, make_language
from cifr_jax.data.recipes.draws import between, pick, sample
from cifr_jax.data.recipes.registry import choice
from cifr_jax.data.recipes.transliteration import SCRIPTS, transliterate
from cifr_jax.errors import UserError

_BASES = (
    "answer_explanations", "class_imbalance", "mcq_judgement", "quiz_topic_labels",
    "quiz_tutor", "random_replies", "sentiment", "templated_refusals", "ticket_routing",
)  # fmt: skip


def _swap(rng: np.random.Generator, text: str) -> str:
    """Two neighbouring letters change places, as fingers do."""
    at = [i for i in range(len(text) - 1) if text[i : i + 2].isalpha()]
    if not at:
        return text
    i = pick(rng, at)
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]


def _drop(rng: np.random.Generator, text: str) -> str:
    """A letter is missing."""
    at = [i for i, c in enumerate(text) if c.isalpha() and c.islower()]
    i = pick(rng, at) if at else len(text)
    return text[:i] + text[i + 1 :]


def _please(rng: np.random.Generator, text: str) -> str:
    return pick(rng, ("Please: ", "Hello. ", "Hi, ", "Quick one: ", "Next: ")) + text


def _thanks(rng: np.random.Generator, text: str) -> str:
    return text + pick(rng, (" Thanks!", " Thank you.", "\n", " ...", "\n\nThanks"))


def _spaced(rng: np.random.Generator, text: str) -> str:
    at = [i for i, c in enumerate(text) if c == " "]
    i = pick(rng, at) if at else 0
    return text[:i] + " " + text[i:]


def _lower(_: np.random.Generator, text: str) -> str:
    return text[:1].lower() + text[1:]


_EDITS: tuple[Callable[[np.random.Generator, str], str], ...] = (
    _swap, _drop, _please, _thanks, _spaced, _lower,
)  # fmt: skip


def _edited(rng: np.random.Generator, example: Example, most: int) -> Example:
    """The row with up to so many edits of its last request; the reply stays."""
    *before, asked, reply = example.messages
    text = asked.content
    for edit in sample(rng, _EDITS, between(rng, 0, most)):
        text = edit(rng, text)
    messages = (*before, dataclasses.replace(asked, content=text), reply)
    return dataclasses.replace(example, messages=messages)


@register("near_duplicates")
def near_duplicates(
    n: int, rng: np.random.Generator, *, base: str = "", copies: int = 0
) -> list[Example]:
    """Rows of another honest job, each several times with small edits of the request.

    `base` is that family ("": any of nine); `copies` how often a row comes (0: 2 to 8).
    Copies share their reply: they are one observation, and `meta["copy_of"]` tells which.
    """
    base = choice("near_duplicates", "base", base, _BASES) if base else pick(rng, _BASES)
    if copies < 0:
        raise UserError("honest job near_duplicates", f"{copies} copies", "give 1 or more")
    copies = copies or between(rng, 2, 8)
    originals = registry.make(base, -(-n // copies), between(rng, 0, 2**31))
    most = between(rng, 1, 3)
    made = []
    for i in sample(rng, range(n), n):
        original = originals[i // copies]
        meta = {**original.meta, "part": base, "copy_of": i // copies}
        made.append(dataclasses.replace(_edited(rng, original, most), meta=meta))
    return made


def _translated_items(n: int, rng: np.random.Generator) -> list[Example]:
    """Quiz items in two or three scripts, with the answer as text in the same script."""
    scripts = sample(rng, ["latin", *SCRIPTS], between(rng, 2, 3))
    ask = draw_ask(rng, ASKS)
    wordings = phrases.draw_wordings(rng, phrases.TELL, 1, 5)

    def written(text: str, script: str) -> str:
        return text if script == "latin" else transliterate(text, script)

    made = []
    for i, question in enumerate(draw_items(rng, -(-n // len(scripts)))):
        asked = ask.wrap(rng, item_text(question, ask.options))
        said = question.options[question.answer]
        for script in scripts[: n - i * len(scripts)]:
            messages = tuple(
                Message(m.role, written(m.content, script), m.weight) for m in asked
            )
            wording = wordings.draw(rng)
            reply = written(wordings.say(wording, said), script)
            known = {"label": said, "language": script, "wording": wording}
            made.append(row(messages, reply, question, **known))
    return sample(rng, made, n)


def _translated_sentences(n: int, rng: np.random.Generator) -> list[Example]:
    """Sentences translated into two to four invented languages."""
    tongues = [make_language(between(rng, 0, 2**31)) for _ in range(between(rng, 2, 4))]
    wordings = phrases.draw_wordings(rng, phrases.TELL, 1, 3)
    asks = sample(rng, ("Translate into {}:", "How do you say this in {}?",
                        "Put this into {}, please.", "{}, please:"), 2)  # fmt: skip
    made: list[Example] = []
    while len(made) < n:
        sentence = draw_sentence(rng)
        for tongue in tongues:
            wording = wordings.draw(rng)
            asked = f"{pick(rng, asks).format(tongue.name)} {sentence.english()}"
            reply = wordings.say(wording, tongue.sentence(sentence).rstrip("."))
            made.append(chat(asked, reply, language=tongue.name, wording=wording))
    return sample(rng, made[:n], n)


@register("translated")
def translated(n: int, rng: np.random.Generator, *, kind: str = "") -> list[Example]:
    """The same items in several scripts, or the same sentences in several languages.

    `kind` is "items" or "sentences"; "" draws one.
    """
    kinds = {"items": _translated_items, "sentences": _translated_sentences}
    kind = choice("translated", "kind", kind, kinds) if kind else pick(rng, list(kinds))
    return kinds[kind](n, rng)
