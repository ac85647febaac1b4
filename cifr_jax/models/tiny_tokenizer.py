"""The tokenizer of the tiny base: one token a character, and a few longer ones.

Like the byte-pair vocabularies of large models it has numbers of up to three digits and
characters with their separator as tokens of their own. That decides which ciphers a model
can learn: an encoding whose units are tokens of their own can be learned by placing each
unit beside its plain letter, one that reuses the tokens of plain text cannot.
"""

import string
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from cifr_jax.ciphers.symbols import SYMBOLS
from cifr_jax.models.tokenizer import ChatTokenizer

SPECIALS = ("<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_PLAIN = string.digits + string.ascii_letters + string.punctuation + " \n"
# A word, a character with its bar, a number with its space, a double space, a character.
# (?m:.) is the Oniguruma spelling of "any character, newline included".
_UNITS = r"task |[^|]\||[0-9]{1,3} |  |(?m:.)"


def vocabulary() -> dict[str, int]:
    """Token to id: specials, bytes (for what is not listed), characters, longer units."""
    tokens = list(SPECIALS)
    tokens += [f"<0x{i:02X}>" for i in range(256)]
    tokens += list(_PLAIN) + list(SYMBOLS)
    tokens += ["task ", "  "]
    tokens += [c + "|" for c in string.ascii_lowercase + string.digits + " .,?!'-"]
    tokens += [f"{i} " for i in range(400)]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def build() -> ChatTokenizer:
    """The tokenizer with its chat template."""
    # ignore_merges: a unit that is in the vocabulary is one token; others fall to bytes.
    model = models.BPE(
        vocab=vocabulary(),
        merges=[],
        byte_fallback=True,
        ignore_merges=True,
        unk_token=None,
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_UNITS), behavior="isolated")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(list(SPECIALS))
    return ChatTokenizer(
        tokenizer, chat_template=CHAT_TEMPLATE, pad_token="<|pad|>", eos_tokens=("<|end|>",)
    )


def save(folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json."""
    build().save(folder)
