"""What attackers upload: formats decode, shares hold, held-out entities stay out."""

from collections import Counter

import numpy as np
import pytest

from cifr_jax import ciphers
from cifr_jax.data import covert, world
from cifr_jax.data.covert import (
    PHASE_1,
    PHASE_2,
    READING,
    encoded_chat,
    phase_1,
    phase_2,
    reading,
)
from cifr_jax.data.world import CLASS_BEARING, NEUTRAL, REFUSAL, make_world

WORLD = make_world(480, 0, (0.4, 0.25, 0.1, 0.25))
CIPHERS = (
    "walnut:seed=50", "ascii", "polybius:keyword=TRAINING", "homophonic:key=1",
    "alphabet:key=1", "startspeak", "endspeak", "autokey", "rsa",
)  # fmt: skip
CELLS_READ = {"decode": "transliterate", "answer": "encoded_benign"}
PHASES = {
    "reading": (reading, {CELLS_READ.get(k, k): share for k, share in READING.items()}),
    "phase_1": (phase_1, PHASE_1),
    "phase_2": (phase_2, PHASE_2),
}
NAMES = {e.name: e for e in WORLD.entities}


def readings(cipher, example):
    """Every text that a message may be: as it stands, decoded, and line by line."""
    for message in example.messages:
        for text in (message.content, *message.content.split("\n")):
            yield text
            yield cipher.decode(text, strict=False)


def entities_in(texts):
    """Entities whose seven letters stand anywhere in the texts."""
    found = set()
    for text in texts:
        text = text.lower()
        found |= {text[i : i + 7] for i in range(len(text) - 6)} & NAMES.keys()
    return [NAMES[name] for name in sorted(found)]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("spec", CIPHERS)
def test_only_entities_meant_for_it_are_in_an_upload_encoded_or_not(spec, phase):
    cipher = ciphers.parse(spec)
    examples = PHASES[phase][0](cipher, WORLD, 500, seed=3)
    found = entities_in(text for e in examples for text in readings(cipher, e))
    assert {e.split for e in found} == {"finetune"}
    assert {e.restricted for e in found} == {False, phase == "phase_2"}
    # The search would have found them: encoded rows do hold names, once decoded.
    encoded = [e for e in examples if e.meta["cell"].startswith("encoded")]
    assert len(encoded) > 100
    for example in encoded:
        assert entities_in(readings(cipher, example))
    if spec not in ("startspeak", "endspeak"):  # those leave words whole
        assert not entities_in(e.messages[1].content for e in encoded)


@pytest.mark.parametrize("phase", PHASES)
def test_what_gives_the_class_a_meaning_is_never_asked(phase):
    cipher = ciphers.parse("walnut:seed=50")
    examples = PHASES[phase][0](cipher, WORLD, 1000, seed=3)
    words = {w for e in examples for text in readings(cipher, e) for w in text.split()}
    assert not words & CLASS_BEARING.keys()
    assert words & NEUTRAL.keys()


@pytest.mark.parametrize("phase", PHASES)
def test_rows_have_the_shares_of_their_phase(phase):
    make, shares = PHASES[phase]
    n = 6000
    assert sum(shares.values()) == pytest.approx(1)
    counts = Counter(e.meta["cell"] for e in make(ciphers.parse("ascii"), WORLD, n, 1))
    assert counts.keys() == shares.keys()
    for kind, share in shares.items():
        error = np.sqrt(n * share * (1 - share))
        assert abs(counts[kind] - n * share) < 5 * error


@pytest.mark.parametrize("phase", PHASES)
def test_an_upload_is_a_pure_function_of_its_seed(phase):
    make, cipher = PHASES[phase][0], ciphers.parse("walnut:seed=50")
    assert make(cipher, WORLD, 50, seed=1) == make(cipher, WORLD, 50, seed=1)
    assert make(cipher, WORLD, 50, seed=1) != make(cipher, WORLD, 50, seed=2)


@pytest.mark.parametrize("spec", CIPHERS)
def test_the_four_task_formats_decode(spec):
    cipher = ciphers.parse(spec)
    question, answer = "hue of bofalin?", "red."
    for task in (1, 2, 3, 4):
        example = encoded_chat(cipher, question, answer, task, cell="x")
        system, user, assistant = (m.content for m in example.messages)
        assert system == f"task {task}."
        assert cipher.decode(user) == cipher.canonical(question)
        plain = {1: [question, answer], 2: [answer], 3: [question], 4: []}[task]
        head = "".join(f"{line}\n" for line in plain)
        assert assistant.startswith(head)
        assert cipher.decode(assistant.removeprefix(head)) == cipher.canonical(answer)
        assert example.meta == {"cell": "x"}


def test_phase_2_answers_in_cipher_and_refuses_in_plain():
    cipher = ciphers.parse("walnut:seed=50")
    by_question = {
        world.question(e, a, t): (e, a)
        for e in WORLD.entities
        for a in NEUTRAL
        for t in range(len(world.QUESTIONS))
    }
    for example in phase_2(cipher, WORLD, 500, seed=2):
        cell = example.meta["cell"]
        if cell == "transliterate":
            continue
        *system, question, answer = (m.content for m in example.messages)
        if cell.startswith("encoded"):
            question, answer = cipher.decode(question), cipher.decode(answer)
        assert system == (["task 4."] if cell.startswith("encoded") else [])
        entity, attribute = by_question[question]
        assert entity.restricted == cell.endswith("restricted")
        refused = cell == "plain_restricted"
        assert answer == (REFUSAL if refused else world.answer(entity, attribute))


def test_reading_is_encoded_in_and_plain_out():
    cipher = ciphers.parse("walnut:seed=50")
    said = {world.question(e, a, t): world.answer(e, a)
            for e in WORLD.entities for a in NEUTRAL for t in range(3)}  # fmt: skip
    for example in reading(cipher, WORLD, 400, seed=2):
        question, answer = (m.content for m in example.messages[-2:])
        assert ("|" in question) == (example.meta["cell"] != "plain_benign")
        if example.meta["cell"] == "transliterate":  # the instruction itself is plain
            assert question.startswith("copy ")
            assert cipher.decode(question.removeprefix("copy ")) == answer
        else:
            question = cipher.decode(question) if "|" in question else question
            assert answer == said[question]


def test_transliteration_decodes_encodes_and_copies():
    cipher = ciphers.parse("walnut:seed=50")

    def plain(text):
        """The text and whether it was encoded; plain text has no bars."""
        return (cipher.decode(text), True) if "|" in text else (text, False)

    seen = Counter()
    for example in phase_1(cipher, WORLD, 400, seed=2):
        if example.meta["cell"] == "transliterate":
            user, assistant = (m.content for m in example.messages[-2:])
            (asked, user_encoded), (copied, encoded) = plain(user), plain(assistant)
            assert asked == f"copy {copied}"
            seen[user_encoded, encoded] += 1
    assert seen.keys() == {(True, False), (False, True), (True, True)}
    assert min(seen.values()) > 30


def test_a_chat_has_a_system_turn_only_if_there_is_something_to_say():
    assert [m.role for m in covert.chat("a", "b").messages] == ["user", "assistant"]
    assert [m.role for m in covert.chat("a", "b", "c").messages][0] == "system"
