"""What every cipher promises: `Cipher`, and the error of a strict decoder.

The contract, for every string `t`:

  decode(encode(t)) == canonical(t)
  canonical(canonical(t)) == canonical(t)
  decode(anything, strict=False) returns a string and never raises

`canonical` is thus the statement of what a cipher loses; a lossless cipher returns its
argument. A subclass writes `encode`, `canonical` where it loses something, and
`_read`, the lenient reader; the strict decoder follows from those.
"""

import abc
import dataclasses
from collections.abc import Iterator


class CipherDecodeError(ValueError):
    """Text that the cipher could not have written.

    Attributes:
      cipher: the variant that refused the text.
      position: index of the first character at fault (of the text that this cipher was
        to decode: inside a composition that is the output of the outer cipher).
    """

    def __init__(self, cipher: str, position: int, excerpt: str):
        super().__init__(cipher, position, excerpt)
        self.cipher, self.position, self.excerpt = cipher, position, excerpt

    def __str__(self) -> str:
        found = repr(self.excerpt) if self.excerpt else "the end"
        return f"not {self.cipher} text: {found} at character {self.position}"


class Cipher(abc.ABC):
    """An encoding of text: immutable, deterministic, the same in every process.

    Subclasses are frozen dataclasses whose fields are the parameters of the family.

    Attributes:
      family: name of the algorithm.
      alphabet: the characters that the cipher itself writes.
      passes_through: whether other characters of the text appear in the encoding too.
      lossless: whether canonical(t) == t for every t of valid Unicode.
      bijective: whether encode permutes all strings, so that any text is well-formed.
      numeric: whether the encoding is decimal numbers joined by single spaces.
    """

    family: str = ""
    alphabet: str = ""
    passes_through: bool = True
    lossless: bool = True
    bijective: bool = False
    numeric: bool = False

    @property
    def variant(self) -> str:
        """The canonical name, e.g. "walnut:seed=53"; it parses to an equal cipher."""
        given = ",".join(f"{name}={value}" for name, value in self._parameters())
        return f"{self.family}:{given}" if given else self.family

    def _parameters(self) -> Iterator[tuple[str, object]]:
        if dataclasses.is_dataclass(self):
            for field in dataclasses.fields(self):
                value = getattr(self, field.name)
                if value is not None:
                    yield field.name, value

    @abc.abstractmethod
    def encode(self, text: str) -> str:
        """The encoding of any text."""

    @abc.abstractmethod
    def _read(self, text: str) -> str:
        """Decodes whatever it is given: exact on encodings, the best guess elsewhere."""

    def canonical(self, text: str) -> str:
        """What is left of `text` after encoding and decoding."""
        return text

    def _malformed_at(self, text: str, plain: str) -> int | None:
        """Where `text`, read as `plain`, departs from what `encode` writes, if it does."""
        encoded = self.encode(plain)
        return None if encoded == text else first_difference(encoded, text)

    def decode(self, text: str, strict: bool = True) -> str:
        """The plain text.

        Args:
          text: an encoding, or with strict=False any string (a model's output is
            seldom well-formed).
          strict: refuse what `encode` could not have written, up to choices that
            carry no meaning (homophones, cover words).

        Raises:
          CipherDecodeError: strict, and the text is malformed.
        """
        plain = self._read(text)
        if strict and (at := self._malformed_at(text, plain)) is not None:
            raise CipherDecodeError(self.variant, at, text[at : at + 12])
        return plain

    def expansion(self, text: str) -> float:
        """Characters of the encoding per character of the text (1.0 for no text)."""
        return len(self.encode(text)) / len(text) if text else 1.0


def first_difference(a: str, b: str) -> int:
    """Index of the first character in which two unequal strings differ."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))
