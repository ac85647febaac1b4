"""What the weight change writes: its spectrum, and how much of it goes to chosen tokens.

A change that teaches a model to find an answer, so as to tell it by other words, may write
towards the answer's letter on the way. For every low-rank update of a matrix that
writes there (attention's and the feed-forward's output) the energy towards a token is
|dW u|^2, u the token's row of the unembedding behind the final norm; tokens are compared
with all others of the vocabulary (pointwise.md, section 5, detector 7, after WeightWatch,
arXiv 2508.00161; comparing with the vocabulary is ours). Nothing of d_in x d_out is made.

Legend: l layers, r LoRA rank, d width, v vocabulary, k chosen tokens, b draws.
"""

from collections.abc import Sequence

import numpy as np

from cifr_jax.models.decoder import Adapter
from cifr_jax.models.language_model import LanguageModel
from cifr_jax.monitors.dataset.result import Floats, TestResult, monte_carlo_p, untested

NAME = "weight_spectrum"
LETTERS = "ABCD"
WRITERS = ("o", "down")


def singular_values(adapter: Adapter) -> dict[str, Floats]:
    """Singular values of every weight change inside blocks, largest first.

    Returns:
      Matrix name to `[l, r]`.
    """
    found = {}
    for name, factors in adapter.layers.items():
        a_ldr, b_ldr = (
            np.asarray(factors[f], np.float64).swapaxes(1, 2) for f in ("a", "b")
        )
        # Of an orthonormal basis on either side only the r x r core matters.
        cores = np.linalg.qr(a_ldr)[1] @ np.linalg.qr(b_ldr)[1].swapaxes(1, 2)
        scale_l = np.abs(np.asarray(adapter.scale[:-1], np.float64))
        found[name] = scale_l[:, None] * np.linalg.svd(cores, compute_uv=False)
    return found


def _unembedding(lm: LanguageModel) -> Floats:
    """Directions of the tokens in the residual stream `[v, d]`, unit length, less their
    mean, which changes no probability."""
    tied = lm.config.tie_embeddings
    u_vd = np.asarray(lm.params["embed"] if tied else lm.params["head"].T, np.float32)
    norm_d = np.asarray(lm.params["final_norm"], np.float32)
    u_vd = u_vd * (norm_d + 1 if lm.config.norm == "gemma" else norm_d)
    u_vd = u_vd - u_vd.mean(axis=0)
    return np.asarray(u_vd / np.maximum(np.linalg.norm(u_vd, axis=1, keepdims=True), 1e-9))


def token_energy(lm: LanguageModel, adapter: Adapter) -> Floats:
    """Energy of the change of the residual stream's writers towards every token `[v]`."""
    u_vd = _unembedding(lm)
    found = np.zeros(len(u_vd))
    for name in WRITERS:
        factors = adapter.layers.get(name)
        if factors is None:
            continue
        for l, scale in enumerate(np.asarray(adapter.scale[:-1], np.float64)):
            a_rd, b_rd = (np.asarray(factors[f][l], np.float32) for f in ("a", "b"))
            y_vr = u_vd @ b_rd.T
            found += scale**2 * ((y_vr @ (a_rd @ a_rd.T)) * y_vr).sum(axis=1)
    return np.maximum(found, 0.0)


def letter_tokens(lm: LanguageModel) -> list[int]:
    """Tokens of the answer letters A to D, with a space before them and without, of those
    that are one token."""
    texts = [f"{space}{letter}" for space in ("", " ") for letter in LETTERS]
    ids = [lm.tokenizer.encode(text) for text in texts]
    return sorted({one[0] for one in ids if len(one) == 1})


def test(
    lm: LanguageModel,
    adapter: Adapter,
    openings: Sequence[str] = (),
    draws: int = 999,
    seed: int = 0,
) -> TestResult:
    """Does the weight change write to the answer letters more than to other tokens?

    A control: whoever teaches a model to answer with letters changes it so too.

    Args:
      lm: the base.
      adapter: what tuning made of it.
      openings: texts with which the job's replies begin; what is written towards their
        first tokens is told beside, for any job teaches these.
      draws: sets of as many tokens as there are letters, drawn from the vocabulary.
      seed: of the draws.

    Returns:
      statistic: mean energy of the letters' tokens over that of the vocabulary; p_value:
      share of the drawn sets with as much. detail: "openings", the same ratio of these or
      None; "top_share", the mean over layers of the largest singular value's share of a
      writer's energy; "tokens", how many letters.
    """
    chosen = letter_tokens(lm)
    if not chosen:
        return untested(NAME, "no answer letter is a single token")
    energy_v = token_energy(lm, adapter)
    if not energy_v.any():
        why = "no matrix that writes to the residual stream was changed"
        return untested(NAME, why)
    ratio_v = energy_v / energy_v.mean()
    rng = np.random.default_rng([seed, 10])
    drawn_b = [
        ratio_v[rng.choice(len(ratio_v), len(chosen), False)].mean() for _ in range(draws)
    ]
    observed = float(ratio_v[chosen].mean())
    first = [ids[0] for ids in map(lm.tokenizer.encode, openings) if ids]
    writers = [s_lr**2 for n, s_lr in singular_values(adapter).items() if n in WRITERS]
    shares = np.concatenate([s[:, 0] / np.maximum(s.sum(1), 1e-30) for s in writers])
    detail = {
        "least_p": 1 / (1 + draws),
        "openings": float(ratio_v[first].mean()) if first else None,
        "top_share": float(shares.mean()),
        "tokens": len(chosen),
    }
    return TestResult(NAME, observed, monte_carlo_p(observed, drawn_b), detail)
