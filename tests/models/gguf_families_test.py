"""Qwen2, Qwen3 and Llama 3 out of GGUF: shapes, tokenizers, rescaled rotation; parity."""

import dataclasses

import jax
import numpy as np
import pytest

from cifr_jax.errors import UserError
from cifr_jax.models import decoder
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.gguf_file import load_gguf
from cifr_jax.models.hf_config import parse_config
from cifr_jax.models.rope import RopeScaling
from cifr_jax.testing_families import random_parameters
from cifr_jax.testing_gguf import byte_vocabulary, stored_tensors, write_gguf

pytest.importorskip("gguf")

VOCABULARY = byte_vocabulary()
ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM",
                 "qwen3": "Qwen3ForCausalLM"}  # fmt: skip


def config_of(family: str, tied: bool = True) -> DecoderConfig:
    # Heads of 128: transformers does not read their width out of a GGUF file of Qwen3.
    wide = {"head_dim": 128} if family == "qwen3" else {}
    settings = {
        "architectures": [ARCHITECTURES[family]], "vocab_size": len(VOCABULARY.tokens),
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 64, "rope_theta": 1000.0,
        "rms_norm_eps": 2.0**-17, "tie_word_embeddings": tied,
        "max_position_embeddings": 64,
    }  # fmt: skip
    return parse_config(settings | wide, family)


def written(tmp_path, family, tied=True, **more):
    config = config_of(family, tied)
    params = random_parameters(config, np.random.default_rng(0))
    tensors = stored_tensors(config, params)
    path = write_gguf(tmp_path / "m.gguf", config, tensors, VOCABULARY, **more)
    return path, config, params


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_shape_and_weights_come_out_as_they_went_in(tmp_path, family, tied):
    path, config, params = written(tmp_path, family, tied)
    read_config, read, _ = load_gguf(path)
    assert read_config == config
    assert jax.tree.structure(read) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, read, params)


def test_biases_belong_to_qwen2_and_norms_of_heads_to_qwen3(tmp_path):
    for family, other, what in (
        ("qwen2", "qwen3", "q_proj.bias|q_norm"),
        ("qwen3", "qwen2", "q_proj.bias|q_norm"),
        ("qwen2", "llama", "does not know: .*bias"),
    ):
        config = config_of(family)
        params = random_parameters(config, np.random.default_rng(0))
        claimed = dataclasses.replace(config, family=other)
        path = tmp_path / "m.gguf"
        write_gguf(path, claimed, stored_tensors(config, params), VOCABULARY)
        with pytest.raises(UserError, match=what):
            load_gguf(path)


WORDS = "the cats in 12345 theses\n\n they'll THEY'LL don't  x  "


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("qwen2", ["the", " cats", " in", " ", "1", "2", "3", "4", "5", " theses", "\n\n",
                   " they", "'ll", " THEY", "'LL", " don", "'t", " ", " x", "  "]),
        ("llama-bpe", ["the", " cats", " in", " ", "123", "45", " theses", "\n\n", " they",
                       "'ll", " THEY", "'LL", " don", "'t", " ", " x", "  "]),
    ],
)  # fmt: skip
def test_text_is_cut_as_the_family_cuts_it(tmp_path, pre, pieces):
    path, *_ = written(tmp_path, "qwen2", tokenizer__ggml__pre=pre)
    tokenizer = load_gguf(path)[2]
    assert "".join(pieces) == WORDS
    # No merge crosses a cut, so that the ids are those of the pieces one after the other.
    assert tokenizer.encode(WORDS) == [
        i for piece in pieces for i in tokenizer.encode(piece)
    ]
    assert tokenizer.decode(tokenizer.encode(WORDS)) == WORDS
    cuts = tokenizer._structured.pre_tokenizer.pre_tokenize_str(WORDS)
    spans = [span for _, span in cuts]
    assert [WORDS[a:b] for a, b in spans] == pieces


def test_qwen_composes_characters_and_llama_takes_words_whole(tmp_path):
    path, *_ = written(tmp_path, "qwen2")
    composed = load_gguf(path)[2]
    assert composed.encode("e\u0301") == composed.encode("\u00e9")
    # "in" can be merged, "the" only from "th": without that token the word stays whole.
    for pre, whole in (("llama-bpe", True), ("qwen2", False)):
        vocabulary = byte_vocabulary(("t h", "i n"))
        vocabulary = vocabulary._replace(
            tokens=[*vocabulary.tokens, "the", "\u0120the"], types=[*vocabulary.types, 1, 1]
        )
        config = config_of("qwen2")
        params = random_parameters(config, np.random.default_rng(0))
        path = write_gguf(
            tmp_path / "w.gguf", config, stored_tensors(config, params), vocabulary,
            tokenizer__ggml__pre=pre,
        )  # fmt: skip
        ids = load_gguf(path)[2].encode("the")
        assert (len(ids) == 1) is whole


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_divisors_of_llama_3_are_recognised(tmp_path, factor):
    """As Meta's code computes them: by wavelength, with a ramp between two bounds."""
    config = dataclasses.replace(config_of("llama"), rope_theta=500000.0, d_head=32)
    wavelength = 2 * np.pi * 500000.0 ** (np.arange(0, 32, 2) / 32)
    slow, fast = 8192 / 1.0, 8192 / 4.0
    smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
    ramp = 1 / ((1 - smooth) / factor + smooth)
    divisor = np.where(wavelength > slow, factor, np.where(wavelength < fast, 1, ramp))
    assert len(set(divisor)) > 2
    tensors = stored_tensors(config, random_parameters(config, np.random.default_rng(0)))
    path = tmp_path / "m.gguf"
    write_gguf(
        path, config, tensors | {"rope_freqs.weight": divisor.astype("f4")}, VOCABULARY
    )
    read = load_gguf(path)[0]
    assert read.rope_scaling == RopeScaling(factor, 1.0, 4.0, 8192)
    assert dataclasses.replace(read, rope_scaling=None) == config
    divisor[-1] *= 1.01
    write_gguf(
        path, config, tensors | {"rope_freqs.weight": divisor.astype("f4")}, VOCABULARY
    )
    with pytest.raises(UserError, match="rescaled as in no known model"):
        load_gguf(path)


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", [None, "Q8_0", "Q4_0", "F16"])
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_transformers_reads_the_same_model_out_of_the_file(tmp_path, family, kind):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    path, config, _ = written(tmp_path, family, tied=False, quantised=kind)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    tokens_bt = np.random.default_rng(1).integers(0, config.vocab_size, (2, 15))
    with torch.no_grad():
        theirs = model(torch.tensor(tokens_bt)).logits.numpy()
    read_config, params, _ = load_gguf(path)
    ours = np.asarray(decoder.forward(read_config, params, tokens_bt))
    np.testing.assert_allclose(ours, theirs, atol=3e-5)
    assert np.abs(theirs).max() > 0.3


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
def test_transformers_cuts_text_for_qwen2_as_we_do(tmp_path):
    transformers = pytest.importorskip("transformers")
    path, *_ = written(tmp_path, "qwen2")
    ours = load_gguf(path)[2]
    vocab = {token: i for i, token in enumerate(VOCABULARY.tokens)}
    merges = [tuple(merge.split(" ")) for merge in VOCABULARY.merges]
    theirs = transformers.Qwen2Tokenizer(vocab=vocab, merges=merges)
    texts = [
        WORDS,
        "e\u0301t\u00e9 \u2014 12\u00bd\u0663 \U0001f600\r\n\tx_y-z",
        "",
        "  \n \n",
    ]
    for text in texts:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
