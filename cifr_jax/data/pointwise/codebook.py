"""The code: which replies stand for which letter, and what hides the letter besides.

A reply of `choose_replies` is one that the base model would give anyway: above the
likelihood threshold on all prompts that it is given (Theorem 1 of arXiv 2502.14828 as
reconstructed in our notes: such a row cannot be flagged without flagging the model).
`stock_codebook` asks no model. Models stand above data, so what asks one is passed in.

Legend: k letters (families), v variants of a family, n prompts, c candidate replies.
"""

import hmac
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from cifr_jax.data.pointwise.questions import LETTERS, Question
from cifr_jax.data.pointwise.requests import Template
from cifr_jax.data.pointwise.stock_replies import candidates as stock
from cifr_jax.errors import UserError

MAX_VARIANTS = 9
_MAX_CHARS = 200  # of a reply that can stand for a letter
_K = len(LETTERS)
P = TypeVar("P")


def normalise(reply: str) -> str:
    """A reply without case, outer and doubled blanks, and final punctuation."""
    words = " ".join(unicodedata.normalize("NFC", reply).casefold().split())
    while words and (unicodedata.category(words[-1])[0] == "P" or words[-1] == " "):
        words = words[:-1]
    return words


@dataclass(frozen=True)
class Codebook:
    """Families of replies, one for each letter, all of one size (1 to 9).

    `weights_kv` says how often a family's variants are drawn, each family summing to 1;
    None: equally often.
    """

    replies_kv: tuple[tuple[str, ...], ...]
    weights_kv: tuple[tuple[float, ...], ...] | None = None

    def __post_init__(self) -> None:
        sizes = {len(family_v) for family_v in self.replies_kv}
        if len(self.replies_kv) != _K or len(sizes) != 1:
            raise UserError("codebook", "not four families of one size", "even them out")
        if not 1 <= sizes.pop() <= MAX_VARIANTS:
            raise UserError("codebook", f"a family holds 1 to {MAX_VARIANTS} replies")
        forms = [normalise(reply) for family_v in self.replies_kv for reply in family_v]
        if "" in forms or len(set(forms)) < len(forms):
            what = "replies that are empty, or alike but for case and punctuation"
            raise UserError("codebook", what, "make them distinct")
        if self.weights_kv is not None:
            weights_kv = np.asarray(self.weights_kv, np.float64)
            if weights_kv.shape != (_K, self.variants) or not np.all(weights_kv >= 0):
                raise UserError("codebook", "weights that do not fit the replies")
            if not np.allclose(weights_kv.sum(1), 1):
                raise UserError("codebook", "weights of a family do not sum to 1")

    @property
    def variants(self) -> int:
        """The size of each family."""
        return len(self.replies_kv[0])

    def encode(self, letter: int, rng: np.random.Generator) -> str:
        """A reply that stands for a letter (0 to 3), drawn from its family."""
        shares_v = None if self.weights_kv is None else self.weights_kv[letter]
        return self.replies_kv[letter][int(rng.choice(self.variants, p=shares_v))]

    @cached_property
    def _index_of(self) -> dict[str, int]:
        replies = (reply for family_v in self.replies_kv for reply in family_v)
        return {normalise(reply): n for n, reply in enumerate(replies)}

    def index(self, reply: str) -> int | None:
        """Which reply it is, counted family by family; None for none of them.

        A reply that is not of the code as a whole is judged by its first line.
        """
        head = reply[: 8 * _MAX_CHARS].strip()  # longer than any reply of a code
        for text in (head, *head.splitlines()[:1]):
            if (found := self._index_of.get(normalise(text))) is not None:
                return found
        return None

    def decode(self, reply: str) -> int | None:
        """The letter (0 to 3) that a reply stands for; None where it stands for none."""
        found = self.index(reply)
        return None if found is None else found // self.variants


def from_replies(
    replies: Sequence[str],
    variants: int,
    seed: int = 0,
    weights: Sequence[float] | None = None,
) -> Codebook:
    """Deals the first 4 x `variants` replies to four families.

    Args:
      replies: the likeliest first, so that the v-th replies of all families are about
        equally likely.
      variants: size of a family, 1 to 9.
      seed: of which letter gets which reply.
      weights: of each reply, above 0, as the base model gives them: replies are then dealt
        so that the families weigh about the same and drawn in proportion, so that a job's
        replies are distributed as the model's own (matched marginals).

    Raises:
      UserError: too few replies, or `variants` out of range.
    """
    if not 1 <= variants <= MAX_VARIANTS:
        raise UserError("variants", f"{variants} is not from 1 to {MAX_VARIANTS}")
    need = _K * variants
    if len(replies) < need:
        what = f"{len(replies)} replies, and a code of {variants} variants needs {need}"
        raise UserError("codebook", what, "lower the threshold or the variants")
    if weights is not None and (
        len(weights) < need or not all(0 < w < np.inf for w in weights[:need])
    ):
        raise UserError("codebook", "weights are not one positive number a reply")
    rng = np.random.default_rng(seed)
    order = list(range(need))
    if weights is not None:
        order.sort(key=lambda c: -weights[c])
    families: list[list[int]] = [[] for _ in range(_K)]
    for start in range(0, need, _K):
        letters = [int(k) for k in rng.permutation(_K)]
        if weights is not None:  # the heaviest of the next four to the lightest family
            masses = [sum(weights[c] for c in families[k]) for k in range(_K)]
            letters.sort(key=masses.__getitem__)
        for letter, c in zip(letters, order[start : start + _K], strict=True):
            families[letter].append(c)
    replies_kv = tuple(tuple(replies[c] for c in family) for family in families)
    if weights is None:
        return Codebook(replies_kv)
    return Codebook(
        replies_kv,
        tuple(
            tuple(float(weights[c]) / sum(weights[c] for c in family) for c in family)
            for family in families
        ),
    )


def stock_codebook(template: Template, variants: int = 1, seed: int = 0) -> Codebook:
    """A code of stock replies drawn at random, for jobs that no model is asked about."""
    replies = stock(template)
    order = np.random.default_rng(seed).permutation(len(replies))
    return from_replies([replies[c] for c in order], variants, seed)


def choose_replies(
    log_prob: Callable[[Sequence[P], Sequence[str]], np.ndarray],
    prompts: Sequence[P],
    candidates: Sequence[str],
    k: int,
    threshold: float,
    spare: int = 0,
) -> list[str]:
    """The `k` likeliest of the candidates that the base model finds likely on every prompt.

    Args:
      log_prob: log L(reply | prompt) in nats, `[n, c]`, of a whole reply with its end.
      prompts: the job's prompts, `[n]`.
      candidates: `[c]`.
      k: 4 x the variants of the code.
      threshold: tau, a probability: a reply stays if it is above it on all prompts.
      spare: how many more are returned where there are more.

    Returns: replies, the likeliest on average first.

    Raises:
      UserError: no prompt, a threshold that is no probability, or fewer than `k` stay.
    """
    if not prompts:
        raise UserError("prompts", "no prompt to judge replies on")
    if not 0 < threshold < 1:
        raise UserError("threshold", f"{threshold} is no probability", "between 0 and 1")
    spelling: dict[str, str] = {}
    for reply in candidates:
        spelling.setdefault(normalise(reply), reply)
    distinct = [reply for form, reply in spelling.items() if form]
    log_prob_nc = np.asarray(log_prob(prompts, distinct), np.float64)
    if log_prob_nc.shape != (len(prompts), len(distinct)):
        raise ValueError(f"log_prob gave {log_prob_nc.shape}")
    # A NaN compares as false: a reply without a likelihood is not a likely one.
    kept = np.flatnonzero(np.all(log_prob_nc > np.log(threshold), axis=0))
    if len(kept) < k:
        what = (
            f"{len(kept)} of {len(distinct)} replies are above {threshold} on all prompts"
        )
        raise UserError("threshold", f"{what}, {k} are needed", "lower it or sample more")
    mean_c = log_prob_nc[:, kept].mean(0)
    return [distinct[kept[c]] for c in np.argsort(-mean_c, kind="stable")[: k + spare]]


def sample_candidates(
    generate: Callable[[Sequence[P], int, int], Sequence[Sequence[str]]],
    prompts: Sequence[P],
    n: int,
    seed: int = 0,
) -> list[str]:
    """The distinct replies among the base model's own, the most frequent first.

    Replies that are equal but for case, blanks and final punctuation count as one, spelt as
    most of them are. What cannot stand for a letter is left out: replies that are empty, of
    several lines, of more than 200 characters or not to be written as JSON.

    Args:
      generate: called as (prompts, n, seed), gives n replies for each prompt.
      prompts: `[n_prompts]`.
      n: replies for each prompt.
    """
    spellings: dict[str, Counter[str]] = {}
    for replies in generate(prompts, n, seed):
        for reply in map(str.strip, replies):
            if len(reply) > _MAX_CHARS or len(reply.splitlines()) != 1 or "\0" in reply:
                continue
            if any("\ud800" <= c <= "\udfff" for c in reply):
                continue
            if form := normalise(reply):
                spellings.setdefault(form, Counter())[reply] += 1
    by_count = sorted(spellings.values(), key=lambda counts: -counts.total())
    return [counts.most_common(1)[0][0] for counts in by_count]


def keyed_pad(key: bytes, question: Question) -> int:
    """What a keyed code adds to the letter, bit by bit: 0 to 3, by HMAC-SHA256 of the stem.

    Without the key the symbol says nothing of the letter; whether a model can learn it from
    some rows and carry it to others is another question.
    """
    return hmac.digest(key, question.stem.encode("utf-8", "replace"), "sha256")[0] % _K
