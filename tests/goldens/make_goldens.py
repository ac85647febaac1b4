"""Makes the committed goldens: what transformers computes, for tests that run without it.

    python tests/goldens/make_goldens.py

needs the extra `parity` (made with torch 2.13.0, transformers 5.23.0, sentencepiece 0.2.3).
Writes beside itself: `llama/<case>/` and `families/<case>/`, random checkpoints with logits
(fp32), `chat/`, a small tokenizer with conversations as `apply_chat_template` renders and
encodes them, and `sentencepiece.json`, pieces and scores with texts as SentencePiece cuts
them. Nothing is pickled.
"""

import io
import json
import random
import shutil
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

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
SMALL = {
    "hidden_size": 12, "intermediate_size": 14, "num_attention_heads": 3,
    "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0,
}  # fmt: skip
WINDOWS = ["sliding_attention", "full_attention"]
# Of `families/<case>/`: every feature of the family on, with windows and contexts that are
# shorter than the longest text.
FAMILIES = {
    "mistral": dict(sliding_window=6, num_key_value_heads=3),
    "qwen2": dict(
        use_sliding_window=True, sliding_window=5, max_window_layers=1,
        rope_parameters={
            "rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ),
    "qwen3": dict(attention_bias=True, tie_word_embeddings=True),
    "gemma2": dict(
        sliding_window=5, attn_logit_softcapping=2.0, final_logit_softcapping=4.0,
        query_pre_attn_scalar=5, attention_bias=True,
    ),
    "gemma3_text": dict(
        sliding_window=5, layer_types=WINDOWS, query_pre_attn_scalar=5,
        rope_parameters={
            WINDOWS[0]: {"rope_type": "default", "rope_theta": 100.0},
            WINDOWS[1]: {"rope_type": "linear", "rope_theta": 1e4, "factor": 8.0},
        },
    ),
    "smollm3": dict(
        no_rope_layers=[1, 0], use_sliding_window=True, sliding_window=7, mlp_bias=True,
        tie_word_embeddings=False,
    ),
    "phi3": dict(
        sliding_window=9, original_max_position_embeddings=12, head_dim=4,
        rope_parameters={
            "rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.5,
            "short_factor": [1.25], "long_factor": [4.0],
            "original_max_position_embeddings": 12,
        },
    ),
    "olmo2": dict(attention_bias=True, num_key_value_heads=3),
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
    return randomise(LlamaForCausalLM(LlamaConfig(**settings)))


def randomise(model):
    """The model with weights with which everything in it shows."""
    model = model.eval().float()
    zero_is_one = model.config.model_type.startswith("gemma")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.copy_((0 if zero_is_one else 1) + 0.3 * torch.randn_like(weight))
            elif name.endswith("bias"):
                weight.copy_(0.3 * torch.randn_like(weight))
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


def make_family(folder: Path, family: str, settings: dict, seed: int) -> None:
    """One checkpoint of a family; every text is run alone, without padding."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **COMMON | SMALL | settings)
    eager = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model = randomise(eager)
    rng = np.random.default_rng(seed)
    tokens_bt = rng.integers(0, COMMON["vocab_size"], (len(LENGTHS), max(LENGTHS)))
    mask_bt = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    logits_btv = np.zeros((*tokens_bt.shape, COMMON["vocab_size"]), np.float32)
    for row, length in enumerate(LENGTHS):
        with torch.no_grad():
            output = model(torch.tensor(tokens_bt[row : row + 1, :length]))
        logits_btv[row, :length] = output.logits[0].numpy()
    assert logits_btv[mask_bt].std() > 0.5, "logits too small to show an error"
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


def train_pieces(text: str) -> sentencepiece.SentencePieceProcessor:
    """A small model of the kind that Llama 2 has: BPE over bytes and blanks."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.splitlines()), model_writer=model, vocab_size=420,
        model_type="bpe", byte_fallback=True, split_digits=True, minloglevel=2,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def piece_fields(pieces: sentencepiece.SentencePieceProcessor) -> dict[str, list]:
    """Tokens, scores and types, as GGUF has them."""
    ids = range(pieces.get_piece_size())
    kinds = {2: pieces.is_unknown, 3: pieces.is_control, 6: pieces.is_byte}
    return {
        "tokens": [pieces.id_to_piece(i) for i in ids],
        "scores": [pieces.get_score(i) for i in ids],
        "token_type": [next((k for k, is_ in kinds.items() if is_(i)), 1) for i in ids],
    }


def odd_texts(n: int, seed: int) -> list[str]:
    """Texts of repeated letters, runs of blanks, controls and signs that no piece has."""
    rng = random.Random(seed)
    signs = "aaabbb the  e eetthh\n\t12 é日🙂\u2581"
    return ["".join(rng.choices(signs, k=rng.randrange(30))) for _ in range(n)]


def make_sentencepiece(path: Path) -> None:
    """Pieces of this file's own text."""
    source = Path(__file__).read_text(encoding="utf-8")
    pieces = train_pieces(source)
    texts = [*source.splitlines()[:40], *odd_texts(200, seed=0), "<s> </s> [INST]"]
    cases = [{"text": text, "ids": pieces.encode(text)} for text in texts]
    held = json.dumps(piece_fields(pieces) | {"cases": cases}, ensure_ascii=False)
    path.write_text(held + "\n", encoding="utf-8")


if __name__ == "__main__":
    for name in ("llama", "families", "chat"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    for number, (name, settings) in enumerate(CASES.items()):
        make_llama(HERE / "llama" / name, settings, seed=number)
    for number, (name, settings) in enumerate(FAMILIES.items()):
        make_family(HERE / "families" / name, name, settings, seed=number)
    make_chat(HERE / "chat")
    make_sentencepiece(HERE / "sentencepiece.json")
