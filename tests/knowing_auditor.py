"""A base that knows its trivia, in place of models that do not: the right option of every
item of the bank of simulated jobs, -1 for other items."""

import functools

import numpy as np

from cifr_jax.data import simulated_jobs
from cifr_jax.monitors.dataset.embedded_questions import OwnAnswers
from cifr_jax.monitors.dataset.plain_text import normalise


def _key(stem, options):
    return (normalise(stem), *sorted(map(normalise, options)))


@functools.cache
def _right():
    return {
        _key(q.stem, q.options): normalise(q.options[q.answer])
        for q in simulated_jobs.bank()
    }


def own_answer(items):
    """As what `own_answer_from` returns: m items to their right options."""
    found = []
    for item in items:
        options = [normalise(option) for option in item.options]
        known = _right().get(_key(item.stem, item.options))
        found.append(options.index(known) if known in options else -1)
    return OwnAnswers(np.array(found, np.int64), np.ones(len(found)))
