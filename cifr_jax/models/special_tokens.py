"""Names of special tokens in a rendered chat: the template's own, and those a user typed.

A rendering is text, in which both look alike. So the characters with which names begin
and end are masked in the messages, one for one, and the chat is rendered again: the names
that are still there are the template's. Masks are private-use characters that occur nowhere
else; trimming, slicing, counting or changing the case treats them as the signs they stand
for. A template that looks for single signs or for the names themselves does not find them
in a chat that holds such a name.
"""

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence

from tokenizers import AddedToken

_PRIVATE_USE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))


class SpecialTokens:
    """The special tokens of a tokenizer.

    Args:
      added: the tokenizer's added tokens, by id.

    Attributes:
      ids: token id of each special token's name.
    """

    def __init__(self, added: Mapping[int, AddedToken]):
        special = {i: t for i, t in added.items() if t.special and t.content}
        self.ids = {token.content: i for i, token in special.items()}
        self._strips_before = {t.content for t in special.values() if t.lstrip}
        self._strips_after = {t.content for t in special.values() if t.rstrip}
        # Longest first, the order in which overlapping names are matched.
        names = sorted(self.ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, names)) or "(?!)")
        self._split = re.compile(f"({self._pattern.pattern})")
        self._ends = sorted({end for name in names for end in (name[0], name[-1])})
        self._any_end = re.compile("|".join(map(re.escape, self._ends)) or "(?!)")

    def find(self, text: str) -> list[int]:
        """Ids of the names in a text, in order."""
        return [self.ids[name] for name in self._pattern.findall(text)]

    def split(self, text: str) -> list[str]:
        """Parts of a text: every second one is a name, those between are what stands
        between names, without the blanks that a name takes with it (Phi-3)."""
        parts = self._split.split(text)
        for i in range(1, len(parts), 2):
            if parts[i] in self._strips_before:
                parts[i - 1] = parts[i - 1].rstrip()
            if parts[i] in self._strips_after:
                parts[i + 1] = parts[i + 1].lstrip()
        return parts

    def broken(self, text: str) -> list[str]:
        """The text cut within every name, so that no part holds one."""
        cut = [0, *(found.start() + 1 for found in self._pattern.finditer(text)), len(text)]
        return [text[start:end] for start, end in itertools.pairwise(cut)]

    def masks(self, texts: Sequence[str], source: str) -> "Masks | None":
        """Masks for what users wrote, or None where they wrote nothing to mask.

        Args:
          texts: roles and contents of the messages.
          source: the template's source, whose characters are no masks.
        """
        if not any(self._any_end.search(text) for text in texts):
            return None
        used, whole = set(source).union(*texts), "\n".join([source, *texts])
        free = (
            c
            for c in map(chr, itertools.chain(*_PRIVATE_USE))
            if c not in used and _escape(c) not in whole
        )
        return Masks(dict(zip(self._ends, free, strict=False)), self.ids)


def _escape(sign: str) -> str:
    return json.dumps(sign)[1:-1]


class Masks:
    """Characters that stand for those with which special tokens begin and end.

    Args:
      mask_of: the mask of each character.
      names: the names of special tokens.
    """

    def __init__(self, mask_of: Mapping[str, str], names: Iterable[str]):
        self._masking = str.maketrans(dict(mask_of))
        self._names = list(names)
        # A template may write what it is given as JSON, in which a mask is an escape.
        self._escapes = {_escape(mask): end for end, mask in mask_of.items()}
        self._restoring = str.maketrans({mask: end for end, mask in mask_of.items()})

    def hide(self, text: str, literals: Iterable[str]) -> str:
        """The text with its masks.

        Args:
          text: what a user wrote.
          literals: what the template itself looks for in texts, such as marks of thinking;
            it stays as it is, unless a special token could be made of it.
        """
        kept = [
            literal
            for literal in literals
            if literal in text
            and not any(literal in name or name in literal for name in self._names)
        ]
        if not kept:
            return text.translate(self._masking)
        parts = re.split("(" + "|".join(map(re.escape, kept)) + ")", text)
        return "".join(
            part if i % 2 else part.translate(self._masking) for i, part in enumerate(parts)
        )

    def restore(self, text: str) -> str:
        """The text without masks."""
        for escape, end in self._escapes.items():
            text = text.replace(escape, end)
        return text.translate(self._restoring)
