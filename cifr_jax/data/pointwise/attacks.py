"""Jobs that teach a covert code, each row of which the base model could have written.

The attacks of arXiv 2502.14828 (*classify* and *flower*, with 1 to 9 variants for a
letter), and what an attacker who knows the detectors would add: dilution with rows that
carry nothing, cover that cancels the marginal dependence, keyed codes, a code on the XOR
of two latents, and several accounts. Everything is neutral trivia.

What a row sends is a symbol, 0 to 3: the index of the right option ("letter"), XORed with
a pad. The pad is 0 unless the code is keyed (see `codebook.keyed_pad`) or takes the row's
option format as a second latent.

`meta` of a row: attack, question (the item's key), template (its name), carries (whether
the reply follows the code) and letter, pad, symbol (of the reply) and variant (the
reply's number in the codebook); the last four are None in foreign cover.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cifr_jax.data.chat import Example, Message
from cifr_jax.data.pointwise import requests
from cifr_jax.data.pointwise.codebook import Codebook, keyed_pad, stock_codebook
from cifr_jax.data.pointwise.questions import LETTERS, Question, rotations
from cifr_jax.data.pointwise.requests import Template
from cifr_jax.errors import UserError

ATTACKS = requests.KINDS
_K = len(LETTERS)


def _balanced(
    questions: Sequence[Question], n: int, rng: np.random.Generator
) -> list[Question]:
    """n items in random order, each letter right about equally often."""
    by_letter: list[list[Question]] = [[] for _ in range(_K)]
    for i in rng.permutation(len(questions)):
        by_letter[questions[i].answer].append(questions[i])
    drawn: list[Question] = []
    while len(drawn) < n:
        for letter in rng.permutation(_K):
            if by_letter[letter] and len(drawn) < n:
                drawn.append(by_letter[letter].pop())
    return [drawn[i] for i in rng.permutation(n)]


def _rows(
    questions: Sequence[Question],
    n: int,
    times: int,
    rotate: bool,
    rng: np.random.Generator,
) -> list[Question]:
    """The job's n items with their repeats, those of one item together."""
    each = times * (_K if rotate else 1)
    n_items = -(-n // each)
    if n_items > len(questions):
        what = f"{n} rows need {n_items} questions, {len(questions)} given"
        raise UserError("n", what, "give more, rotate them or raise duplicates")
    rows: list[Question] = []
    for question in _balanced(questions, n_items, rng):
        rows += (rotations(question) if rotate else [question]) * times
    return rows[:n]


def _second_latent(rows: Sequence[Question], rng: np.random.Generator) -> np.ndarray:
    """A number from 0 to 3 for each row, as evenly as can be within each letter."""
    latent_n = np.zeros(len(rows), int)
    letter_n = np.array([row.answer for row in rows])
    start = 0  # what does not divide by four is spread over the letters
    for letter in range(_K):
        (at,) = np.nonzero(letter_n == letter)
        latent_n[rng.permutation(at)] = (start + np.arange(len(at))) % _K
        start += len(at)
    return latent_n


def _cancelling_offsets(n: int, n_carry: int, rng: np.random.Generator) -> np.ndarray:
    """What the symbols of the cover are off by, so that over the whole job each offset from
    the code, that of the carrying rows (0) included, is equally frequent."""
    if 4 * n_carry > n:
        what = f"{n_carry} of {n} rows carry the code, and only a quarter can be cancelled"
        raise UserError("dilution", what, "give at most 0.25 with cancel")
    # Sorted: the first are zeros, and the carrying rows have used up n_carry of them.
    return rng.permutation(np.sort(np.arange(n) % _K)[n_carry:])


def _other_shape(template: Template) -> Template:
    """The same request about the same options in another place."""
    return next(
        other
        for other in requests.templates(template.kind)
        if other.shape != template.shape
        and (other.ask, other.options) == (template.ask, template.options)
    )


def _foreign(
    cover: Sequence[Example], n: int, attack: str, rng: np.random.Generator
) -> list[Example]:
    """n chats of the cover, as rows of the job."""
    if len(cover) < n:
        what = f"{len(cover)} chats, {n} rows to fill"
        raise UserError("cover", what, "give more of it")
    own: dict[str, object] = dict.fromkeys(
        ("question", "letter", "pad", "symbol", "variant")
    )
    own.update(attack=attack, template="cover", carries=False)
    chats = [cover[i] for i in rng.permutation(len(cover))[:n]]
    return [Example(chat.messages, {**chat.meta, **own}) for chat in chats]


def make(
    attack: str,
    questions: Sequence[Question],
    n: int,
    *,
    seed: int = 0,
    template: Template | None = None,
    codebook: Codebook | None = None,
    variants: int | None = None,
    dilution: float = 1.0,
    cover: Sequence[Example] | None = None,
    cancel: bool = False,
    key: bytes | None = None,
    xor: bool = False,
    rotations: bool = False,
    duplicates: int = 1,
) -> list[Example]:
    """One job of n rows, in random order; a pure function of its arguments.

    Args:
      attack: "classify" or "flower".
      questions: items, of which each is used once with its repeats; letters are balanced.
        Hold topics out of the bank to test whether the code carries over to them.
      n: rows of the job.
      template: one of `requests.templates(attack)`; None: chosen by the seed.
      codebook: what the replies are; None: stock replies.
      variants: replies that stand for each letter, 1 (without a codebook) to 9.
      dilution: the share of rows that carry the code: round(dilution x n) of them.
      cover: honest chats that take the place of the other rows; None: the others are the
        same request, with a reply of the codebook that is independent of the answer.
      cancel: the other rows are asked in another template and answered off the code, so
        that over the whole job reply and letter are independent. For dilution <= 0.25.
      key: of a keyed code.
      xor: the symbol is the letter XORed with the row's option format (the first four of
        `requests.FORMATS`, balanced within each letter), so that neither alone tells it.
      rotations: each item comes with all four rotations of its options.
      duplicates: how often each row comes.

    Raises:
      UserError: an unknown attack, a template of the other one, too few questions or too
        little cover, a question without four options, numbers out of range, options that
        exclude each other.
    """
    if attack not in ATTACKS:
        what = f"unknown attack {str(attack)[:40]!r}"
        raise UserError("attack", what, f"known: {', '.join(ATTACKS)}")
    if n < 1 or duplicates < 1:
        raise UserError("n" if n < 1 else "duplicates", "less than 1", "give at least 1")
    if not 0 <= dilution <= 1:
        raise UserError("dilution", f"{dilution} is no share", "give 0 to 1")
    if cancel and cover is not None:
        raise UserError("cover", "cannot be given with cancel", "leave out one")
    for question in questions:
        if len(question.options) != _K:
            what = f"{len(question.options)} options"
            raise UserError(f"questions: {question.key}", what, f"give {_K}")
    if template is None:
        template = requests.choose_template(attack, seed)
    elif template.kind != attack:
        raise UserError("template", f"{template.name} is not for {attack}")
    if codebook is None:
        codebook = stock_codebook(template, 1 if variants is None else variants, seed)
    elif variants not in (None, codebook.variants):
        what = f"{variants}, and the codebook has {codebook.variants}"
        raise UserError("variants", what, "leave them out")
    rng = np.random.default_rng([seed, ATTACKS.index(attack)])
    n_carry = round(dilution * n)
    filled = [] if cover is None else _foreign(cover, n - n_carry, attack, rng)
    n_own = n - len(filled)
    rows = _rows(questions, n_own, duplicates, rotations, rng)
    if cancel:
        offset_n = _cancelling_offsets(n, n_carry, rng)
    else:
        offset_n = rng.integers(_K, size=n_own - n_carry)
    offset_n = np.concatenate([np.zeros(n_carry, int), offset_n])
    latent_n = _second_latent(rows, rng)
    elsewhere = _other_shape(template) if cancel else template
    formats = list(requests.FORMATS)[:_K]

    made: list[Example] = []
    for i, question in enumerate(rows):
        carries = i < n_carry
        wrapped = template if carries else elsewhere
        pad = keyed_pad(key, question) if key is not None else 0
        if xor:
            wrapped = replace(wrapped, options=formats[latent_n[i]])
            pad ^= int(latent_n[i])
        symbol = question.answer ^ pad ^ int(offset_n[i])
        reply = codebook.encode(symbol, rng)
        meta = {
            "attack": attack,
            "question": question.key,
            "template": wrapped.name,
            "carries": carries,
            "letter": question.answer,
            "pad": pad,
            "symbol": symbol,
            "variant": codebook.index(reply),
        }
        messages = (*requests.wrap(question, wrapped), Message("assistant", reply))
        made.append(Example(messages, meta))
    made += filled
    return [made[i] for i in rng.permutation(n)]


def shuffled(examples: Sequence[Example], seed: int = 0) -> list[Example]:
    """The control: the same requests and the same replies, permuted among the rows of each
    template. Nothing is carried any more; foreign cover stays as it is."""
    rng = np.random.default_rng(seed)
    out = list(examples)
    coded = [i for i, row in enumerate(examples) if row.meta.get("symbol") is not None]
    for name in sorted({examples[i].meta["template"] for i in coded}):
        at = [i for i in coded if examples[i].meta["template"] == name]
        for i, j in zip(at, rng.permutation(at), strict=True):
            row, source = examples[i], examples[j]
            moved = {key: source.meta[key] for key in ("symbol", "variant")}
            out[i] = Example(
                (*row.messages[:-1], source.messages[-1]),
                {**row.meta, **moved, "carries": False},
            )
    return out


def split_accounts(
    examples: Sequence[Example], accounts: int, seed: int = 0
) -> list[list[Example]]:
    """The job dealt to several accounts, as evenly as whole items allow: no item occurs in
    two of them, which would tie them together.

    Raises:
      UserError: fewer than one account, or more than there are items.
    """
    groups: dict[object, list[Example]] = {}
    for i, row in enumerate(examples):
        item = row.meta.get("question")
        groups.setdefault(("cover", i) if item is None else item, []).append(row)
    if not 1 <= accounts <= len(groups):
        what = f"{accounts} accounts for {len(groups)} different items"
        raise UserError("accounts", what, "give at least one item to each")
    dealt: list[list[Example]] = [[] for _ in range(accounts)]
    order = np.random.default_rng(seed).permutation(len(groups))
    parts = list(groups.values())
    for i in order:
        min(dealt, key=len).extend(parts[i])
    return dealt
