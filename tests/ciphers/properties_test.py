"""The contract of `Cipher`, for every registered family and for compositions."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax import ciphers
from cifr_jax.ciphers import symbols
from cifr_jax.errors import UserError

SPECS = [
    *ciphers.names(),
    "walnut:seed=0",
    "polybius:keyword=J",
    "autokey:keyword=a",
    "acrostic:seed=7,period=3,max_offset=25",
    "endspeak:max_words=1",
    "endspeak:max_words=6",
    "rsa:p=3,q=17",
    "alphabet:key=9",
    "homophonic:key=9",
    "rot13|walnut:seed=3",
    "walnut|walnut",
    "rot13|polybius",
    "identity|endspeak",
    "polybius|ascii",
    "ascii|startspeak",
    "rsa|polybius",
    "autokey|homophonic|ascii",
    "endspeak|alphabet",
]
EVERY_CIPHER = pytest.mark.parametrize("spec", SPECS)

# Plain text with what the formats are made of, and anything that Unicode allows.
_PIECES = st.sampled_from(
    [
        "|",
        "||",
        "\n",
        "\n\n",
        " ",
        "  ",
        "\t",
        "\r",
        "'",
        "_",
        "11",
        "55 1",
        "391",
        "j",
        "J",
    ]
    + ["\u00df", "\u0130", "\u01c6", "\u2028", "\U0001f600", "e\u0301", "\\n", "word", "Zz"]
    + [symbols.SYMBOLS[0], symbols.SYMBOLS[51], symbols.ESCAPE]
)
_UNICODE = st.characters(exclude_categories=["Cs"])
TEXTS = st.one_of(
    st.text(_UNICODE),
    st.lists(_PIECES).map("".join),
    st.text("abcXYZ ,.!?09\n|'"),
)
# Model output: also lone surrogates, and texts close to every wire format.
JUNK = st.one_of(
    TEXTS,
    st.text(),
    st.text("0123456789 ", max_size=60),
    st.text("ab|\\nu \n", max_size=40),
    st.text(symbols.SYMBOLS[:30] + symbols.ESCAPE + "a ", max_size=40),
)


@EVERY_CIPHER
@given(text=TEXTS)
@settings(deadline=None, max_examples=60)
def test_round_trip_gives_the_canonical_text(spec: str, text: str) -> None:
    cipher = ciphers.parse(spec)
    canonical = cipher.canonical(text)
    wire = cipher.encode(text)
    assert cipher.decode(wire) == canonical
    assert cipher.decode(wire, strict=False) == canonical
    assert cipher.canonical(canonical) == canonical
    if cipher.lossless:
        assert canonical == text


@EVERY_CIPHER
@given(text=JUNK)
@settings(deadline=None, max_examples=60)
def test_lenient_decoding_is_total_and_strict_decoding_raises_one_error(
    spec: str, text: str
) -> None:
    cipher = ciphers.parse(spec)
    lenient = cipher.decode(text, strict=False)
    assert isinstance(lenient, str)
    try:
        assert cipher.decode(text) == lenient
    except ciphers.CipherDecodeError as error:
        assert not cipher.bijective
        assert error.position >= 0


@EVERY_CIPHER
@given(text=TEXTS)
@settings(deadline=None, max_examples=40)
def test_only_declared_characters_are_written(spec: str, text: str) -> None:
    cipher = ciphers.parse(spec)
    allowed = set(cipher.alphabet)
    if cipher.passes_through:
        allowed |= set(cipher.canonical(text)) | set(ciphers.parse("rot13").encode(text))
    assert set(cipher.encode(text)) <= allowed


@EVERY_CIPHER
@given(numbers=st.lists(st.integers(0, 10**6)))
@settings(deadline=None, max_examples=30)
def test_every_family_keeps_numbers(spec: str, numbers: list[int]) -> None:
    """The ground on which a composition after a numeric cipher is allowed."""
    text = " ".join(map(str, numbers))
    assert ciphers.parse(spec).canonical(text) == text


@EVERY_CIPHER
def test_variant_parses_to_an_equal_cipher(spec: str) -> None:
    cipher = ciphers.parse(spec)
    again = ciphers.parse(cipher.variant)
    assert again == cipher and hash(again) == hash(cipher)
    assert again.variant == cipher.variant
    assert again.family == cipher.family


@EVERY_CIPHER
def test_numeric_and_bijective_mean_what_they_say(spec: str) -> None:
    cipher = ciphers.parse(spec)
    text = "Some JAM, 12!"
    wire = cipher.encode(text)
    if cipher.numeric:
        assert all(number.isdecimal() for number in wire.split(" "))
    if cipher.bijective:
        assert cipher.encode(cipher.decode(text)) == text


@pytest.mark.parametrize("family", ciphers.families())
def test_a_lossy_family_loses_something(family: str) -> None:
    cipher = ciphers.parse(family)
    text = "Jam,  on  J"
    assert (cipher.canonical(text) == text) == cipher.lossless


TRICKY = [
    "",
    "\n",
    "Jam | 12  don't\n\nStop.",
    "\u0130\u00df \U0001f600",
    symbols.SYMBOLS[:9] + " ab",
]


@pytest.mark.parametrize("second", ciphers.names())
@pytest.mark.parametrize("first", ciphers.names())
def test_any_two_compose_or_are_refused_with_a_mend_that_works(
    first: str, second: str
) -> None:
    try:
        cipher = ciphers.parse(f"{first}|{second}")
    except UserError as error:
        if error.mend.startswith("put "):
            assert ciphers.parse(error.mend.split(" first: ")[1])
        else:
            assert not ciphers.parse(first).lossless and not ciphers.parse(second).lossless
        return
    for text in TRICKY:
        canonical = cipher.canonical(text)
        assert cipher.decode(cipher.encode(text)) == canonical
        assert cipher.canonical(canonical) == canonical
        assert canonical == text or not cipher.lossless


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_same_encodings_in_another_process_and_no_jax(hash_seed: str) -> None:
    script = (
        "import sys, json\n"
        "from cifr_jax import ciphers\n"
        "assert 'jax' not in sys.modules\n"
        "text, specs = json.loads(sys.stdin.read())\n"
        "print(json.dumps([ciphers.parse(spec).encode(text) for spec in specs]))\n"
    )
    text = "The quick brown fox jumps over 13 lazy dogs.\nAgain: \u00e9, \U0001f600!"
    env = os.environ | {
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps([text, SPECS]),
        capture_output=True,
        text=True,
        env=env,
        check=True,
    )
    assert json.loads(done.stdout) == [ciphers.parse(spec).encode(text) for spec in SPECS]


def test_case_mappings_that_canonical_forms_rely_on_are_idempotent() -> None:
    for code in range(sys.maxunicode + 1):
        c = chr(code)
        assert c.upper().upper() == c.upper()
        assert c.casefold().casefold() == c.casefold()
