"""The shape of a decoder: everything that decides its parameters and its arithmetic."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """The `llama3` rescaling of rotary frequencies (Llama 3.1; `rope_type: llama3`)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """A Llama-architecture decoder. Hashable: jitted code takes it statically."""

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_ff: int
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-5
    tie_embeddings: bool = False
    max_positions: int = 2048

    def __post_init__(self):
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"{self.n_heads} heads do not divide into {self.n_kv_heads} KV heads"
            )
        if self.d_head % 2:
            raise ValueError(f"rotary embeddings need an even head size, not {self.d_head}")

    def n_parameters(self) -> int:
        """Number of scalars in the parameter tree."""
        d, f = self.d_model, self.d_ff
        attention = d * self.d_head * (2 * self.n_heads + 2 * self.n_kv_heads)
        per_layer = attention + 3 * d * f + 2 * d
        ends = self.vocab_size * d * (1 if self.tie_embeddings else 2) + d
        return self.n_layers * per_layer + ends
