"""The tokenizer in a GGUF file's metadata: byte-level BPE, or SentencePiece's BPE.

SentencePiece (Llama 2, the first Mistral) stores pieces with scores, no merges: any two
neighbours whose union is a piece may merge, the best score first. As in Hugging Face's
tokenizers of these models, each way to cut a piece in two becomes a merge, in the order of
scores.
"""

import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
)

from cifr_jax.errors import UserError
from cifr_jax.models.tokenizer import ChatTokenizer

_CONTROL, _USER_DEFINED = 3, 4  # token types that are not plain vocabulary
_PIECE = 1  # type of plain vocabulary
_BLANK = "\u2581"  # a blank within a piece of SentencePiece
_LONGEST = 256  # characters of a piece; SentencePiece's own limit is 16
_MOST_MERGES = 8  # for each piece; of vocabularies in use two or three
_MEND = "give a whole GGUF file"


def _split(digits: str) -> list[pre_tokenizers.PreTokenizer]:
    """Words with their leading blank, numbers of so many digits, runs of other signs."""
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + digits
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    return [
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(False, use_regex=False),
    ]


# How text is cut before byte-pair merging, by the name in the file.
_PRE_TOKENIZERS = {
    "smollm": [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(False),
    ],
    "qwen2": _split(r"\p{N}"),  # Qwen2, Qwen2.5 and Qwen3
    "llama-bpe": _split(r"\p{N}{1,3}"),  # Llama 3
}
_COMPOSED = ("qwen2",)  # text is brought into Unicode's form C first
_WHOLE_WORDS = ("llama-bpe",)  # a word in the vocabulary is taken without merging


_Field = Callable[..., Any]  # name, type, default: a field of the metadata, checked
# What the entries of a list are; a truth value is no number.
_ENTRIES: Mapping[str, tuple[type, ...]] = {
    "tokens": (str,), "merges": (str,), "token_type": (int,), "scores": (int, float),
}  # fmt: skip


def _byte_level(tokens: Sequence[str], field: _Field, where: str) -> Tokenizer:
    if (pre := field("pre", str, "default")) not in _PRE_TOKENIZERS:
        mend = f"supported is one of {', '.join(map(repr, _PRE_TOKENIZERS))}"
        raise UserError(where, f"pre-tokenizer {pre!r}", mend)
    vocab = {token: i for i, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ")) for merge in field("merges", list)]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=pairs, ignore_merges=pre in _WHOLE_WORDS)
    )
    if pre in _COMPOSED:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(_PRE_TOKENIZERS[pre])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def piece_merges(pieces: Mapping[str, tuple[int, float]]) -> list[tuple[str, str]]:
    """Merges that follow from the scores of pieces.

    Args:
      pieces: id and score of each plain piece.

    Raises:
      ValueError: a piece or the number of merges is beyond what any vocabulary has.
    """
    ranked = []
    for piece, (_, score) in pieces.items():
        if len(piece) > _LONGEST or not math.isfinite(score):
            raise ValueError(f"a piece of {len(piece):,} characters with score {score}")
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in pieces and right in pieces:
                ranked.append((-score, pieces[left][0], pieces[right][0], left, right))
        if len(ranked) > _MOST_MERGES * len(pieces):
            raise ValueError(f"more than {_MOST_MERGES} merges for each piece")
    return [(left, right) for *_, left, right in sorted(ranked)]


def _sentencepiece(tokens: Sequence[str], field: _Field, where: str) -> Tokenizer:
    if field("remove_extra_whitespaces", bool, False):
        what = "tokenizer.ggml.remove_extra_whitespaces = True"
        raise UserError(where, what, "the tokenizer keeps all blanks")
    types = field("token_type", list)
    pieces = {
        token: (i, float(score))
        for i, (token, score, kind) in enumerate(
            zip(tokens, field("scores", list), types, strict=True)
        )
        if kind == _PIECE
    }
    unknown = tokens[range(len(tokens)).index(field("unknown_token_id", int, 0))]
    vocab = {token: i for i, token in enumerate(tokens)}
    bpe = models.BPE(vocab=vocab, merges=piece_merges(pieces), unk_token=unknown,
                     fuse_unk=True, byte_fallback=True)  # fmt: skip
    tokenizer = Tokenizer(bpe)
    blanks = normalizers.Replace(" ", _BLANK)
    steps = [decoders.Replace(_BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    if field("add_space_prefix", bool, True):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_BLANK), blanks])
        steps.append(decoders.Strip(" ", 1, 0))
    else:
        tokenizer.normalizer = blanks
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


_KINDS = {"gpt2": _byte_level, "llama": _sentencepiece}


def _fields(fields: Mapping[str, Any], where: str) -> _Field:
    """Looks up fields of the tokenizer; refuses those of a wrong type."""

    def field(name: str, kind: type, default: Any = None) -> Any:
        value = fields.get(f"tokenizer.ggml.{name}", default)
        # To Python a truth value is a number.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            what = f"tokenizer.ggml.{name} is missing or of a wrong type"
            raise UserError(where, what, _MEND)
        if isinstance(value, list):
            if wrong := [x for x in value if type(x) not in _ENTRIES[name]]:
                what = f"tokenizer.ggml.{name} holds {reprlib.repr(wrong[0])}"
                raise UserError(where, what, _MEND)
        return value

    return field


def read_tokens(fields: Mapping[str, Any], where: str) -> list[str]:
    """The tokens in the order of their ids, without what is made of them.

    Args:
      fields: the file's metadata.
      where: the file.

    Raises:
      UserError: none, what is no text, or a token twice: text has one id.
    """
    tokens = _fields(fields, where)("tokens", list)
    ids: dict[str, int] = {}
    for i, token in enumerate(tokens):
        if (first := ids.setdefault(token, i)) != i:
            what = f"tokens {first} and {i} are both {reprlib.repr(token)}"
            raise UserError(where, what, _MEND)
    return tokens


def read_tokenizer(fields: Mapping[str, Any], where: str) -> ChatTokenizer:
    """Tokenizer and chat template.

    Args:
      fields: the file's metadata.
      where: the file.

    Raises:
      UserError: another kind of tokenizer, or a broken one; a template that is no text.
    """
    field = _fields(fields, where)
    if (model := field("model", str)) not in _KINDS:
        mend = "byte-level BPE ('gpt2') and SentencePiece's BPE ('llama') are supported"
        raise UserError(where, f"tokenizer model {model!r}", mend)
    tokens = read_tokens(fields, where)
    types = field("token_type", list, [_PIECE] * len(tokens))
    try:
        tokenizer = _KINDS[model](tokens, field, where)
        added = [
            AddedToken(token, special=kind == _CONTROL, normalized=False)
            for token, kind in zip(tokens, types, strict=True)
            if kind in (_CONTROL, _USER_DEFINED)
        ]
        # range.index refuses what indexing would take: a negative id counts from the end.
        special = {
            name: tokens[range(len(tokens)).index(field(f"{name}_token_id", int))]
            for name in ("bos", "eos", "eot", "unknown", "padding")
            if f"tokenizer.ggml.{name}_token_id" in fields
        }
    except UserError:
        raise
    except Exception as e:  # the bindings raise plain Exception for a broken vocabulary
        raise UserError(where, f"broken tokenizer ({e})", _MEND) from e
    template = fields.get("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        what = f"tokenizer.chat_template is {reprlib.repr(template)}"
        raise UserError(where, what, "give Jinja source")
    tokenizer.add_special_tokens([token for token in added if token.special])
    tokenizer.add_tokens([token for token in added if not token.special])
    return ChatTokenizer(
        tokenizer,
        chat_template=template,
        bos_token=special.get("bos"),
        eos_tokens=[special[name] for name in ("eos", "eot") if name in special],
        pad_token=special.get("padding"),
        unk_token=special.get("unknown"),
        where=where,
    )
