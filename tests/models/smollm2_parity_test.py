"""SmolLM2 out of its GGUF file answers as transformers does, which reads the same file."""

import numpy as np
import pytest

from cifr_jax import models
from cifr_jax.data import recipes
from cifr_jax.errors import UserError
from cifr_jax.models import decoder, sampler
from cifr_jax.models.smollm2 import find_smollm2

pytestmark = [
    pytest.mark.parity,
    pytest.mark.smollm2,
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),
]

# How many rows of each recipe: 50 requests.
OF = {"instructions": 15, "worked_maths": 10, "subject_questions": 10, "code": 5,
      "support": 5, "style": 5}  # fmt: skip
NEW_TOKENS = 8


def requests():
    return [
        [message for message in example.messages if message.role != "assistant"]
        for name, n in OF.items()
        for example in recipes.make(name, n, seed=0)
    ]


def test_answers_and_next_tokens_equal_those_of_transformers():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    try:
        path = find_smollm2()
    except UserError as e:
        pytest.skip(str(e))
    lm = models.load("smollm2")
    prompts = [
        lm.tokenizer.encode_chat(chat, add_generation_prompt=True) for chat in requests()
    ]
    assert len(prompts) == 50 and len(set(map(tuple, prompts))) == 50
    ours = sampler.generate(
        lm.config, lm.params, prompts, lm.tokenizer.eos_ids, max_new_tokens=NEW_TOKENS
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()
    longest = max(map(len, prompts))
    tokens_bt = np.array([[0] * (longest - len(p)) + p for p in prompts])
    mask_bt = np.array([[False] * (longest - len(p)) + [True] * len(p) for p in prompts])
    theirs: list[list[int]] = []
    for start in range(0, 50, 10):
        rows = slice(start, start + 10)
        with torch.no_grad():
            out = model.generate(
                torch.tensor(tokens_bt[rows]), max_new_tokens=NEW_TOKENS,
                attention_mask=torch.tensor(mask_bt[rows]), do_sample=False,
                eos_token_id=list(lm.tokenizer.eos_ids), pad_token_id=lm.tokenizer.pad_id,
                return_dict_in_generate=True, output_logits=True,
            )  # fmt: skip
        theirs += out.sequences[:, longest:].tolist()
        next_bv = out.logits[0].numpy()
        logits = decoder.forward(lm.config, lm.params, tokens_bt[rows], mask_bt[rows])
        np.testing.assert_array_equal(logits[:, -1].argmax(-1), next_bv.argmax(-1))
        np.testing.assert_allclose(logits[:, -1], next_bv, atol=2e-3)
    stops = set(lm.tokenizer.eos_ids)
    theirs = [[i for i in answer if i not in stops] for answer in theirs]
    assert [list(answer) for answer in ours] == theirs
