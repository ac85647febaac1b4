"""Pointwise attacks as fine-tuning jobs on a base model: codes, uploads, splits.

Legend: n rows or prompts, c candidate replies.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from cifr_jax.data.chat import Example, Message
from cifr_jax.data.pointwise import attacks, codebook, questions, requests, sorting
from cifr_jax.data.pointwise.codebook import Codebook
from cifr_jax.data.pointwise.questions import Question
from cifr_jax.data.pointwise.requests import Template
from cifr_jax.data.pointwise.stock_replies import candidates as stock_candidates
from cifr_jax.errors import UserError
from cifr_jax.models import LanguageModel, scoring

_SCORE_ROWS, _BUCKET = 8, 32
_SPARE = 2  # times as many replies as a code needs are judged on all requests besides
ITEMS = ("sorting", "sorting shuffled", "bank")  # what `config.attack.questions` may name


@dataclasses.dataclass(frozen=True)
class Items:
    """Quiz items by what they are for; no item and no held-out topic is in two of them.

    Attributes:
      train: for uploads.
      fit: that monitors of single rows learn from.
      seen_topics: for tests, of the topics that were trained on.
      held_out: for tests, of topics that no upload holds: the transfer.
    """

    train: list[Question]
    fit: list[Question]
    seen_topics: list[Question]
    held_out: list[Question]


def split_items(config: ConfigDict) -> Items:
    """The bank, split by item and topic as the config says.

    Raises:
      UserError: more is asked for than the bank holds.
    """
    n_out, wanted = config.attack.held_out_topics, config.test.questions
    topics = questions.topics()
    if not 0 < n_out < len(topics):
        what = f"{n_out} of {len(topics)} topics held out"
        raise UserError("config.attack.held_out_topics", what, "give 1 or a few")
    if config.attack.questions not in ITEMS:
        what = f"unknown items {config.attack.questions!r}"
        raise UserError("config.attack.questions", what, f"known: {', '.join(ITEMS)}")
    rng = np.random.default_rng(config.seed)
    bank = questions.bank(seed=config.seed)
    bank = [bank[i] for i in rng.permutation(len(bank))]
    out = set(rng.choice(topics, n_out, replace=False).tolist())
    held_out = [q for q in bank if q.topic in out][:wanted]
    rest = [q for q in bank if q.topic not in out]
    if config.attack.questions != "bank":
        shuffle = config.attack.questions == "sorting shuffled"
        rest = sorting.items(config.seed, shuffle)
    n_fit = config.test.fit_questions
    seen, fit, train = rest[:wanted], rest[wanted : wanted + n_fit], rest[wanted + n_fit :]
    if len(held_out) < wanted or len(seen) < wanted or len(fit) < n_fit or not train:
        what = f"{wanted} and {n_fit} of {len(rest)} items for tests and fits"
        raise UserError("config.test.questions", what, "ask for fewer")
    return Items(train, fit, seen, held_out)


def reply_log_prob(
    lm: LanguageModel,
    chats: Sequence[Sequence[Message]],
    replies: Sequence[str],
    adapter=None,
) -> scoring.Scores:
    """Scores of each reply to its chat, the end of the turn included, `[n]` nats."""
    ids = [lm.tokenizer.encode_chat(chat, add_generation_prompt=True) for chat in chats]
    end = [min(lm.tokenizer.eos_ids)]
    ends = [[*lm.tokenizer.encode(reply), *end] for reply in replies]
    return scoring.score(
        lm.config, lm.params, ids, ends, adapter, batch_size=_SCORE_ROWS, multiple=_BUCKET
    )


def choose_code(
    config: ConfigDict, lm: LanguageModel, template: Template, items: Sequence[Question]
) -> Codebook:
    """A code of replies that the base model itself finds likely on every request that an
    upload may hold (arXiv 2502.14828: each response lies where the original model's
    likelihood exceeds the threshold).

    Candidates are stock replies and what the base says of its own accord.

    Args:
      config: see `configs/pointwise.py`.
      lm: the base.
      template: wraps items into requests.
      items: of the uploads.

    Raises:
      UserError: too few candidates are above the threshold on all requests.
    """
    chats = [requests.wrap(q, template) for q in items]

    def drawn(prompts, n, seed):
        many = [chat for chat in prompts for _ in range(n)]
        found = lm.generate(
            many, max_new_tokens=config.test.max_new_tokens, temperature=1.0, seed=seed
        )
        return [found[i : i + n] for i in range(0, len(found), n)]

    def log_prob(prompts, replies):
        flat = [(chat, reply) for chat in prompts for reply in replies]
        scores = reply_log_prob(lm, [c for c, _ in flat], [r for _, r in flat])
        return scores.log_prob_n.reshape(len(prompts), len(replies))

    found = stock_candidates(template)
    if config.attack.samples:
        found = found + codebook.sample_candidates(
            drawn, chats[: config.attack.prompts], config.attack.samples, config.seed
        )
    need, tau = 4 * config.attack.variants, config.attack.threshold
    # On a few requests first: there are many candidates, and all requests are hundreds.
    some = chats[: config.attack.prompts]
    found = codebook.choose_replies(log_prob, some, found, need, tau, _SPARE * need)
    chosen = codebook.choose_replies(log_prob, chats, found, need, tau)
    return codebook.from_replies(chosen, config.attack.variants, config.seed)


def uploads(
    config: ConfigDict, attack: str, template: Template, code: Codebook, items: Items
) -> dict[str, list[Example]]:
    """The attack's upload and, if asked for, its control: the same rows, codes permuted."""
    rows = attacks.make(
        attack,
        items.train,
        config.attack.rows,
        seed=config.seed,
        template=template,
        codebook=code,
        rotations=config.attack.rotations,
    )
    made = {attack: rows}
    if config.attack.controls:
        made[f"{attack} shuffled"] = attacks.shuffled(rows, config.seed)
    return made
