"""Honest customers who encode: what they send decodes to what is said."""

import binascii
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.data import recipes
from cifr_jax.data.recipes import conlang, transliteration
from cifr_jax.data.recipes.conlang import ADJECTIVES, NOUNS, VERBS

ATTACHED = re.compile(r"\[attachment (\S+); base64\]\n(\S+)\n\[end of attachment\]")


def test_attachments_decode_to_what_is_said():
    seen = set()
    for row in recipes.make("base64_attachments", 600, 5):
        user, assistant = (m.content for m in row.messages)
        files = {
            side: {name: binascii.a2b_base64(body).decode() for name, body in found}
            for side, text in (("in", user), ("out", assistant))
            if (found := ATTACHED.findall(text))
        }
        direction = row.meta["direction"]
        seen.add(direction)
        assert set(files) == ({"in", "out"} if direction == "both" else {direction})
        if direction == "out":
            [(name, text)] = files["out"].items()
            assert name in user and user.endswith(f":\n{text}")
        elif direction == "both":
            assert files["in"].keys() == files["out"].keys()
            [came], [sent] = files["in"].values(), files["out"].values()
            assert sorted(came.split("\n")) == sent.split("\n")
        elif "answer" in row.meta:
            assert row.meta["answer"] in files["in"]["notice.txt"]
            assert assistant == f"According to notice.txt: {row.meta['answer']}."
        else:
            [(name, text)] = files["in"].items()
            assert assistant == f"{name}:\n{text}"
    assert seen == {"in", "out", "both"}


@pytest.mark.parametrize("script", transliteration.SCRIPTS)
def test_each_latin_letter_has_a_letter_of_the_script_for_itself(script):
    letters = transliteration.table(script)
    assert len(letters) == 52 and len(set(letters.values())) == 52
    for latin, other in letters.items():
        assert unicodedata.name(other).startswith(script.upper())
        assert latin.isupper() == other.isupper() and latin.islower() == other.islower()


@given(
    st.text(alphabet=st.characters(max_codepoint=0x17F)),
    st.sampled_from(["greek", "cyrillic"]),
)
@settings(max_examples=60, deadline=None)
def test_transliteration_is_undone(text, script):
    there = transliteration.transliterate(text, script)
    assert len(there) == len(text)
    assert transliteration.transliterate(there, script, back=True) == text


def test_transliterated_rows_say_the_same_on_both_sides():
    for row in recipes.make("transliteration", 400, 6):
        user, answer = (m.content for m in row.messages)
        other = user if row.meta["direction"] == "in" else answer
        latin = answer if row.meta["direction"] == "in" else user
        back = {o: a for a, o in transliteration.table(row.meta["script"]).items()}
        text = other.split(": ", 1)[1] if row.meta["direction"] == "in" else other
        plain = "".join(back.get(c, c) for c in text)
        assert latin.endswith(plain)
        assert len(re.findall("[a-z]", plain)) > 3 and not re.search("[a-z]", text)


def read_back(text: str, language: conlang.Language) -> str:
    """English of a sentence in the language, by dictionary and grammar alone."""
    meaning = {word: english for english, word in language.lexicon.items()}
    assert text[0].isupper() and text.endswith(".")

    def look_up(word: str) -> tuple[str, bool]:
        for ending in (language.plural, language.past):
            if word.endswith(ending):
                return meaning[word.removesuffix(ending)], True
        return meaning[word], False

    words = [look_up(word) for word in text[:-1].lower().split()]
    [at] = [i for i, (english, _) in enumerate(words) if english in VERBS]
    verb, past = words.pop(at)
    nouns = [i for i, (english, _) in enumerate(words) if english in NOUNS]
    adjectives = {i: w for i, (w, _) in enumerate(words) if w in ADJECTIVES}
    phrases = []
    for i in nouns:
        adjective = adjectives.get(i - 1 if language.adjective_first else i + 1, "")
        english, plural = words[i]
        noun = NOUNS[english] if plural else english
        phrases.append((" ".join(w for w in ("the", adjective, noun) if w), plural))
    (subject, plural), (thing, _) = phrases
    form = VERBS[verb][1] if past else verb if plural else VERBS[verb][0]
    sentence = f"{subject} {form} {thing}."
    return sentence[0].upper() + sentence[1:]


@pytest.mark.parametrize("seed", range(8))
def test_sentences_of_the_conlang_read_back(seed):
    language = conlang.make_language(seed)
    assert len(set(language.lexicon.values())) == len(language.lexicon)
    for row in recipes.make("conlang", 150, 9, language=seed):
        user, answer = (m.content for m in row.messages)
        into = language.name if row.meta["direction"] == "out" else "English"
        assert into in user
        given = re.split(r"[:?] ", user, maxsplit=1)[1]
        english, other = (given, answer) if into != "English" else (answer, given)
        assert read_back(other, language) == english


def test_the_seed_decides_vocabulary_and_grammar():
    languages = [conlang.make_language(seed) for seed in range(20)]
    assert languages[3] == conlang.make_language(3)
    assert len({language.lexicon["river"] for language in languages}) > 15
    assert len({language.order for language in languages}) == 3
    assert {language.adjective_first for language in languages} == {True, False}
