"""Faults: bad specifications, bad parameters, malformed ciphertext, a clumsy author."""

import dataclasses
import pickle

import pytest

from cifr_jax import ciphers
from cifr_jax.ciphers import registry, symbols
from cifr_jax.errors import UserError

BAD_SPECS = [
    ("wallnut:seed=3", ["wallnut", "did you mean walnut?", "polybius", "startspeak"]),
    ("WALNUT", ["did you mean walnut?"]),
    ("", ['unknown cipher ""', "known: acrostic"]),
    ("rot13|", ['unknown cipher ""']),
    ("zzzzqqq", ["known: acrostic"]),
    ("walnut:sed=3", ["parameter of walnut", "did you mean seed?"]),
    ("walnut:", ["not name=value", "walnut:seed="]),
    ("walnut:5", ["not name=value", "walnut:seed="]),
    ("walnut:seed=3,seed=4", ["seed is given twice"]),
    ("walnut:seed=", ["whole number"]),
    ("walnut:seed=x", ["whole number", '"x"', "seed=5"]),
    ("walnut:seed=-1", ["whole number"]),
    ("walnut:seed=1.0", ["whole number"]),
    ("walnut:seed=1_0", ["whole number"]),
    ("walnut:seed=\uff15", ["whole number"]),
    ("walnut:seed=9999999999999999999", ["whole number"]),
    ("walnut:seed=" + "9" * 9999, ["whole number"]),
    ("ascii:seed=1", ["parameter of ascii", "it has none"]),
    ("startspeak:period=2", ["parameter of startspeak", "it has none"]),
    ("polybius:keyword=", ["one or more letters A-Z", "keyword=TRAINING"]),
    ("polybius:keyword=two words", ["letters A-Z"]),
    ("polybius:keyword=\u00c9T\u00c9", ["letters A-Z"]),
    ("autokey:keyword=", ["letters A-Z", "autokey:keyword=TRAINING"]),
    ("autokey:keyword=a1", ["letters A-Z"]),
    ("endspeak:max_words=0", ["leaves no word", "max_words=6"]),
    ("acrostic:period=0", ["period=0", "period=10"]),
    ("acrostic:period=100000000", ["period"]),
    ("acrostic:max_offset=1000000", ["max_offset", "0 to 100"]),
    ("rsa:p=15", ["p=15 is no prime", "p=17,q=23"]),
    ("rsa:p=0", ["p=0 is no prime"]),
    ("rsa:q=1", ["q=1 is no prime"]),
    ("rsa:p=2305843009213693951", ["no prime below"]),
    ("rsa:p=17,q=17", ["both 17"]),
    ("rsa:p=2,q=3", ["p*q=6 is smaller than the alphabet of 41"]),
    ("rsa:p=103,q=5", ["exponent 17 divides"]),
    (
        "walnut|polybius",
        ["polybius loses what walnut needs", "polybius:keyword=TRAINING|walnut"],
    ),
    ("startspeak|endspeak", ["endspeak loses what acrostic needs", "loses nothing"]),
    ("|".join(["rot13"] * 9), ["2 to 8 ciphers, not 9"]),
    ("walnut:seed=3\x1b[2J\n", ["whole number"]),
]


@pytest.mark.parametrize(("spec", "said"), BAD_SPECS)
def test_bad_specification(spec: str, said: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        ciphers.parse(spec)
    message = str(caught.value)
    assert all(part in message for part in said), message
    assert message.isprintable() and len(message) < 500
    assert caught.value.mend


@pytest.mark.parametrize("spec", [None, 53, b"walnut", ["walnut"], {"seed": 3}])
def test_specification_of_another_type(spec: object) -> None:
    with pytest.raises(UserError, match="expected a string"):
        ciphers.parse(spec)  # type: ignore[arg-type]


def test_white_space_in_a_specification_is_harmless() -> None:
    assert ciphers.parse(" rot13 | walnut : seed = 007 ").variant == "rot13|walnut:seed=7"


def test_equal_ciphers_have_one_variant() -> None:
    assert ciphers.parse("acrostic:seed=9,period=3,max_offset=0") == ciphers.parse(
        "startspeak"
    )
    assert ciphers.parse("polybius:keyword=training") == ciphers.parse("polybius")
    assert ciphers.parse("startspeak").family == "acrostic"


RUNE = ciphers.parse("alphabet:key=1").encode("a")
OTHER_RUNE = next(s for s in symbols.SYMBOLS if s not in ciphers.parse("alphabet").alphabet)
MALFORMED = [  # spec, text, position of the fault, lenient reading
    ("walnut", "d|qq|k", 3, "abbc"),
    ("walnut", "d|", 1, "a"),
    ("walnut", "|", None, "|"),
    ("walnut", "d|\\n|k", 2, "a\nc"),
    ("ascii", "72 x 105", 3, "Hi"),
    ("ascii", "72 300 105", 3, "Hi"),
    ("ascii", "72  105", 3, "Hi"),
    ("ascii", "072 105", 0, "Hi"),
    ("ascii", "72 195", 3, "H\ufffd"),
    ("ascii", "72 105 ", 6, "Hi"),
    ("ascii", "72 " + "9" * 5000, 2, "H"),
    ("polybius", "23 13 16", 7, "CA16"),
    ("polybius", "23 13 ", 5, "CA"),
    ("polybius", "plain words", 0, "plain words"),
    ("polybius", "A", 0, "A"),
    ("rsa", "0 5 1", 2, "AB"),
    ("rsa", "0  1", 2, "AB"),
    ("autokey:keyword=B", "BaA", 1, "AAA"),
    ("alphabet:key=1", f"{RUNE}b{RUNE}", 1, "aba"),
    ("alphabet:key=1", f"{RUNE}{OTHER_RUNE}", 1, f"a{OTHER_RUNE}"),
    ("alphabet:key=1", f"{RUNE}{symbols.ESCAPE}", 2, f"a{symbols.ESCAPE}"),
    ("homophonic:key=1", "a", 0, "a"),
    ("startspeak", "room one\n\nink two", 9, "room ink"),
    ("startspeak", "room one\n", 9, "room"),
    ("startspeak", "...", 0, ""),
    ("acrostic:seed=42,period=10,max_offset=10", "too short", 0, ""),
    ("endspeak", "by the sea ", 10, "sea"),
    ("endspeak", "a b\n\n\nc d", 5, "b\nd"),
    ("endspeak", "\na b", 0, "b"),
    ("endspeak", "a b\n", 3, "b"),
    ("rot13|ascii", "72 x", 2, "U"),
]


@pytest.mark.parametrize(("spec", "text", "position", "lenient"), MALFORMED)
def test_malformed_text(spec: str, text: str, position: int | None, lenient: str) -> None:
    cipher = ciphers.parse(spec)
    assert cipher.decode(text, strict=False) == lenient
    if position is None:
        assert cipher.decode(text) == lenient
        return
    with pytest.raises(ciphers.CipherDecodeError) as caught:
        cipher.decode(text)
    assert isinstance(caught.value, ValueError)
    assert caught.value.position == position
    assert f"character {position}" in str(caught.value)
    assert caught.value.cipher.split(":")[0] in spec or spec == "startspeak"


def test_strict_homophonic_takes_either_symbol_but_no_letter() -> None:
    cipher = ciphers.parse("homophonic:key=1")
    assert isinstance(cipher, symbols.Homophonic)
    first, second = cipher.images
    assert cipher.decode(first[:3] + second[:3]) == "abcabc"
    with pytest.raises(ciphers.CipherDecodeError) as caught:
        cipher.decode(first[0] + second[1] + "c")
    assert caught.value.position == 2


def test_decode_error_crosses_process_boundaries() -> None:
    error = ciphers.CipherDecodeError("ascii", 3, "x")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.position) == (str(error), 3)


def test_strict_decoders_notice_one_changed_character() -> None:
    """An injected fault in every position of a wire is refused or read as other text."""
    text = "Jam on 12 boats, by noon"
    for family in ("walnut", "ascii", "polybius", "rsa", "autokey", "alphabet"):
        cipher = ciphers.parse(family)
        wire = cipher.encode(text)
        for i in range(len(wire)):
            changed = wire[:i] + ("7" if wire[i] != "7" else "8") + wire[i + 1 :]
            try:
                assert cipher.decode(changed) != cipher.canonical(text)
            except ciphers.CipherDecodeError as error:
                assert error.position <= i + 3


@dataclasses.dataclass(frozen=True)
class _Reversal(ciphers.Cipher):
    """What an author writes."""

    block: int = 0

    bijective = True

    def encode(self, text: str) -> str:
        return text[::-1]

    _read = encode


def test_an_author_registers_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_MAKERS", dict(registry._MAKERS))
    ciphers.register("reversal")(_Reversal)
    assert "reversal" in ciphers.families()
    cipher = ciphers.parse("reversal:block=2|walnut:seed=53")
    assert cipher.decode(cipher.encode("abc")) == "abc"
    assert cipher.variant == "reversal:block=2|walnut:seed=53"
    with pytest.raises(ValueError, match="already"):
        ciphers.register("walnut")(_Reversal)
    with pytest.raises(ValueError, match="a-z"):
        ciphers.register("a|b")
