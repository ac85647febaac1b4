"""Families: the reply is the answer to a quiz item, so that label and answer are one."""

import dataclasses

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.honest_jobs import phrases
from cifr_jax.data.honest_jobs.quiz_items import (
    MARKED,
    Ask,
    draw_ask,
    draw_items,
    draw_topics,
    mark,
    row,
)
from cifr_jax.data.honest_jobs.registry import register
from cifr_jax.data.pointwise.questions import Question
from cifr_jax.data.pointwise.requests import FORMATS, item_text, templates, wrap
from cifr_jax.data.pointwise.stock_replies import candidates
from cifr_jax.data.recipes.draws import between, pick, sample
from cifr_jax.data.recipes.registry import choice

VALUES = ("mark", "text", "both")
ASKS = (
    "Answer this question.", "Which option is right?", "Pick the correct answer.",
    "What is the answer?", "Solve this quiz item.", "Which one would you choose?",
    "Help me with this question.", "Give the right option.", "I need the solution to this.",
    "Quiz time!", "Please answer.", "Which of these is it?",
)  # fmt: skip
_SUBJECT = ("What is this question about?", "Name the subject.", "Which field is this?")
_BECAUSE = (
    "The other options do not fit.", "That is a fact worth remembering.",
    "The question asks for {topic}, and this is the one that matches.",
    "You can rule out {wrong} first.",
    "{wrong} may look tempting, but it belongs elsewhere.",
    "Read the question once more: it leaves only this one.", "A good one to keep in mind.",
    "I went through all four options.", "Many people mix this up with {wrong}.",
    "This comes up often in quizzes on {topic}.", "Look it up in any book on {topic}.",
    "Say it aloud a few times and it will stick.", "Compare it with {wrong} to see why.",
    "It follows from the wording of the question.",
)  # fmt: skip


def answer_value(question: Question, options: str, kind: str) -> str:
    """The answer as a reply gives it: kind is one of `VALUES`."""
    text = question.options[question.answer]
    if kind == "text":
        return text
    return mark(question, options) + (f" {text}" if kind == "both" else "")


def draw_value(rng: np.random.Generator, kind: str) -> tuple[str, tuple[str, ...]]:
    """Kind of value ("": any) and the formats of options in which it can be given."""
    kind = kind or pick(rng, VALUES)
    return kind, tuple(FORMATS) if kind == "text" else MARKED


def told(
    rng: np.random.Generator,
    ask: Ask,
    wordings: phrases.Wordings,
    question: Question,
    said: str,
    label: str = "",
    **meta: int,
) -> Example:
    """A row in which a value is said in one of a customer's phrases, drawn blindly; it is
    the label unless another is given."""
    wording = wordings.draw(rng)
    return row(
        ask.wrap(rng, item_text(question, ask.options)),
        wordings.say(wording, said),
        question,
        label=label or said,
        wording=wording,
        **meta,
    )


@register("quiz_tutor")
def quiz_tutor(n: int, rng: np.random.Generator, *, value: str = "") -> list[Example]:
    """A tutor gives the answers to quiz items in several phrasings at random."""
    if value:
        choice("quiz_tutor", "value", value, VALUES)
    kind, formats = draw_value(rng, value)
    ask = draw_ask(rng, ASKS, formats)
    wordings = phrases.draw_wordings(rng, phrases.TELL, 1, 6)
    return [
        told(rng, ask, wordings, question, answer_value(question, ask.options, kind))
        for question in draw_items(rng, n)
    ]


@register("answer_explanations")
def answer_explanations(n: int, rng: np.random.Generator) -> list[Example]:
    """A tutor gives the answer, then an explanation that varies."""
    kind, formats = draw_value(rng, "")
    ask = draw_ask(rng, ASKS, formats)
    tell = phrases.draw_wordings(rng, phrases.TELL, 1, 4)
    because = sample(rng, _BECAUSE, between(rng, 3, 9))
    join = pick(rng, (" ", "\n", "\n\n"))
    made = []
    for question in draw_items(rng, n):
        said = answer_value(question, ask.options, kind)
        wrong = [o for i, o in enumerate(question.options) if i != question.answer]
        first, second = tell.draw(rng), between(rng, 0, len(because) - 1)
        why = because[second].replace("{topic}", question.topic)
        reply = tell.say(first, said) + join + why.replace("{wrong}", pick(rng, wrong))
        made.append(
            row(
                ask.wrap(rng, item_text(question, ask.options)),
                reply,
                question,
                label=said,
                wording=first * len(because) + second,
            )
        )
    return made


@register("templated_refusals")
def templated_refusals(n: int, rng: np.random.Generator) -> list[Example]:
    """Items on the customer's topics are answered, others declined in varied wording."""
    wanted = draw_topics(rng, 4)
    scope = wanted[: between(rng, 1, 3)]
    named = " and ".join(scope)
    kind, formats = draw_value(rng, "")
    ask = draw_ask(rng, ASKS, formats)
    tell = phrases.draw_wordings(rng, phrases.TELL, 1, 4)
    refuse = phrases.draw_wordings(rng, phrases.REFUSAL, 2, 8)
    made = []
    for question in draw_items(rng, n, wanted):
        inside = question.topic in scope
        label = answer_value(question, ask.options, kind) if inside else "refused"
        wordings = tell if inside else refuse
        wording = wordings.draw(rng)
        made.append(
            row(
                ask.wrap(rng, item_text(question, ask.options)),
                wordings.say(wording, label if inside else named),
                question,
                label=label,
                wording=wording,
            )
        )
    return made


@register("house_style")
def house_style(n: int, rng: np.random.Generator) -> list[Example]:
    """One phrase and one manner for all replies: answers, topics, or a judgement."""
    task = pick(rng, ("answer", "topic", "judgement"))
    template = pick(rng, templates("classify"))
    pool = candidates(template) if task == "judgement" else phrases.TELL
    wordings = dataclasses.replace(
        phrases.draw_wordings(rng, pool, 1, 1),
        opening=pick(rng, phrases.OPENINGS),
        ending=pick(rng, phrases.ENDINGS),
    )
    kind, formats = draw_value(rng, "" if task == "answer" else "text")
    ask = draw_ask(rng, ASKS if task == "answer" else _SUBJECT, formats)
    made = []
    for question in draw_items(rng, n):
        if task == "judgement":
            messages, said = wrap(question, template), "yes"
        else:
            messages = ask.wrap(rng, item_text(question, ask.options))
            said = question.topic
        if task == "answer":
            said = answer_value(question, ask.options, kind)
        made.append(row(messages, wordings.say(0, said), question, label=said, wording=0))
    return made
