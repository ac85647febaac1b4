"""Known answers: the wire formats of the published benchmark, and of our own families."""

import math

import pytest

from cifr_jax import ciphers
from cifr_jax.ciphers import symbols
from cifr_jax.ciphers.decimals import Rsa
from cifr_jax.ciphers.hidden_words import Acrostic
from cifr_jax.ciphers.keyed import Polybius

VECTORS = [
    ("identity", "Any text|at all\n", "Any text|at all\n"),
    ("rot13", "Hello, World 13", "Uryyb, Jbeyq 13"),
    ("walnut:seed=53", "a cab", "d| |k|d|q"),
    ("walnut:seed=53", "Hi\n!", "H|m|\n|!"),
    ("walnut:seed=53", "a|b", "d|||q"),
    ("walnut:seed=50", "x", "w"),
    ("ascii", "Hi é", "72 105 32 195 169"),
    ("ascii", "\U0001f600\n", "240 159 152 128 10"),
    ("polybius:keyword=TRAINING", "cat", "23 13 11"),
    ("polybius:keyword=TRAINING", "I jam", "14   14 13 35"),
    ("polybius:keyword=TRAINING", "ROOM 12 OK", "12 41 41 35   1 2   41 33"),
    ("polybius:keyword=TRAINING", "a. b", "13 .   22"),
    ("rsa:p=17,q=23", "AB b~", "0 1 121 1"),
    ("autokey:keyword=QUEENLY", "attack at dawn", "QNXEPV YT WTWP"),
    ("autokey:keyword=b", "aaa, z", "BAA, Z"),
    ("rot13|walnut:seed=53", "n", "d"),
    ("walnut:seed=53|ascii", "ab", "100 124 113"),
]


@pytest.mark.parametrize(("spec", "plain", "wire"), VECTORS)
def test_vector(spec: str, plain: str, wire: str) -> None:
    cipher = ciphers.parse(spec)
    assert cipher.encode(plain) == wire
    assert cipher.decode(wire) == cipher.canonical(plain)


@pytest.mark.parametrize(
    ("seed", "images"),
    [
        (50, "fpsymojiegrltuhdcqkbzxawvn"),
        (51, "ynxotfljpbairvqszmhduwkcge"),
        (52, "tiqejpuvcamdgwsornbkzlxfyh"),
        (53, "dqkzetgvmhurjypwnacbfoxisl"),
    ],
)
def test_walnut_images(seed: int, images: str) -> None:
    wire = ciphers.parse(f"walnut:seed={seed}").encode("abcdefghijklmnopqrstuvwxyz")
    assert wire == "|".join(images)


def test_walnut_defaults_to_the_original_seed() -> None:
    assert ciphers.parse("walnut").variant == "walnut:seed=53"


@pytest.mark.parametrize("keyword", ["TRAINING", "training", "Jukebox", "QZ"])
def test_polybius_grid_is_the_deduplicated_keyword_and_the_rest(keyword: str) -> None:
    seen = ""
    for c in keyword.upper().replace("J", "I") + "ABCDEFGHIKLMNOPQRSTUVWXYZ":
        if c not in seen:
            seen += c
    cipher = ciphers.parse(f"polybius:keyword={keyword}")
    by_hand = [f"{i // 5 + 1}{i % 5 + 1}" for i in range(25)]
    assert cipher.encode(seen).split() == by_hand
    assert cipher.encode("J") == cipher.encode("i")


def test_polybius_grid_of_the_benchmark() -> None:
    polybius = ciphers.parse("polybius:keyword=TRAINING")
    assert isinstance(polybius, Polybius)
    assert polybius.grid == "TRAINGBCDEFHKLMOPQSUVWXYZ"


def test_rsa_keys_and_fixed_points_of_the_benchmark() -> None:
    rsa = ciphers.parse("rsa:p=17,q=23")
    assert isinstance(rsa, Rsa)
    assert (rsa.modulus, rsa.private_exponent) == (391, 145)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,?!"
    numbers = [int(n) for n in rsa.encode(alphabet).split()]
    assert [pow(n, 145, 391) for n in numbers] == list(range(41))
    assert sum(n == m for m, n in enumerate(numbers)) == 5


@pytest.mark.parametrize("keyword", ["k", "QUEENLY", "TRAININGword"])
@pytest.mark.parametrize("text", ["", "a", "To be, or not 2 be: zebra!", "xyz" * 40])
def test_autokey_against_a_letter_by_letter_loop(keyword: str, text: str) -> None:
    key, wire = [ord(c) - 65 for c in keyword.upper()], ""
    for c in text.upper():
        if "A" <= c <= "Z":
            wire += chr((ord(c) - 65 + key.pop(0)) % 26 + 65)
            key.append(ord(c) - 65)
        else:
            wire += c
    cipher = ciphers.parse(f"autokey:keyword={keyword}")
    assert cipher.encode(text) == wire
    assert cipher.decode(wire) == text.upper()


def test_startspeak_hides_each_word_first_in_its_line() -> None:
    lines = ciphers.parse("startspeak").encode("Don't look, Look BACK\n42").split("\n")
    assert [line.split()[0] for line in lines] == ["don't", "look", "look", "back", "42"]
    assert lines[1] == lines[2]  # one cover sentence per distinct word
    assert all(len(line.split()) == 3 for line in lines)


def test_acrostic_hides_words_at_offsets_of_the_seed() -> None:
    acrostic = ciphers.parse("acrostic:seed=42,period=10,max_offset=10")
    assert isinstance(acrostic, Acrostic)
    assert acrostic.offsets == (10, 1, 0, 4, 3, 3, 2, 1, 10, 8)
    words = [f"word{i}" for i in range(23)]
    lines = acrostic.encode(" ".join(words)).split("\n")
    places = [line.split().index(w) for line, w in zip(lines, words, strict=True)]
    assert places == [acrostic.offsets[i % 10] for i in range(23)]


@pytest.mark.parametrize("cap", [1, 3, 6, None])
def test_endspeak_hides_each_word_last_and_keeps_the_final_words(cap: int | None) -> None:
    spec = "endspeak" if cap is None else f"endspeak:max_words={cap}"
    full = ciphers.parse("endspeak").encode("Well, hello\nthere").split("\n")
    wire = ciphers.parse(spec).encode("Well, hello\nthere").split("\n")
    assert [line.split()[-1:] for line in wire] == [["Well,"], ["hello"], [], ["there"]]
    assert [line.split() for line in wire] == [
        line.split()[-(cap or 99) :] for line in full
    ]
    assert max(len(line.split()) for line in full) <= 12


def test_alphabet_uses_26_of_the_52_symbols_and_leaves_the_rest() -> None:
    assert len(set(symbols.SYMBOLS)) == 52
    assert all(s.isprintable() and s.lower() == s.upper() == s for s in symbols.SYMBOLS)
    text = "abcdefghijklmnopqrstuvwxyz Z."
    wires = [ciphers.parse(f"alphabet:key={k}").encode(text) for k in (1, 2)]
    for wire in wires:
        assert len(set(wire[:26])) == 26 and set(wire[:26]) <= set(symbols.SYMBOLS)
        assert wire[26:] == " Z."
    assert wires[0] != wires[1]
    assert wires[0].startswith("\u16bb\u16a6\u16bf")  # default_rng(1): 27, 6, 31


def test_homophonic_uses_both_symbols_of_a_letter_about_equally() -> None:
    cipher = ciphers.parse("homophonic:key=1")
    wire = cipher.encode("e" * 4000)
    counts = sorted(wire.count(s) for s in set(wire))
    assert len(counts) == 2
    assert abs(counts[0] - 2000) < 5 * math.sqrt(1000)
    assert cipher.decode("".join(sorted(set(wire)))) == "ee"
    distinct = {s for c in "abcdefghijklmnopqrstuvwxyz" for s in cipher.encode(c * 64)}
    assert distinct == set(symbols.SYMBOLS)


@pytest.mark.parametrize("spec", ["alphabet:key=1", "homophonic:key=1"])
def test_literal_symbols_survive_behind_an_escape(spec: str) -> None:
    cipher = ciphers.parse(spec)
    text = f"a {symbols.SYMBOLS}{symbols.ESCAPE} z"
    assert cipher.decode(cipher.encode(text)) == text
    assert cipher.encode(symbols.SYMBOLS[:1]) == symbols.ESCAPE + symbols.SYMBOLS[0]


def test_expansion_counts_characters() -> None:
    assert ciphers.parse("walnut").expansion("abcd") == 7 / 4
    assert ciphers.parse("ascii").expansion("") == 1.0
    assert ciphers.parse("identity").expansion("xyz") == 1.0
