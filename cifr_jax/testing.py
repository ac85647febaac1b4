"""Small models and tokenizers for tests: random weights, made on the spot."""

from pathlib import Path

from flax import nnx
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from cifr_jax.models import decoder
from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.hf_folder import save_hf_folder
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.models.tokenizer import ChatTokenizer

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_SPECIALS = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")


def byte_tokenizer() -> ChatTokenizer:
    """A token a byte, so that any text encodes, and a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate((*_SPECIALS, *alphabet))}
    model = models.BPE(vocab=vocab, merges=[])
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIALS))
    return ChatTokenizer(
        tokenizer,
        chat_template=CHAT_TEMPLATE,
        pad_token="<|pad|>",
        eos_tokens=("<|end|>",),
    )


def tiny_model(seed: int = 0, n_layers: int = 2, d_model: int = 16) -> LanguageModel:
    """A random Llama-architecture model (grouped queries, tied ends) over bytes."""
    tokenizer = byte_tokenizer()
    config = DecoderConfig(
        vocab_size=tokenizer.vocab_size,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=2,
        n_kv_heads=1,
        d_head=d_model // 2,
        d_ff=2 * d_model,
        tie_embeddings=True,
    )
    params = decoder.Decoder(config, rngs=nnx.Rngs(seed)).split()
    return LanguageModel(config, params, tokenizer, "random")


def save_model(folder: Path, lm: LanguageModel) -> Path:
    """Writes a model as a Hugging Face folder, which `models.load` reads; returns it."""
    save_hf_folder(folder, lm.config, lm.params, lm.tokenizer)
    return folder
