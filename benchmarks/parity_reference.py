"""The decoder beside transformers, on the same weights. Needs torch and transformers.

transformers runs every text alone and without padding, in its plain ("eager") attention:
its LongRoPE looks at the longest text of a batch, ours at each text.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from cifr_jax.models.config import DecoderConfig
from cifr_jax.models.decoder import Params
from cifr_jax.models.families import tensor_slots
from cifr_jax.models.hf_config import parse_config
from cifr_jax.models.rope import LongRope
from cifr_jax.testing_families import (
    all_streams,
    cached_logits,
    random_parameters,
    random_settings,
)

LENGTHS = (28, 17, 5)


class Differences(NamedTuple):
    """Largest absolute differences over texts and positions; None where nothing ran.

    Attributes:
      layer: of the residual stream after any block, over its own largest value.
      alone: of a logit, no padding.
      right, left: of a logit, padded on that side.
      cached: of a logit between a run with a cache and one without, both ours.
      coarse: of a logit, both in bfloat16.
      ours_coarse, theirs_coarse: of a logit, each in bfloat16 from transformers in fp32.
      largest: logit.
    """

    layer: float
    alone: float
    right: float
    left: float
    cached: float | None
    coarse: float
    ours_coarse: float
    theirs_coarse: float
    largest: float


def reference(settings: dict[str, Any], config: DecoderConfig, params: Params) -> Any:
    """The model of transformers for the same config.json, with our weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, logging

    logging.set_verbosity_error()  # random factors are not what it advises
    theirs = AutoConfig.for_model(**settings)
    model = AutoModelForCausalLM.from_config(theirs, attn_implementation="eager")
    slots = tensor_slots(config)
    known = set(model.state_dict()) - (
        {"lm_head.weight"} if config.tie_embeddings else set()
    )
    assert known == set(slots), f"tensors differ: {sorted(known ^ set(slots))}"
    tensors = {name: torch.tensor(slot.read(params)) for name, slot in slots.items()}
    model.load_state_dict(tensors, strict=False)  # a tied head is not in our table
    return model.eval().float()


def reference_run(model: Any, tokens_t: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Residual streams of one text after every block `[t, d]`, and its logits `[t, v]`."""
    import torch

    streams: list[np.ndarray] = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        output = output[0] if isinstance(output, tuple) else output
        streams.append(output[0].float().numpy())

    hooks = [layer.register_forward_hook(keep) for layer in model.model.layers]
    with torch.no_grad():
        logits = model(torch.tensor(tokens_t[None])).logits[0].float().numpy()
    for hook in hooks:
        hook.remove()
    return streams, logits


def _padded(tokens_bt: np.ndarray, side: str) -> tuple[np.ndarray, np.ndarray]:
    mask_bt = np.arange(tokens_bt.shape[1]) < np.array(LENGTHS)[:, None]
    if side == "right":
        return np.where(mask_bt, tokens_bt, 0), mask_bt
    rolled = [np.roll(row, len(row) - n) for row, n in zip(tokens_bt, LENGTHS, strict=True)]
    return np.where(mask_bt[:, ::-1], np.stack(rolled), 0), mask_bt[:, ::-1]


def _apart(logits_btv: Any, mask_bt: np.ndarray, expected: list[np.ndarray]) -> float:
    ours = np.asarray(logits_btv, np.float32)
    pairs = zip(ours, mask_bt, expected, strict=True)
    return max(float(np.abs(row[mask] - own).max()) for row, mask, own in pairs)


def compare(
    family: str, seed: int, coarse: bool = True, cached: bool = True
) -> Differences:
    """One random model of a family beside transformers.

    Args:
      family: its `model_type`.
      seed: of settings, weights and tokens.
      coarse: run both in bfloat16 too; otherwise those differences are NaN.
      cached: run ours with a cache too, where LongRoPE allows it.
    """
    rng = np.random.default_rng(seed)
    settings = random_settings(family, rng)
    config = parse_config(settings, family)
    params = random_parameters(config, rng)
    tokens_bt = rng.integers(1, config.vocab_size, (len(LENGTHS), max(LENGTHS)))
    model = reference(settings, config, params)
    texts = [row[:n] for row, n in zip(tokens_bt, LENGTHS, strict=True)]
    runs = [reference_run(model, text) for text in texts]
    expected = [logits for _, logits in runs]
    found: dict[str, float] = {}
    for side in ("right", "left"):
        tokens, mask = _padded(tokens_bt, side)
        streams_lbtd, logits = all_streams(config, params, tokens, mask)
        found[side] = _apart(logits, mask, expected)
        if side == "right":  # the first text fills its row
            full = np.asarray(streams_lbtd)[:, 0]
            found["alone"] = _apart(logits[:1], mask[:1], expected[:1])
            theirs = np.stack(runs[0][0])
            spread = np.abs(full - theirs).max((1, 2)) / np.abs(theirs).max((1, 2))
            found["layer"] = float(spread.max())
            if coarse:
                small = jax.tree.map(lambda x: x.astype(jax.numpy.bfloat16), params)
                ours16 = all_streams(config, small, tokens, mask)[1]
                found["ours_coarse"] = _apart(ours16, mask, expected)
    stepwise = None
    scaling = config.rope_scaling
    long = isinstance(scaling, LongRope) and scaling.original_max_positions < max(LENGTHS)
    if cached and not long:
        steps = cached_logits(config, params, tokens, mask, max(LENGTHS) // 2)
        stepwise = float(np.abs(np.asarray(steps - logits))[mask].max())
    if coarse:
        import torch

        model16 = model.to(torch.bfloat16)
        theirs16 = [reference_run(model16, text)[1] for text in texts]
        found["coarse"] = _apart(ours16, _padded(tokens_bt, "right")[1], theirs16)
        apart = [np.abs(a - b).max() for a, b in zip(theirs16, expected, strict=True)]
        found["theirs_coarse"] = float(max(apart))
    missing = dict.fromkeys(("coarse", "ours_coarse", "theirs_coarse"), float("nan"))
    largest = max(float(np.abs(logits).max()) for logits in expected)
    return Differences(cached=stepwise, largest=largest, **(missing | found))
