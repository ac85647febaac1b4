"""Makes the committed goldens: what transformers computes, for tests that run without it.

    python tests/goldens/make_goldens.py

needs torch and transformers (made with torch 2.13.0, transformers 5.23.0). Writes beside
itself: `llama/<case>/`, random Llama checkpoints with the logits of a right-padded batch
(fp32), and `chat/`, a small tokenizer with conversations as `apply_chat_template` renders
and encodes them. Nothing is pickled.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).parent
LENGTHS = (24, 17, 5)
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 1000.0, "factor": 4.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip
COMMON = {
    "vocab_size": 48, "num_hidden_layers": 2, "max_position_embeddings": 64,
    "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
CASES = {
    "mha_untied": dict(
        hidden_size=16, intermediate_size=28, num_attention_heads=4, num_key_value_heads=4
    ),
    "mha_tied": dict(
        hidden_size=16, intermediate_size=28, num_attention_heads=2, num_key_value_heads=2,
        tie_word_embeddings=True, rms_norm_eps=1e-3,
    ),
    "gqa_untied": dict(
        hidden_size=16, intermediate_size=20, num_attention_heads=4, num_key_value_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": 77.0},
    ),
    # Nine heads over three, as in SmolLM2; the head size is not hidden_size / heads.
    "gqa_odd_heads_tied": dict(
        hidden_size=18, intermediate_size=20, num_attention_heads=9, num_key_value_heads=3,
        head_dim=4, tie_word_embeddings=True,
    ),
    "mqa_wide_heads": dict(
        hidden_size=15, intermediate_size=20, num_attention_heads=3, num_key_value_heads=1,
        head_dim=8,
    ),
    "gqa_llama3": dict(
        hidden_size=16, intermediate_size=20, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, rope_parameters=LLAMA3,
    ),
}  # fmt: skip
CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe brief.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim "
    "+ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WITH_BOS = (
    "{{ bos_token }}\n{%- for message in messages %}\n"
    "    {%- if message.role == 'user' %}\n"
    "[{{ message.content }}]\n    {%- else %}\n"
    "{{ message.content }}{{ eos_token }}\n    {%- endif %}\n{%- endfor %}"
)
CHATS = (
    [("user", "What is the tide table of Port Ellery?")],
    [("system", "Speak plainly."), ("user", "  Two  spaces\n\nand 1234 apples. ")],
    [
        ("user", "naïve café 日本 🙂"),
        ("assistant", "Yes.\n"),
        ("user", "im_start | im_end"),
    ],
)


def build_model(settings: dict, seed: int) -> LlamaForCausalLM:
    """A random Llama whose logits are of order one, unlike those of a fresh one."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**settings)).eval().float()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.copy_(1 + 0.3 * torch.randn_like(weight))
            else:
                weight.copy_(1.2 * torch.randn_like(weight) / weight.shape[-1] ** 0.5)
    return model


def run_model(model: LlamaForCausalLM, tokens_bt, mask_bt) -> np.ndarray:
    """Logits `[b, t, v]` of padded rows; positions count the tokens of each row."""
    mask = torch.tensor(mask_bt)
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        output = model(
            torch.tensor(tokens_bt), attention_mask=mask.long(), position_ids=positions
        )
    return output.logits.numpy()


def word_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """The least tokenizer that a model folder can have."""
    vocab = {"<s>": 0, "</s>": 1} | {f"w{i}": i for i in range(2, size)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="w2"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
    )


def make_llama(folder: Path, settings: dict, seed: int) -> None:
    """One checkpoint with its expected logits."""
    model = build_model(COMMON | settings, seed)
    rng = np.random.default_rng(seed)
    tokens_bt = rng.integers(0, COMMON["vocab_size"], (len(LENGTHS), max(LENGTHS)))
    mask_bt = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    logits_btv = run_model(model, tokens_bt, mask_bt)
    assert logits_btv.std() > 0.5, "logits too small to show an error"
    model.save_pretrained(folder)
    word_tokenizer(COMMON["vocab_size"]).save_pretrained(folder)
    np.savez_compressed(
        folder / "expected.npz",
        tokens_bt=tokens_bt.astype(np.int32), mask_bt=mask_bt, logits_btv=logits_btv,
    )  # fmt: skip


def make_chat(folder: Path) -> None:
    """A byte-level BPE with two templates, and what transformers makes of them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=specials, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(
        [__doc__, *(c for chat in CHATS for _, c in chat)], trainer
    )
    expected = []
    for bos, template in (("<|im_start|>", CHATML), ("<|endoftext|>", WITH_BOS)):
        fast = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token=bos, eos_token="<|im_end|>",
            chat_template=template,
        )  # fmt: skip
        for chat in CHATS:
            for prompt in (False, True):
                messages = [{"role": role, "content": text} for role, text in chat]
                rendered = fast.apply_chat_template(
                    messages, add_generation_prompt=prompt, tokenize=False
                )
                ids = fast.apply_chat_template(
                    messages, add_generation_prompt=prompt, return_dict=False
                )
                expected.append(
                    dict(bos=bos, template=template, chat=chat, prompt=prompt,
                         rendered=rendered, ids=ids)
                )  # fmt: skip
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    text = json.dumps(expected, indent=1, ensure_ascii=False)
    (folder / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    for name in ("llama", "chat"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    for number, (name, settings) in enumerate(CASES.items()):
        make_llama(HERE / "llama" / name, settings, seed=number)
    make_chat(HERE / "chat")
