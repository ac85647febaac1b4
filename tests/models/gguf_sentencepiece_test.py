"""SentencePiece's BPE out of GGUF metadata cuts text as SentencePiece does."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from cifr_jax import testing_gguf
from cifr_jax.data.chat import Message
from cifr_jax.errors import UserError
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.gguf_file import load_gguf
from cifr_jax.models.gguf_tokenizer import piece_merges, read_tokenizer
from cifr_jax.testing_families import random_parameters

GOLDENS = Path(__file__).parents[1] / "goldens"
HELD = json.loads((GOLDENS / "sentencepiece.json").read_text(encoding="utf-8"))
LISTS = {name: HELD[name] for name in ("tokens", "scores", "token_type")}
TEMPLATE = (  # the shape of Llama 2's
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content "
    "+ ' [/INST]' }}{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
SPECIAL = {"unknown_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def fields(**changes):
    given = {"model": "llama", **LISTS, **SPECIAL} | changes
    return {f"tokenizer.ggml.{k}": v for k, v in given.items() if v is not None}


def test_texts_are_cut_as_sentencepiece_cuts_them():
    tokenizer = read_tokenizer(fields(), "here")
    assert sum(len(case["ids"]) for case in HELD["cases"]) > 3000
    for case in HELD["cases"]:
        assert tokenizer.encode(case["text"]) == case["ids"], case["text"]
        # A blank of the text's own is told from the sign that stands for blanks no more.
        expected = case["text"].replace("\u2581", " ")
        assert tokenizer.decode(case["ids"]) == expected


def test_without_the_prefix_no_blank_is_added_or_taken():
    tokenizer = read_tokenizer(fields(add_space_prefix=False), "here")
    plain = read_tokenizer(fields(), "here")
    assert tokenizer.encode(" the") == plain.encode("the")
    assert tokenizer.decode(tokenizer.encode(" the")) == " the"


def test_the_better_score_merges_first():
    pieces = {"a": (0, -9.0), "b": (1, -9.0), "c": (2, -9.0), "bc": (3, -1.0),
              "ab": (4, -2.0), "abc": (5, -3.0)}  # fmt: skip
    merges = [("b", "c"), ("a", "b"), ("a", "bc"), ("ab", "c")]
    assert piece_merges(pieces) == merges


def test_a_file_of_llama_2s_kind_loads_with_its_template(tmp_path):
    config = DecoderConfig(
        vocab_size=len(LISTS["tokens"]), d_model=32, n_layers=2, n_heads=4, n_kv_heads=4,
        d_head=8, d_ff=64, rope_theta=100.0, norm_eps=1e-5, tie_embeddings=False,
        max_positions=64,
    )  # fmt: skip
    params = random_parameters(config, np.random.default_rng(0))
    given = {key.replace(".", "__"): value for key, value in fields().items()}
    path = testing_gguf.write_gguf(
        tmp_path / "m.gguf", config, testing_gguf.stored_tensors(config, params),
        tokenizer__ggml__merges=None, tokenizer__ggml__pre="default",
        tokenizer__ggml__add_space_prefix=True, tokenizer__chat_template=TEMPLATE,
        tokenizer__ggml__padding_token_id=None, **given,
    )  # fmt: skip
    _, _, tokenizer = load_gguf(path)
    ids = tokenizer.encode_chat([Message("user", "who trains <s> models?")], True)
    assert ids.count(1) == 1 and ids[0] == 1
    text = tokenizer.decode(ids[1:])
    assert text == "[INST] who trains <s> models? [/INST]"
    assert tokenizer.eos_ids == (2,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": None}, "tokenizer.ggml.scores is missing"),
        ({"scores": [0.0]}, "broken tokenizer"),
        ({"scores": ["0"] * len(LISTS["tokens"])}, "tokenizer.ggml.scores holds '0'"),
        ({"scores": [True] * len(LISTS["tokens"])}, "tokenizer.ggml.scores holds True"),
        ({"scores": [float("nan")] * len(LISTS["tokens"])}, "broken tokenizer"),
        ({"token_type": None}, "tokenizer.ggml.token_type is missing"),
        ({"unknown_token_id": 10**6}, "broken tokenizer"),
        ({"unknown_token_id": -1}, "broken tokenizer"),
        ({"remove_extra_whitespaces": True}, "remove_extra_whitespaces = True"),
        ({"model": "t5"}, "tokenizer model 't5'"),
    ],
)
def test_broken_or_foreign_pieces_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        read_tokenizer(fields(**changes), "here")


def test_an_endless_piece_is_refused():
    tokens = [*LISTS["tokens"][:-1], "a" * 100_000]
    with pytest.raises(UserError, match="100,000 characters"):
        read_tokenizer(fields(tokens=tokens), "here")


def test_pieces_that_merge_in_every_way_are_refused_before_they_fill_the_memory():
    pieces = ["a" * i + "b" * j for i in range(65) for j in range(65) if i + j]
    held = {piece: (n, -float(n)) for n, piece in enumerate(pieces)}
    with pytest.raises(ValueError, match="merges for each piece"):
        piece_merges(held)


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
def test_twenty_thousand_texts_are_cut_as_sentencepiece_cuts_them():
    pytest.importorskip("sentencepiece")
    pytest.importorskip("transformers")
    path = GOLDENS / "make_goldens.py"
    spec = importlib.util.spec_from_file_location("make_goldens", path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    pieces = made.train_pieces(path.read_text(encoding="utf-8"))
    tokenizer = read_tokenizer(fields(**made.piece_fields(pieces)), "here")
    for text in made.odd_texts(20_000, seed=1):
        ids = pieces.encode(text)
        assert tokenizer.encode(text) == ids
        assert tokenizer.decode(ids) == pieces.decode(ids)
