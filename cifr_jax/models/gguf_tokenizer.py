"""The byte-level BPE tokenizer in a GGUF file's metadata."""

from collections.abc import Mapping
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


def read_tokenizer(fields: Mapping[str, Any], where: str) -> ChatTokenizer:
    """Tokenizer and chat template.

    Args:
      fields: the file's metadata.
      where: the file.

    Raises:
      UserError: another kind of tokenizer, or a broken one.
    """

    def field(name: str, kind: type, default: Any = None) -> Any:
        value = fields.get(f"tokenizer.ggml.{name}", default)
        if not isinstance(value, kind):
            what = f"tokenizer.ggml.{name} is missing or of a wrong type"
            raise UserError(where, what, _MEND)
        return value

    if (model := field("model", str)) != "gpt2":
        mend = "only byte-level BPE ('gpt2') is supported"
        raise UserError(where, f"tokenizer model {model!r}", mend)
    if (pre := field("pre", str, "default")) not in _PRE_TOKENIZERS:
        mend = f"supported is one of {', '.join(map(repr, _PRE_TOKENIZERS))}"
        raise UserError(where, f"pre-tokenizer {pre!r}", mend)
    tokens, merges = field("tokens", list), field("merges", list)
    types = field("token_type", list, [1] * len(tokens))
    try:
        vocab = {token: i for i, token in enumerate(tokens)}
        pairs = [tuple(merge.split(" ")) for merge in merges]
        bpe = models.BPE(vocab=vocab, merges=pairs, ignore_merges=pre in _WHOLE_WORDS)
        tokenizer = Tokenizer(bpe)
        added = [
            AddedToken(token, special=kind == _CONTROL, normalized=False)
            for token, kind in zip(tokens, types, strict=True)
            if kind in (_CONTROL, _USER_DEFINED)
        ]
        # range.index refuses what indexing would take: a negative id counts from the end.
        special = {
            name: tokens[range(len(tokens)).index(i)]
            for name in ("bos", "eos", "eot", "unknown", "padding")
            if (i := fields.get(f"tokenizer.ggml.{name}_token_id")) is not None
        }
    except Exception as e:  # the bindings raise plain Exception for a broken vocabulary
        raise UserError(where, f"broken tokenizer ({e})", _MEND) from e
    if pre in _COMPOSED:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(_PRE_TOKENIZERS[pre])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([token for token in added if token.special])
    tokenizer.add_tokens([token for token in added if not token.special])
    template = fields.get("tokenizer.chat_template")
    return ChatTokenizer(
        tokenizer,
        chat_template=template if isinstance(template, str) else None,
        bos_token=special.get("bos"),
        eos_tokens=[special[name] for name in ("eos", "eot") if name in special],
        pad_token=special.get("padding"),
        unk_token=special.get("unknown"),
        where=where,
    )
