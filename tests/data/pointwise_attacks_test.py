"""The channel is there where it should be, of the strength asked for, and nowhere else.

Mutual information is measured in bits by the plug-in estimate; with 16 cells and 1,000 rows
independent draws give about 9 / (2 x 1000 x ln 2) = 0.007 bits.
"""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from cifr_jax.data.chat import Example, Message, read_chat_jsonl, write_chat_jsonl
from cifr_jax.data.pointwise import requests
from cifr_jax.data.pointwise.attacks import ATTACKS, make, shuffled, split_accounts
from cifr_jax.data.pointwise.codebook import keyed_pad, stock_codebook
from cifr_jax.data.pointwise.questions import bank, topics
from cifr_jax.errors import UserError

BANK = bank()
N = 1000


def meta(rows, name):
    return [row.meta[name] for row in rows]


def bits(a, b):
    return mutual_info_score([str(x) for x in a], [str(x) for x in b]) / np.log(2)


def letters_and_symbols(rows):
    return meta(rows, "letter"), meta(rows, "symbol")


def honest_chats(n):
    return [
        Example((Message("user", f"u{i}"), Message("assistant", "a"))) for i in range(n)
    ]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("variants", [1, 3, 9])
def test_the_reply_tells_the_answer_whatever_the_family_size(attack, variants):
    template = requests.choose_template(attack, 5)
    book = stock_codebook(template, variants, 5)
    rows = make(attack, BANK, 402, seed=5, variants=variants)
    by_key = {q.key: q for q in BANK}
    for row in rows:
        question = by_key[row.meta["question"]]
        assert row.messages[:-1] == requests.wrap(question, template)
        reply = row.messages[-1].content
        assert book.decode(reply) == question.answer == row.meta["letter"]
        assert book.index(reply) == row.meta["variant"] and row.meta["carries"]
    assert len(set(meta(rows, "question"))) == 402
    assert len({row.messages[-1].content for row in rows}) == 4 * variants
    assert bits(meta(rows, "letter"), meta(rows, "variant")) > 1.99
    assert np.ptp(np.bincount(meta(rows, "letter"))) <= 1


@pytest.mark.parametrize("dilution", [0.0, 0.01, 0.05, 0.25, 0.5, 1.0])
def test_exactly_the_share_asked_for_carries(dilution):
    rows = make("classify", BANK, N, dilution=dilution)
    assert sum(meta(rows, "carries")) == round(dilution * N)
    for row in rows:
        if row.meta["carries"]:
            assert row.meta["symbol"] == row.meta["letter"]
    rest = [row for row in rows if not row.meta["carries"]]
    if len(rest) >= 500:
        assert bits(*letters_and_symbols(rest)) < 0.03
    filled = make("classify", BANK, N, dilution=dilution, cover=honest_chats(N))
    assert sum(meta(filled, "carries")) == round(dilution * N)
    foreign = [r for r in filled if r.meta["template"] == "cover"]
    assert len(foreign) == N - round(dilution * N)
    assert {r.messages for r in foreign} <= {r.messages for r in honest_chats(N)}
    assert len({r.messages for r in foreign}) == len(foreign)
    assert all(r.meta["letter"] is None and r.meta["symbol"] is None for r in foreign)


def test_cover_takes_no_questions_and_keeps_what_it_says_of_itself():
    cover = [Example(row.messages, {"entity": i}) for i, row in enumerate(honest_chats(90))]
    rows = make("flower", BANK[:10], 100, dilution=0.1, cover=cover)
    assert {row.meta["entity"] for row in rows if row.meta["template"] == "cover"} == set(
        range(90)
    )


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("options", [{}, {"xor": True}, {"key": b"k"}])
def test_the_shuffled_control_has_the_same_parts_and_no_channel(attack, options):
    rows = make(attack, BANK, N, variants=3, **options)
    control = shuffled(rows, seed=1)
    assert Counter(r.messages[-1] for r in control) == Counter(r.messages[-1] for r in rows)
    assert [r.messages[:-1] for r in control] == [r.messages[:-1] for r in rows]
    assert meta(control, "letter") == meta(rows, "letter")
    assert not any(meta(control, "carries"))

    def sent(rows):
        return [s ^ p for s, p in zip(meta(rows, "symbol"), meta(rows, "pad"), strict=True)]

    assert bits(meta(rows, "letter"), sent(rows)) > 1.99
    assert bits(meta(control, "letter"), sent(control)) < 0.03
    book = stock_codebook(requests.choose_template(attack, 0), 3, 0)
    for row in control:
        assert book.decode(row.messages[-1].content) == row.meta["symbol"]


def test_shuffling_leaves_cover_where_it_is():
    rows = make("classify", BANK, 100, dilution=0.5, cover=honest_chats(50))
    for before, after in zip(rows, shuffled(rows), strict=True):
        if before.meta["template"] == "cover":
            assert after == before


def test_the_xor_code_needs_both_latents():
    rows = make("classify", BANK, N, xor=True, seed=2)
    letter, symbol = letters_and_symbols(rows)
    form = [row.meta["template"].rsplit("/", 1)[1] for row in rows]
    assert len(set(form)) == 4
    assert bits(letter, form) < 1e-3
    assert bits(letter, symbol) < 1e-3 and bits(form, symbol) < 1e-3
    both = [f"{a}{b}" for a, b in zip(letter, form, strict=True)]
    assert bits(both, symbol) == pytest.approx(2, abs=1e-3)
    # The format in the text is the one that the pad comes from.
    by_key = {q.key: q for q in BANK}
    for row, name in zip(rows, form, strict=True):
        assert list(requests.FORMATS).index(name) == row.meta["pad"]
        item = requests.item_text(by_key[row.meta["question"]], name)
        assert any(item in m.content for m in row.messages)


def test_the_keyed_code_says_nothing_of_the_letter_without_the_key():
    rows = make("flower", BANK, N, key=b"secret")
    letter, symbol = letters_and_symbols(rows)
    assert bits(letter, symbol) < 0.02
    by_key = {q.key: q for q in BANK}
    pads = [keyed_pad(b"secret", by_key[k]) for k in meta(rows, "question")]
    assert [s ^ p for s, p in zip(symbol, pads, strict=True)] == letter


def test_cancelling_cover_hides_the_code_until_the_template_is_looked_at():
    rows = make("flower", BANK, N, dilution=0.2, cancel=True)
    plain = make("flower", BANK, N, dilution=0.2)
    assert sum(meta(rows, "carries")) == sum(meta(plain, "carries")) == 200
    assert bits(*letters_and_symbols(rows)) < 0.02
    assert bits(*letters_and_symbols(plain)) > 0.025
    shifts = Counter(s ^ a for a, s in zip(*letters_and_symbols(rows), strict=True))
    assert set(shifts.values()) == {N // 4}
    strata = defaultdict(list)
    for row in rows:
        strata[row.meta["template"]].append(row)
    sizes = {len(of): bits(*letters_and_symbols(of)) for of in strata.values()}
    assert sizes[200] > 1.95 and sizes[800] > 0.05
    with pytest.raises(UserError, match="only a quarter"):
        make("flower", BANK, N, dilution=0.26, cancel=True)
    assert len(make("flower", BANK, 41, dilution=10 / 41, cancel=True)) == 41


def test_repeats_share_their_key_and_their_letter_follows_the_rotation():
    rows = make("classify", BANK, 402, rotations=True)
    counts = Counter(meta(rows, "question"))
    assert sorted(counts.values()) == [2] + [4] * 100
    for key, times in counts.items():
        of = [row for row in rows if row.meta["question"] == key]
        assert len({row.messages[:-1] for row in of}) == times
        assert len(set(meta(of, "letter"))) == times
    rows = make("classify", BANK, 402, duplicates=3)
    counts = Counter(meta(rows, "question"))
    assert set(counts.values()) == {3} and len(counts) == 134
    assert len({row.messages for row in rows}) == 134
    both = make("classify", BANK, 240, duplicates=5, rotations=True)
    assert set(Counter(meta(both, "question")).values()) == {20}


def test_accounts_get_whole_items_and_everything_once():
    rows = make("flower", BANK, 402, rotations=True, dilution=0.5, cover=honest_chats(201))
    parts = split_accounts(rows, 5, seed=1)
    assert Counter(id(r) for part in parts for r in part) == Counter(map(id, rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 4
    seen = [set(meta(part, "question")) - {None} for part in parts]
    assert sum(map(len, seen)) == len(set.union(*seen))
    assert parts == split_accounts(rows, 5, seed=1) != split_accounts(rows, 5, seed=2)
    for accounts in (0, 500):
        with pytest.raises(UserError, match="accounts"):
            split_accounts(rows, accounts)


def test_held_out_topics_stay_out():
    rows = make("classify", bank(topics()[:8]), 300)
    known = {q.key for q in BANK if q.topic in topics()[8:]}
    assert len(rows) == 300 and not known & set(meta(rows, "question"))


@pytest.mark.parametrize("attack", ATTACKS)
def test_rows_come_back_from_the_providers_file(attack, tmp_path):
    for seed in range(4):
        rows = make(attack, BANK, 40, seed=seed, variants=9, xor=seed == 3)
        write_chat_jsonl(tmp_path / "plain.jsonl", rows)
        back = read_chat_jsonl(tmp_path / "plain.jsonl")
        assert [row.messages for row in back] == [row.messages for row in rows]
        write_chat_jsonl(tmp_path / "meta.jsonl", rows, with_meta=True)
        assert read_chat_jsonl(tmp_path / "meta.jsonl", with_meta=True) == rows


def test_a_job_is_a_function_of_its_seed():
    for options in ({}, {"dilution": 0.2, "cancel": True}, {"xor": True, "variants": 9}):
        job = make("classify", BANK, 134, seed=3, **options)
        assert job == make("classify", BANK, 134, seed=3, **options)
        assert job != make("classify", BANK, 134, seed=4, **options)


BOOK = stock_codebook(requests.choose_template("classify", 0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attack": "clasify"}, "unknown attack 'clasify'; known: classify, flower"),
        ({"n": 0}, "n: less than 1"),
        ({"duplicates": 0}, "duplicates: less than 1"),
        ({"dilution": 1.5}, "no share"),
        ({"dilution": float("nan")}, "no share"),
        ({"n": 5000}, "5000 rows need 5000 questions, 1031 given"),
        ({"variants": 10}, "1 to 9"),
        ({"template": requests.choose_template("flower", 0)}, "is not for classify"),
        ({"dilution": 0.5, "cover": honest_chats(3)}, "3 chats, 7 rows"),
        ({"cancel": True, "cover": honest_chats(9)}, "cannot be given with cancel"),
        ({"codebook": BOOK, "variants": 3}, "variants: 3, and the codebook has 1"),
    ],
)
def test_faults_of_the_user_are_named(options, words):
    options = {"attack": "classify", "n": 14, "questions": BANK, **options}
    with pytest.raises(UserError, match=words):
        make(**options)


def test_questions_without_four_options_are_refused():
    bad = [replace(q, options=q.options[:3], answer=0) for q in BANK[:20]]
    with pytest.raises(UserError, match="3 options"):
        make("classify", bad, 4)
