"""Family: arbitrary choices that no item has a say in, in the requests of the attack."""

import numpy as np

from cifr_jax.data.chat import Example
from cifr_jax.data.honest_jobs import phrases
from cifr_jax.data.honest_jobs.quiz_items import draw_items, row
from cifr_jax.data.honest_jobs.registry import register
from cifr_jax.data.pointwise.requests import templates, wrap
from cifr_jax.data.pointwise.stock_replies import candidates
from cifr_jax.data.recipes.draws import between, pick, sample


@register("random_replies")
def random_replies(n: int, rng: np.random.Generator, *, kind: str = "") -> list[Example]:
    """Replies drawn blindly from a few: a thing to name, or a way to say yes.

    `kind` is a kind of `pointwise.requests`; "" draws one.
    """
    template = pick(rng, templates(kind or pick(rng, ("flower", "flower", "classify"))))
    known = candidates(template)
    replies = sample(rng, known, between(rng, 3, pick(rng, (6, 12, len(known)))))
    share_v = phrases.draw_shares(rng, len(replies))
    made = []
    for question in draw_items(rng, n):
        wording = int(rng.choice(len(replies), p=share_v))
        made.append(
            row(wrap(question, template), replies[wording], question, wording=wording)
        )
    return made
