"""Ciphers applied one after another: "rot13|walnut:seed=3" is Walnut of ROT13.

The round trip of a composition A|B holds only where B hands back A's writing unharmed:
B loses nothing; or A reads any text (then B's loss is the loss of the whole); or A writes
bare numbers, which every family keeps. Anything else is refused when it is put together.
"""

import dataclasses
import functools

from cifr_jax.ciphers.base import Cipher
from cifr_jax.errors import UserError

# Every cipher multiplies the length of the text.
MAX_PARTS = 8


@dataclasses.dataclass(frozen=True)
class Composition(Cipher):
    """Two to eight ciphers, the first applied first.

    Raises:
      UserError: too many, or a later one would destroy what an earlier one wrote.
    """

    parts: tuple[Cipher, ...]

    def __post_init__(self) -> None:
        if not 2 <= len(self.parts) <= MAX_PARTS:
            raise UserError(
                f'cipher "{self.variant:.80}"',
                f"a composition has 2 to {MAX_PARTS} ciphers, not {len(self.parts)}",
                "compose fewer",
            )
        first, last = self.parts[:-1], self.parts[-1]
        inner = first[0] if len(first) == 1 else Composition(first)
        if not (last.lossless or inner.bijective or inner.numeric):
            swapped = inner.lossless or last.numeric
            raise UserError(
                f'cipher "{self.variant:.80}"',
                f"{last.family} loses what {inner.family} needs to be decoded",
                f"put {last.family} first: {last.variant}|{inner.variant:.80}"
                if swapped
                else "let the last cipher be one that loses nothing, such as walnut",
            )
        derived = {
            "family": "|".join(part.family for part in self.parts),
            "alphabet": _merge(last.alphabet, inner.alphabet * last.passes_through),
            "passes_through": inner.passes_through and last.passes_through,
            "lossless": inner.lossless and last.lossless,
            "bijective": inner.bijective and last.bijective,
            "numeric": last.numeric,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    @property
    def variant(self) -> str:
        return "|".join(part.variant for part in self.parts)

    def encode(self, text: str) -> str:
        return functools.reduce(lambda t, part: part.encode(t), self.parts, text)

    def decode(self, text: str, strict: bool = True) -> str:
        for part in reversed(self.parts):
            text = part.decode(text, strict)
        return text

    def _read(self, text: str) -> str:
        return self.decode(text, strict=False)

    def canonical(self, text: str) -> str:
        return self._read(self.encode(text))


def _merge(first: str, second: str) -> str:
    return "".join(dict.fromkeys(first + second))
