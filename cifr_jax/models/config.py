"""The shape of a decoder: everything that decides its parameters and its arithmetic."""

import dataclasses
from typing import Literal

from cifr_jax.models.rope import LinearRope, LongRope, RopeScaling, YarnRope

Scaling = RopeScaling | LinearRope | YarnRope | LongRope

# Fields of a plain Llama. The others are shown only where they say something: what a model
# is called by (a fingerprint) must not change when the decoder learns another family.
_LLAMA_FIELDS = 12


@dataclasses.dataclass(frozen=True)
class LocalRope:
    """Rotation in layers with a window, where it is not that of the others (Gemma 3)."""

    theta: float
    scaling: Scaling | None = None


@dataclasses.dataclass(frozen=True, repr=False)
class DecoderConfig:
    """A decoder. Hashable: jitted code takes it statically. The defaults are Llama's.

    Attributes:
      vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_head, d_ff: sizes.
      rope_theta, rope_scaling: rotary frequencies and how they are rescaled.
      norm_eps: of every RMSNorm.
      tie_embeddings: the head is the embedding transposed.
      max_positions: longest text that the model was made for, in tokens.
      family: whose names the tensors have (`models.families`).
      biases: matrices of a block that have a bias, from q k v o gate up down.
      norm: `llama` rounds to the computing type before it scales, `olmo` after; `gemma` as
        olmo, by one plus the parameter.
      pre_norm, post_norm: blocks normalise what goes into attention and feed-forward, and
        what comes out.
      qk_norm: queries and keys are normalised before rotation: each `head`, or all heads
        together (`width`).
      activation: of the gate.
      embed_scale: times the embeddings; None: one.
      query_scale: queries are multiplied by this to the power -1/2; None: the head width.
      attention_cap, logit_cap: c in c tanh(x / c), of attention scores and of logits.
      window: keys that a query sees at most, its own included, in `window_layers`.
      local_rope: rotation in those layers; None: as in the others.
      no_rope_layers: layers without rotation.
      d_rotary: dimensions of a head that are rotated, from the first; None: all.
    """

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_ff: int
    rope_theta: float = 10000.0
    rope_scaling: Scaling | None = None
    norm_eps: float = 1e-5
    tie_embeddings: bool = False
    max_positions: int = 2048
    family: str = "llama"
    biases: tuple[str, ...] = ()
    norm: Literal["llama", "olmo", "gemma"] = "llama"
    pre_norm: bool = True
    post_norm: bool = False
    qk_norm: Literal["head", "width"] | None = None
    activation: Literal["silu", "gelu_tanh"] = "silu"
    embed_scale: float | None = None
    query_scale: float | None = None
    attention_cap: float | None = None
    logit_cap: float | None = None
    window: int | None = None
    window_layers: tuple[int, ...] = ()
    local_rope: LocalRope | None = None
    no_rope_layers: tuple[int, ...] = ()
    d_rotary: int | None = None

    def __post_init__(self):
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"{self.n_heads} heads do not divide into {self.n_kv_heads} KV heads"
            )
        rotated = self.d_head if self.d_rotary is None else self.d_rotary
        if rotated % 2:
            raise ValueError(f"rotary embeddings need an even head size, not {rotated}")
        if rotated > self.d_head:
            raise ValueError(f"{rotated} rotated dimensions in a head of {self.d_head}")
        if self.window_layers and self.window is None:
            raise ValueError("layers with a window, but no window")

    def __repr__(self):
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for number, field in enumerate(dataclasses.fields(self))
            if number < _LLAMA_FIELDS or getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def n_parameters(self) -> int:
        """Number of scalars in the parameter tree."""
        d, n, kv = self.d_model, self.n_heads * self.d_head, self.n_kv_heads * self.d_head
        widths = {"q": n, "k": kv, "v": kv, "o": d, "gate": self.d_ff, "up": self.d_ff}
        per_layer = d * (2 * n + 2 * kv + 3 * self.d_ff)
        per_layer += sum((widths | {"down": d})[name] for name in self.biases)
        per_layer += 2 * d * (self.pre_norm + self.post_norm)
        if self.qk_norm is not None:
            per_layer += 2 * self.d_head if self.qk_norm == "head" else n + kv
        ends = self.vocab_size * d * (1 if self.tie_embeddings else 2) + d
        return self.n_layers * per_layer + ends
