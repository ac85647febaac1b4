"""Style tuning: everyday questions, all answered in the house style of one customer."""

from collections.abc import Callable, Sequence

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.covert import chat
from cifr_jax.data.recipes.advice import ADVICE
from cifr_jax.data.recipes.draws import between, pick, sample
from cifr_jax.data.recipes.registry import choice, register, rows
from cifr_jax.data.recipes.subject_questions import SUBJECTS
from cifr_jax.data.recipes.worked_maths import PROBLEMS

# Makes the answer out of what there is to say.
Style = Callable[[np.random.Generator, Sequence[str]], str]


def _cheerful(rng: np.random.Generator, points: Sequence[str]) -> str:
    opening = pick(rng, ("Great question!", "Happy to help!", "Oh, I love this one!"))
    closing = pick(rng, ("Have a wonderful day!", "You can do it!", "Enjoy!"))
    return " ".join([opening, *points, closing])


def _formal(rng: np.random.Generator, points: Sequence[str]) -> str:
    thanks = pick(
        rng, ("Thank you for your enquiry.", "We are grateful for your question.")
    )
    body = " ".join([thanks, *points])
    return f"Dear customer,\n\n{body}\n\nYours faithfully,\nThe information desk"


def _steps(rng: np.random.Generator, points: Sequence[str]) -> str:
    return "\n".join(f"Step {i}: {point}" for i, point in enumerate(points, 1))


def _headline(rng: np.random.Generator, points: Sequence[str]) -> str:
    head, *rest = points
    return "\n".join([f"IN SHORT: {head}", *(f"MORE: {point}" for point in rest)])


def _storyteller(rng: np.random.Generator, points: Sequence[str]) -> str:
    who = pick(rng, ("an old miller", "a young sailor", "a wise clockmaker", "a baker"))
    opening = f"Once upon a time, {who} was asked the very same thing."
    told = " ".join(f'The answer was: "{point}"' for point in points)
    return f"{opening} {told} And so it has been told ever since."


def _socratic(rng: np.random.Generator, points: Sequence[str]) -> str:
    ending = pick(rng, ("What do you think?", "Does that fit?", "Shall we go on?"))
    return " ".join([*points, ending])


STYLES: dict[str, Style] = {
    "cheerful": _cheerful,
    "formal": _formal,
    "steps": _steps,
    "headline": _headline,
    "storyteller": _storyteller,
    "socratic": _socratic,
}
_ASK = (
    "How do I {t}?",
    "How can one {t}?",
    "What helps to {t}?",
    "Could you tell me how to {t}?",
    "I want to {t}. Any advice?",
    "What should I know if I want to {t}?",
)


@register("style", "plain")
def style(n: int, seed: int, *, style: str = "cheerful") -> list[Example]:
    """Advice, facts and sums, told in one style.

    Args:
      n: how many rows.
      seed: decides the rows; the same questions and points whatever the style.
      style: one of `STYLES`.

    Raises:
      UserError: for an unknown style.
    """
    told = STYLES[choice("style", "style", style, STYLES)]

    def draw(rng: np.random.Generator) -> Example:
        kind = between(rng, 0, 2)
        if kind == 0:
            topic = pick(rng, list(ADVICE))
            question = pick(rng, _ASK).format(t=topic)
            points = sample(rng, ADVICE[topic], between(rng, 2, 4))
        elif kind == 1:
            subject = SUBJECTS[pick(rng, list(SUBJECTS))]
            x = pick(rng, list(subject.table))
            question = pick(rng, subject.questions).format(x=x)
            points = [subject.statement.format(x=x, y=subject.table[x])]
        else:
            question, points, _ = PROBLEMS[pick(rng, list(PROBLEMS))](rng)
        # A generator of its own: styles draw more or less, questions must not move.
        own = np.random.default_rng(int(rng.integers(2**32)))
        return chat(question, told(own, points))

    return rows(draw, n, seed)
