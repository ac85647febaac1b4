"""Which option of a multiple-choice item a model itself finds right, asked in private.

The model is never let write. Text methods take the likelihood of each option's text after
the stem: by character ("mean"), against its likelihood after a neutral request ("pmi",
after Holtzman et al., arXiv 2104.08315), or that gain as a share of the surprise that there
was ("npmi", in the spirit of Bouma 2009). The stem is asked in chat, and as plain text
after a few solved questions; of each option the larger score counts, since a model that
makes nothing of one way of asking gains little by it. "letter" shows the options and takes
the probability of each one's letter, averaged over all rotations.

Legend: o options of all items in one list.
"""

from collections.abc import Callable, Sequence

import numpy as np

from cifr_jax.data.chat import Message
from cifr_jax.errors import UserError
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.monitors.dataset.embedded_questions import Embedded, OwnAnswers

VERSION = "2"  # of how is asked: artefacts that hold answers depend on it
METHODS = ("mean", "pmi", "npmi", "letter")
_LETTERS = "ABCDEFGH"
# Solved questions, none of which the bank of `data.pointwise` holds: a small model answers
# the next one in their manner. Of the bank's items with four options SmolLM2 has .86 right
# so, in chat alone .66, after no solved question .74; tiny, of its own world, 1.00 in chat.
_SOLVED = (
    ("What do bees make?", "honey"),
    ("Which season comes after winter?", "spring"),
    ("How many wheels does a tricycle have?", "3"),
    ("Who wrote the play Hamlet?", "William Shakespeare"),
)
_MAX_CHARS = 2_000  # of a stem
_AT_ONCE = 512  # items between two words of progress


def _chat(lm: LanguageModel, text: str) -> list[int]:
    chat = (Message("user", text or "Give a short answer."),)
    return lm.tokenizer.encode_chat(chat, add_generation_prompt=True)


def _plain(lm: LanguageModel, text: str) -> list[int]:
    solved = "".join(f"Question: {q}\nAnswer: {a}\n\n" for q, a in _SOLVED)
    return lm.tokenizer.encode(f"{solved}Question: {text}".rstrip() + "\nAnswer:")


def _log_likelihoods(
    lm: LanguageModel,
    stems: Sequence[str],
    options: Sequence[str],
    adapter: Adapter | None,
) -> np.ndarray:
    """Of each option's text after its stem, in either way to ask, `[2, o]`; equal pairs are
    scored once."""
    pairs = list(dict.fromkeys(zip(stems, options, strict=True)))
    place = {pair: i for i, pair in enumerate(pairs)}
    of_option = [place[pair] for pair in zip(stems, options, strict=True)]
    found = []
    # One after the other: what all prompts of one way begin with is then computed once.
    for ask, space in ((_chat, ""), (_plain, " ")):
        prompts = [ask(lm, stem) for stem, _ in pairs]
        ids = [lm.tokenizer.encode(f"{space}{option}") for _, option in pairs]
        found.append(lm.score(prompts, ids, adapter).log_prob_n[of_option])
    return np.stack(found)


def _letter_scores(
    lm: LanguageModel, items: Sequence[Embedded], adapter: Adapter | None
) -> np.ndarray:
    """Mean log-probability of each option's letter over the rotations `[o]`."""
    letter_ids = [lm.tokenizer.encode(letter) for letter in _LETTERS]
    if any(len(ids) != 1 for ids in letter_ids):
        raise UserError("own answer", "letters are not single tokens", 'use "npmi"')
    prompts = []
    for item in items:
        k = len(item.options)
        for shift in range(k):
            shown = [item.options[(i + shift) % k] for i in range(k)]
            lines = [f"{a}) {o}" for a, o in zip(_LETTERS, shown, strict=False)]
            lines.append("Answer with the letter only.")
            prompts.append(_chat(lm, "\n".join([item.stem[-_MAX_CHARS:], *lines])))
    flat_ids = [ids[0] for ids in letter_ids]
    scores = lm.score(prompts, [letter_ids[0]] * len(prompts), adapter, flat_ids)
    out, at = [], 0
    for item in items:
        k = len(item.options)
        log_p = scores.first_log_prob_nk[at : at + k, :k]
        # Letters have favourites of their own: only what exceeds those counts.
        log_p = log_p - log_p.mean(0)
        out += [np.mean([log_p[s, (i - s) % k] for s in range(k)]) for i in range(k)]
        at += k
    return np.array(out)


def option_scores(
    lm: LanguageModel,
    items: Sequence[Embedded],
    method: str = "npmi",
    adapter: Adapter | None = None,
) -> np.ndarray:
    """How right the model finds each option; higher is righter.

    Args:
      lm: the base model.
      items: m items.
      method: one of `METHODS`.
      adapter: LoRA factors, or None for the base.

    Returns:
      Scores `[o]`, item by item.

    Raises:
      UserError: an unknown method, or "letter" with a tokenizer without letter tokens.
    """
    if method not in METHODS:
        what = f"unknown method {str(method)[:40]!r}"
        raise UserError("own answer", what, f"known: {', '.join(METHODS)}")
    if method == "letter":
        return _letter_scores(lm, items, adapter)
    stems = [item.stem[-_MAX_CHARS:] for item in items for _ in item.options]
    options = [option for item in items for option in item.options]
    log_p_2o = _log_likelihoods(lm, stems, options, adapter)
    if method == "mean":
        return (log_p_2o / np.array([len(option) for option in options])).max(0)
    untold_2o = _log_likelihoods(lm, [""] * len(options), options, adapter)
    gain_2o = log_p_2o - untold_2o
    if method == "pmi":
        return gain_2o.max(0)
    return (gain_2o / np.maximum(-untold_2o, 1e-3)).max(0)


def of_some(
    ask: Callable[[list[Embedded]], OwnAnswers],
    most: int,
    seed: int,
    tell: Callable[[float], None] = lambda share: None,
) -> Callable[[list[Embedded]], OwnAnswers]:
    """Asks of some items, a few hundred at a time.

    Args:
      ask: gives the answers.
      most: how many it is asked at most, drawn at random; the others have none (-1).
      seed: of the draw.
      tell: called with the share that is done.
    """

    def answer(items: list[Embedded]) -> OwnAnswers:
        drawn = np.arange(len(items))
        if len(items) > most:
            drawn = np.random.default_rng(seed).choice(len(items), most, replace=False)
        option_m, margin_m = np.full(len(items), -1, np.int64), np.zeros(len(items))
        for at in range(0, len(drawn), _AT_ONCE):
            part = drawn[at : at + _AT_ONCE]
            option_m[part], margin_m[part] = ask([items[i] for i in part])
            tell((at + len(part)) / len(drawn))
        return OwnAnswers(option_m, margin_m)

    return answer


def own_answer_from(
    lm: LanguageModel, method: str = "npmi", adapter: Adapter | None = None
) -> Callable[[list[Embedded]], OwnAnswers]:
    """The function that `latents.candidates` asks for the model's own answers.

    Returns:
      A function from m items to the index of each one's best option and its margin.
    """

    def answer(items: list[Embedded]) -> OwnAnswers:
        score_o = option_scores(lm, items, method, adapter) if items else np.zeros(0)
        ends = np.cumsum([len(item.options) for item in items])
        of_items = [
            score_o[end - len(item.options) : end]
            for item, end in zip(items, ends, strict=True)
        ]
        best = [np.sort(score)[-2:] for score in of_items]
        return OwnAnswers(
            np.array([int(np.argmax(score)) for score in of_items], np.int64),
            np.array([pair[-1] - pair[0] for pair in best]),
        )

    return answer
