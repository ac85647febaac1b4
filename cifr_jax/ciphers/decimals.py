"""Text as decimal numbers: ASCII (in truth UTF-8) and toy RSA, as in CIFR (2508.17158)."""

import dataclasses
import functools
import math
import re
import string
from collections.abc import Mapping
from typing import TypeVar

from cifr_jax.ciphers.base import Cipher
from cifr_jax.ciphers.registry import register
from cifr_jax.errors import UserError

V = TypeVar("V")

_DECIMAL = [str(byte) for byte in range(256)]
_BYTE = {decimal: byte for byte, decimal in enumerate(_DECIMAL)}

RSA_SYMBOLS = string.ascii_uppercase + string.digits + " .,?!"
RSA_EXPONENT = 17
# Trial division must stay quick.
_MAX_PRIME = 2**31


@register("ascii")
@dataclasses.dataclass(frozen=True)
class Ascii(Cipher):
    """Each byte of the UTF-8 text in decimal, joined by single spaces.

    Lone surrogates, which are no valid Unicode, become question marks.
    """

    alphabet = "0123456789 "
    passes_through = False
    numeric = True

    def canonical(self, text: str) -> str:
        return text.encode("utf-8", "replace").decode()

    def encode(self, text: str) -> str:
        return " ".join([_DECIMAL[byte] for byte in text.encode("utf-8", "replace")])

    def _read(self, text: str) -> str:
        return bytes(_look_up(_BYTE, text)).decode("utf-8", "replace")


@register("rsa")
@dataclasses.dataclass(frozen=True)
class Rsa(Cipher):
    """Index m of a symbol as m^17 mod pq, in decimal: a numeric substitution.

    41 symbols: A-Z, 0-9, space and . , ? !. Loses case and every other character.
    """

    p: int = 17
    q: int = 23

    alphabet = "0123456789 "
    passes_through = False
    lossless = False
    numeric = True

    def __post_init__(self) -> None:
        mend = "use two different primes such as p=17,q=23"
        for name, value in (("p", self.p), ("q", self.q)):
            if not _is_prime(value):
                raise UserError(
                    "cipher rsa", f"{name}={value} is no prime below {_MAX_PRIME}", mend
                )
        if self.p == self.q:
            raise UserError("cipher rsa", f"p and q are both {self.p}", mend)
        if self.modulus < len(RSA_SYMBOLS):
            what = f"p*q={self.modulus} is smaller than the alphabet of {len(RSA_SYMBOLS)}"
            raise UserError("cipher rsa", what, mend)
        if math.gcd(RSA_EXPONENT, self._phi) != 1:
            what = f"the exponent {RSA_EXPONENT} divides (p-1)*(q-1)={self._phi}"
            raise UserError("cipher rsa", what, mend)

    @property
    def modulus(self) -> int:
        """n = pq."""
        return self.p * self.q

    @property
    def private_exponent(self) -> int:
        """d with 17 d = 1 modulo (p-1)(q-1)."""
        return pow(RSA_EXPONENT, -1, self._phi)

    @property
    def _phi(self) -> int:
        return (self.p - 1) * (self.q - 1)

    @functools.cached_property
    def _to(self) -> dict[str, str]:
        powers = (pow(m, RSA_EXPONENT, self.modulus) for m in range(len(RSA_SYMBOLS)))
        return dict(zip(RSA_SYMBOLS, map(str, powers), strict=True))

    @functools.cached_property
    def _back(self) -> dict[str, str]:
        return {number: symbol for symbol, number in self._to.items()}

    def canonical(self, text: str) -> str:
        return re.sub(r"[^A-Z0-9 .,?!]+", "", text.upper())

    def encode(self, text: str) -> str:
        return " ".join(map(self._to.__getitem__, self.canonical(text)))

    def _read(self, text: str) -> str:
        return "".join(_look_up(self._back, text))


def _look_up(table: Mapping[str, V], text: str) -> list[V]:
    """What the table says of each number; of malformed text, whatever can be found."""
    try:
        return [table[number] for number in text.split(" ")]
    except KeyError:
        runs = (run.lstrip("0") or "0" for run in re.findall("[0-9]+", text))
        return [table[run] for run in runs if run in table]


def _is_prime(n: int) -> bool:
    if not 2 <= n < _MAX_PRIME:
        return False
    return all(n % d for d in range(2, math.isqrt(n) + 1))
