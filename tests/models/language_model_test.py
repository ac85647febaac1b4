"""A model and its tokenizer together do what its parts do."""

import dataclasses

import jax
import numpy as np
import pytest

from cifr_jax.data.chat import Message
from cifr_jax.models import decoder, sampler
from cifr_jax.testing import tiny_model

CHATS = [[Message("user", "hi")], [Message("system", "be"), Message("user", "who?")]]


@pytest.fixture(scope="module")
def lm():
    model = tiny_model()
    # With tied ends a random base repeats its last token; the other sign makes it babble.
    loud = {"embed": 40 * model.params["embed"], "final_norm": -model.params["final_norm"]}
    return dataclasses.replace(model, params=model.params | loud)


def test_answers_are_the_decoded_continuations_of_rendered_prompts(lm):
    prompts = [lm.tokenizer.encode_chat(c, add_generation_prompt=True) for c in CHATS]
    ids = sampler.generate(
        lm.config, lm.params, prompts, lm.tokenizer.eos_ids, max_new_tokens=8
    )
    answers = lm.generate(CHATS, max_new_tokens=8)
    assert answers == [lm.tokenizer.decode(i) for i in ids]
    assert all(answers)
    scores = lm.score(prompts, ids)
    assert scores.greedy_n.all()
    sampled = lm.generate(CHATS, max_new_tokens=8, temperature=2.0, seed=1)
    assert sampled != answers
    assert sampled == lm.generate(CHATS, max_new_tokens=8, temperature=2.0, seed=1)


def test_logits_are_the_decoders(lm):
    tokens_bt = np.array([[1, 2, 3], [4, 5, 0]])
    mask_bt = np.array([[True] * 3, [True, True, False]])
    np.testing.assert_array_equal(
        lm.logits(tokens_bt, mask_bt),
        decoder.forward(lm.config, lm.params, tokens_bt, mask_bt),
    )


def test_the_fingerprint_is_of_what_results_depend_on(lm):
    assert lm.fingerprint() == dataclasses.replace(lm, name="other").fingerprint()
    copied = dataclasses.replace(lm, params=jax.tree.map(np.array, lm.params))
    assert copied.fingerprint() == lm.fingerprint()
    seen = {lm.fingerprint()}
    norm = np.array(lm.params["final_norm"])
    norm[3] = np.nextafter(norm[3], 2, dtype=np.float32)
    changes = (
        {"params": lm.params | {"final_norm": norm}},
        {"params": lm.params | {"final_norm": norm.astype(np.float16)}},
        {"config": dataclasses.replace(lm.config, norm_eps=1e-6)},
    )
    for change in changes:
        seen.add(dataclasses.replace(lm, **change).fingerprint())
    assert len(seen) == 4


def test_the_number_of_parameters_is_the_configs(lm):
    assert lm.n_parameters() == lm.config.n_parameters()
