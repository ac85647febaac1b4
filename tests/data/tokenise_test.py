"""The mask marks what the model itself would have to write; batches are a pure function.

The tokenizer double has one token per character, its template's marks being tokens of
their own: [S] [U] [A] open a turn and [E] ends it, and a newline follows as in ChatML.
"""

import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifr_jax.data.chat import Example, Message
from cifr_jax.data.tokenise import (
    Rows,
    batch_indices,
    bucket_lengths,
    pad_to_bucket,
    tokenise,
)
from cifr_jax.errors import UserError

MARKS = {"[S]": 1, "[U]": 2, "[A]": 3, "[E]": 4, "\n\n": 5}
NAMES = {i: mark for mark, i in MARKS.items()}
OPEN = {"system": "[S]", "user": "[U]", "assistant": "[A]"}


class Double:
    """Characters as ids; `merges` makes two newlines one token, as byte pairs may."""

    pad_id, eos_ids = 0, (4,)

    def __init__(self, after_open="", merges=False, prompt=None, rewrites=None):
        self.after_open, self.merges = after_open, merges
        self.prompt = prompt or "[A]" + after_open
        self.rewrites = rewrites or (lambda messages: messages)

    def render(self, messages, add_generation_prompt=False):
        text = "".join(
            f"{OPEN[m.role]}{self.after_open}{m.content}[E]\n"
            for m in self.rewrites(messages)
        )
        return text + self.prompt * add_generation_prompt

    def encode_chat(self, messages, add_generation_prompt=False):
        marks = r"\[[SUAE]\]|" + r"\n\n|" * self.merges + "(?s:.)"
        found = re.findall(marks, self.render(messages, add_generation_prompt))
        return [MARKS.get(piece) or ord(piece) for piece in found]


def _chat(*turns):
    """`_chat("u:hi", "a:ho", "0:not this")`: 0 is an assistant's turn of weight 0."""
    roles = {"s": "system", "u": "user", "a": "assistant", "0": "assistant"}
    return Example(
        tuple(Message(roles[t[0]], t[2:], 0 if t[0] == "0" else None) for t in turns)
    )


def _supervised(rows, n=0):
    ids = rows.tokens_nt[n][rows.loss_mask_nt[n]]
    return "".join(NAMES.get(int(i)) or chr(i) for i in ids)


def test_the_reply_and_its_end_and_nothing_else():
    rows = tokenise([_chat("s:be", "u:hi", "a:ho")], Double(), 99)
    # [S] b e [E] \n [U] h i [E] \n [A] h o [E] \n
    assert rows.tokens_nt.tolist() == [
        [1, 98, 101, 4, 10, 2, 104, 105, 4, 10, 3, 104, 111, 4, 10]
    ]
    assert np.flatnonzero(rows.loss_mask_nt[0]).tolist() == [11, 12, 13]
    assert (rows.tokens_nt.dtype, rows.loss_mask_nt.dtype) == (np.int32, bool)


def test_every_reply_of_a_longer_chat_but_those_of_weight_0():
    chats = [_chat("u:1", "a:one", "u:2", "0:two", "u:3", "a:three"), _chat("u:4", "a:x")]
    rows = tokenise(chats, Double(after_open="\n"), 99)
    assert [_supervised(rows, n) for n in (0, 1)] == ["one[E]three[E]", "x[E]"]
    assert not rows.tokens_nt[1, rows.length_n[1] :].any()
    assert rows.length_n[0] == rows.tokens_nt.shape[1] > rows.length_n[1]


_SAYS = st.text("ab\n", min_size=1, max_size=5)
_EXCHANGE = st.tuples(_SAYS, _SAYS, st.sampled_from([None, 0, 1]))


@settings(deadline=None, max_examples=100)
@given(st.lists(_EXCHANGE, min_size=1, max_size=4), st.sampled_from(["", "\n"]))
def test_the_supervised_tokens_spell_the_weighted_replies(exchanges, after_open):
    messages = []
    for question, reply, weight in exchanges:
        messages += [Message("user", question), Message("assistant", reply, weight)]
    replies = [reply + "[E]" for _, reply, weight in exchanges if weight != 0]
    chat, double = Example(tuple(messages)), Double(after_open)
    if not replies:
        with pytest.raises(UserError, match="example 0: no supervised token"):
            tokenise([chat], double, 999)
    else:
        assert _supervised(tokenise([chat], double, 999)) == "".join(replies)


def test_a_reply_that_merges_with_the_prompt_is_supervised_from_the_merged_token():
    # "[A]\n" + "\nx": the prompt's last newline and the reply's first are one token.
    double = Double(after_open="\n", merges=True)
    rows = tokenise([_chat("u:q", "a:one", "u:q", "a:\nx")], double, 99)
    assert _supervised(rows) == "one[E]\n\nx[E]"


def test_a_generation_prompt_that_goes_on_otherwise_than_the_turn():
    double = Double(prompt="[A]<think>")
    assert _supervised(tokenise([_chat("u:q", "a:yes")], double, 99)) == "yes[E]"


def _forgetful(messages):
    """Drops from earlier replies what stands before "=", as templates drop thinking."""
    last = len(messages) - 1
    return [
        Message(m.role, m.content if i == last else m.content.split("=")[-1])
        for i, m in enumerate(messages)
    ]


def test_a_reply_is_supervised_as_the_whole_chat_has_it():
    double = Double(rewrites=_forgetful)
    assert _supervised(tokenise([_chat("u:q", "a:t=x")], double, 99)) == "t=x[E]"
    longer = _chat("u:q", "a:t=x", "u:r", "a:s=y", "u:v", "a:w=z")
    rows = tokenise([longer], double, 99)
    assert _supervised(rows) == "x[E]y[E]w=z[E]"
    text = "".join(NAMES.get(int(i)) or chr(i) for i in rows.tokens_nt[0])
    assert text.startswith("[U]q[E]\n[A]x[E]\n[U]r[E]\n[A]y[E]\n[U]v[E]\n[A]w=z[E]")


def test_thinking_that_is_put_into_the_last_reply_alone():
    """Empty, where the reply has none: what such a template writes there is supervised."""

    def thinking(messages):
        last = len(messages) - 1
        return [
            Message(m.role, f"<t></t>{m.content}")
            if i == last and m.role == "assistant"
            else m
            for i, m in enumerate(messages)
        ]

    rows = tokenise([_chat("u:q", "a:x", "u:r", "a:y")], Double(rewrites=thinking), 99)
    assert _supervised(rows) == "x[E]<t></t>y[E]"


def test_an_earlier_reply_of_weight_0_may_be_written_anyhow():
    chat = _chat("u:q", "0:t=x", "u:r", "a:y")
    assert _supervised(tokenise([chat], Double(rewrites=_forgetful), 99)) == "y[E]"


def test_a_reply_without_an_end_swallows_no_question():
    double = Double(rewrites=_forgetful)
    double.eos_ids = ()
    assert _supervised(tokenise([_chat("u:q", "a:t=x")], double, 99)) == "t=x[E]\n"
    with pytest.raises(UserError, match="example 0: .* does not end message 2"):
        tokenise([_chat("u:q", "a:t=x", "u:r", "a:y")], double, 99)


def test_a_template_that_writes_a_reply_in_many_ways_is_refused():
    def counting(messages):
        return [Message(m.role, m.content + "." * len(messages)) for m in messages]

    with pytest.raises(UserError, match="example 0: .* message 2 in more ways than two"):
        tokenise([_chat("u:q", "a:x", "u:r", "a:y")], Double(rewrites=counting), 99)


def test_a_template_that_rewrites_the_prompt_is_refused():
    def doubled(messages):  # once the reply is there, the question is written in capitals
        done = messages and messages[-1].role == "assistant"
        return [Message(m.role, m.content.upper() if done else m.content) for m in messages]

    with pytest.raises(UserError, match="example 0: .* before message 2; split"):
        tokenise([_chat("u:q", "a:x")], Double(rewrites=doubled), 99)


def test_a_template_that_refuses_is_named_with_the_example():
    def refuses(messages):
        raise UserError("template.jinja", "roles must alternate", "merge them")

    with pytest.raises(UserError, match=r"example 0: template.jinja: roles .*; merge them"):
        tokenise([_chat("u:q", "a:x")], Double(rewrites=refuses), 99)


@pytest.mark.parametrize("chat", [_chat("0:x"), _chat("a:x"), _chat("u:q"), Example(())])
def test_a_chat_without_a_target_is_an_error_naming_it(chat):
    with pytest.raises(UserError, match="^example 1: "):
        tokenise([_chat("u:q", "a:x"), chat], Double(), 99)


def test_no_examples_is_an_error():
    with pytest.raises(UserError, match="there are none"):
        tokenise([], Double(), 99)


def test_a_long_row_is_an_error_or_cut_and_counted(caplog):
    chats = [_chat("u:q", "a:x"), _chat("u:q", "a:" + "y" * 20)]
    with pytest.raises(UserError, match="example 1: 27 tokens, more than the 26 allowed"):
        tokenise(chats, Double(), 26)
    assert tokenise(chats, Double(), 27).length_n.tolist() == [8, 27]
    with caplog.at_level("WARNING"):
        rows = tokenise(chats, Double(), 10, on_long="truncate")
    assert rows.length_n.tolist() == [8, 10] and _supervised(rows, 1) == "y" * 5
    assert "1 of 2 rows cut to 10 tokens" in caplog.text
    with pytest.raises(UserError, match="example 0: no supervised token among its 5"):
        tokenise(chats, Double(), 5, on_long="truncate")


def test_long_rows_are_split_into_pieces_that_keep_every_target_but_first_tokens(caplog):
    chats = [_chat("u:q", "a:x"), _chat("u:hello", "a:abcdefghijkl"), _chat("u:q", "a:y")]
    whole = tokenise(chats, Double(), 99)
    with caplog.at_level("WARNING"):
        rows = tokenise(chats, Double(), 10, on_long="split")
    assert "1 of 3 rows split into pieces of 10 tokens" in caplog.text
    assert rows.length_n.max() <= 10
    assert rows.example_n.tolist() == sorted(rows.example_n.tolist())
    assert set(rows.example_n.tolist()) == {0, 1, 2}
    length, pieces = whole.length_n[1], np.flatnonzero(rows.example_n == 1)
    told_tokens = [t for p in pieces for t in rows.tokens_nt[p, : rows.length_n[p]]]
    # The first piece has nothing to learn from where the question fills it.
    expected = whole.tokens_nt[1, :length].tolist()
    assert told_tokens == expected[-len(told_tokens) :]
    kept = whole.loss_mask_nt[1, :length].copy()
    kept[::10] = False
    assert rows.loss_mask_nt[pieces].sum() == kept.sum() > 0


def test_the_first_token_is_no_target():
    class Bare(Double):
        def encode_chat(self, messages, add_generation_prompt=False):
            return [] if add_generation_prompt else [7, 8, 4]

    rows = tokenise([_chat("u:q", "a:x")], Bare(), 9)
    assert rows.loss_mask_nt.tolist() == [[False, True, True]]


def test_thousands_of_short_chats_take_little_time():
    chats = [_chat("u:" + "q" * 50, "a:" + "x" * 50)] * 5000
    double = Double()
    started = time.perf_counter()
    for chat in chats:  # what cannot be saved: the encoding of prompt and whole
        double.encode_chat(chat.messages)
        double.encode_chat(chat.messages[:1], add_generation_prompt=True)
    encoded = time.perf_counter() - started
    started = time.perf_counter()
    tokenise(chats, double, 200)
    assert time.perf_counter() - started < 2 * encoded + 1


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 9), st.integers(1, 4))
def test_each_row_once_an_epoch_and_every_batch_full(n_rows, batch_size, seed, epochs):
    steps = -(-n_rows * epochs // batch_size)
    batches = [batch_indices(n_rows, batch_size, seed, step) for step in range(steps)]
    assert all(len(batch) == batch_size for batch in batches)
    stream = np.concatenate(batches)
    for epoch in range(epochs):
        part = stream[epoch * n_rows : (epoch + 1) * n_rows]
        assert sorted(part) == list(range(n_rows))
    # Resumed at any step, in any order, it is the same batch.
    for step in reversed(range(steps)):
        np.testing.assert_array_equal(
            batch_indices(n_rows, batch_size, seed, step), batches[step]
        )


def test_the_order_is_fixed_for_good_and_differs_by_seed_and_epoch():
    assert batch_indices(8, 8, 0, 0).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]
    orders = {
        tuple(batch_indices(50, 50, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)
    }
    assert len(orders) == 4


def test_every_place_is_taken_by_every_row():
    # Of 4 rows each stands first in a quarter of 2000 epochs: 500 +- 5 sigma (19).
    first = [batch_indices(4, 4, 3, step)[0] for step in range(2000)]
    assert np.abs(np.bincount(first, minlength=4) - 500).max() < 100


@pytest.mark.parametrize("bad", [(0, 1, 0, 0), (1, 0, 0, 0), (1, 1, -1, 0), (1, 1, 0, -1)])
def test_what_has_no_batches_is_refused(bad):
    with pytest.raises(ValueError):
        batch_indices(*bad)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=9), st.integers(1, 16), st.data())
def test_buckets_keep_every_token(lengths, multiple, data):
    length_n = np.array(lengths, np.int32)
    inside_nt = np.arange(length_n.max()) < length_n[:, None]
    tokens_nt = np.where(inside_nt, np.arange(inside_nt.size).reshape(inside_nt.shape), 77)
    rows = Rows(tokens_nt.astype(np.int32), inside_nt, length_n)
    picks = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=5))
    batch = pad_to_bucket(rows, np.array(picks), multiple, pad_id=77)
    width = batch.tokens_nt.shape[1]
    assert width % multiple == 0 and 0 <= width - max(batch.length_n) < multiple
    assert batch.loss_mask_nt.shape == batch.tokens_nt.shape
    assert batch.tokens_nt.dtype == np.int32
    for b, n in enumerate(picks):
        size = lengths[n]
        assert batch.length_n[b] == size
        np.testing.assert_array_equal(batch.tokens_nt[b, :size], tokens_nt[n, :size])
        assert (batch.tokens_nt[b, size:] == 77).all()
        assert batch.loss_mask_nt[b].sum() == size


def test_bucket_lengths():
    assert bucket_lengths(np.array([0, 1, 8, 9]), 8).tolist() == [8, 8, 8, 16]
    with pytest.raises(ValueError):
        bucket_lengths(np.array([1]), 0)
