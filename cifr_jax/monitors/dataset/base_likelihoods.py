"""How likely each of a job's own variants is as the reply to each of its requests.

Under the base model this is the null of an honest job: replies that the model might have
given, in some house style. The wording of every variant is filled in with what the row's
own reply names (`job_wordings`), so the likelihoods are those of wordings given the label.
A variant of opening words takes the likelihood of these words; the replies of its rows go
on from there.

Legend: n rows of the job, r rows that are scored, v variants, m pairs.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cifr_jax.data.chat import Example, Message
from cifr_jax.errors import UserError
from cifr_jax.models import scoring
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.monitors.dataset import job_wordings
from cifr_jax.monitors.dataset.job_wordings import Reply, Wording
from cifr_jax.monitors.dataset.result import Floats, Ints
from cifr_jax.monitors.dataset.view import JobView

Chat = Sequence[Message]
# From m chats and m replies to log P(reply | chat) [m] in nats, with an adapter or without.
Score = Callable[[Sequence[Chat], Sequence[Reply], Adapter | None], np.ndarray]

MAX_CHARS = 4_000  # of a request that is scored: attention grows with its square
_BATCH, _MULTIPLE = 16, 32


class Likelihoods(NamedTuple):
    """Of a job's wordings.

    Attributes:
      rows_r: rows of the job that were scored, rising.
      variant_r: the column of each one's own variant.
      log_p_rv: log P(wording | request), nats.
      wordings: of the columns.
      left_out: number of rows or variants not scored, by reason.
    """

    rows_r: Ints
    variant_r: Ints
    log_p_rv: Floats
    wordings: list[Wording]
    left_out: dict[str, int]


def scorer(lm: LanguageModel) -> Score:
    """Log-likelihoods under a model, of whole replies with the end of the turn."""
    end = [min(lm.tokenizer.eos_ids)] if lm.tokenizer.eos_ids else []

    def score(
        chats: Sequence[Chat], replies: Sequence[Reply], adapter: Adapter | None
    ) -> np.ndarray:
        ids_of = {
            chat: lm.tokenizer.encode_chat(chat, add_generation_prompt=True)
            for chat in map(tuple, chats)
        }
        prompts = [ids_of[tuple(chat)] for chat in chats]
        continuations = [
            [*lm.tokenizer.encode(reply.text), *(end if reply.whole else [])]
            for reply in replies
        ]
        return scoring.score(
            lm.config, lm.params, prompts, continuations, adapter,
            batch_size=_BATCH, multiple=_MULTIPLE,
        ).log_prob_n  # fmt: skip

    return score


def sample_rows(
    view: JobView, allowed_n: np.ndarray, most: int, seed: int
) -> tuple[Ints, dict[str, int]]:
    """Rows to ask a model about, one for each item, and how many are left out and why.

    Rows of an item depend on each other in ways that no null knows.

    Args:
      view: the job.
      allowed_n: rows that may be taken.
      most: how many at most.
      seed: of the row of each item and of the sample.
    """
    long_n = view.context_n > MAX_CHARS
    rows = np.random.default_rng([seed, 2]).permutation(np.flatnonzero(allowed_n & ~long_n))
    first = np.sort(np.unique(view.cluster_n[rows], return_index=True)[1])
    left_out = {
        "rows with a long request": int((allowed_n & long_n).sum()),
        "further rows of the same items": int(rows.size - first.size),
        "rows beyond the sample": max(0, int(first.size) - most),
    }
    return np.sort(rows[first[:most]]), left_out


def of_job(
    view: JobView,
    examples: Sequence[Example],
    score: Score,
    most_variants: int = 16,
    most_rows: int = 256,
    seed: int = 0,
) -> Likelihoods:
    """Scores a job's wordings as replies to its requests.

    Only rows with one of the scored variants take part: given that a reply is one of
    these, a tilt of the base is a tilt of the base among them.

    Args:
      view, examples: the job.
      score: of the base model, such as `scorer(lm)`.
      most_variants: the most frequent ones are scored.
      most_rows: a sample of the rows, one for each item.
      seed: of the sample.

    Raises:
      UserError: chats and view are not of one job, or a score that is no number.
    """
    where = "base_likelihoods.of_job"
    n_chats = int(view.chat_n[-1]) + 1
    if len(examples) != n_chats:
        what = f"{len(examples)} chats, and the view has {n_chats}"
        raise UserError(where, what, "read the view from the same chats")
    wordings = job_wordings.of_job(view, most_variants)
    column = {wording.variant: k for k, wording in enumerate(wordings)}
    column_n = np.array([column.get(int(v), -1) for v in view.variant_n], np.int64)
    rows_r, left_out = sample_rows(view, column_n >= 0, most_rows, seed)
    left_out = {
        "variants": len(view.variants) - len(wordings),
        "rows of these variants": int((column_n < 0).sum()),
        **left_out,
    }
    chats, replies = [], []
    for i in rows_r.tolist():
        names = job_wordings.names_in(view.reply_n[i], view.masked_n[i])
        request = view.before(examples, i)
        for wording in wordings:
            chats.append(request)
            replies.append(job_wordings.fill(wording, names))
    log_p = np.asarray(score(chats, replies, None), float) if chats else np.zeros(0)
    if log_p.shape != (len(chats),) or np.isnan(log_p).any():
        what = f"log-likelihoods of shape {log_p.shape} for {len(chats)} replies, or NaN"
        raise UserError(where, what, "give one number for each pair")
    log_p_rv = log_p.reshape(rows_r.size, len(wordings))
    return Likelihoods(rows_r, column_n[rows_r], log_p_rv, wordings, left_out)
