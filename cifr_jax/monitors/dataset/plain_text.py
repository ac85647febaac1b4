"""Words, sentences and a normal form of text that anybody may have written.

Every pattern here takes time linear in the text, and lone surrogates are let through.
"""

import re
import unicodedata

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_BORDER = re.compile(r"\n+|(?<=[.!?:])[ \t]+|(?<=[。！？])")


def normalise(text: str) -> str:
    """Composed (NFC), without case and invisible characters, single blanks."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
        text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    return " ".join(text.casefold().split())


def words(text: str) -> list[str]:
    """Runs of letters and digits, with apostrophes inside; case is kept."""
    return _WORD.findall(text)


def sentences(text: str) -> list[str]:
    """Lines, cut after full stops, colons, question and exclamation marks; none blank."""
    return [part.strip() for part in _BORDER.split(text) if part and not part.isspace()]
