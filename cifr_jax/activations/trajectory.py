"""The trajectory of a fine-tuning job: what is looked at after every round of steps.

A round is an artefact of its own: activations of a fixed canary set under the adapter as
it is then, and figures: losses, norms of the weight change, drift of the canaries from the
base, and the score of a probe. This is the feed of drift monitors and of a live view.

Legend: l layers, n canaries, d model width, r LoRA rank, s steps.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np

from cifr_jax.activations.capture import capture_tokens
from cifr_jax.errors import UserError
from cifr_jax.files import Tree, load_arrays, save_arrays, write_json_atomic
from cifr_jax.finetune.job import Round
from cifr_jax.finetune.writers import Writer
from cifr_jax.models.decoder import Adapter
from cifr_jax.models.language_model import LanguageModel


class Scorer(Protocol):
    """What is needed of a probe: one score a row."""

    def decision_function(self, x_nd: Any) -> np.ndarray: ...


def weight_change_norms(adapter: Adapter) -> dict[str, np.ndarray]:
    """Frobenius norm of every weight change, without making it.

    |s B A|^2 = s^2 tr((A A^T)(B B^T)), with r x r products only.

    Returns:
      Matrix name to `[l]`; `embed` and `head` to `[1]`.
    """

    def norm(factors: Mapping, scale):
        a, b = factors["a"], factors["b"]
        grams = [jnp.einsum("...rd,...sd->...rs", x, x) for x in (a, b)]
        squared = jnp.einsum("...rs,...rs->...", *grams)
        return np.atleast_1d(np.asarray(scale * jnp.sqrt(jnp.maximum(squared, 0))))

    found = {name: norm(f, adapter.scale[:-1]) for name, f in adapter.layers.items()}
    for name in ("embed", "head"):
        factors = getattr(adapter, name)
        if factors is not None:
            found[name] = norm(factors, adapter.scale[-1])
    return found


class Trajectory:
    """Writes rounds while a job trains; give its `observe` to `fleet.train`.

    Args:
      folder: `round-000050.safetensors` and `.json` for each round go there.
      lm: the base model.
      canaries: token ids of the prompts that are looked at, the same in every round.
      every: steps between rounds; the last step is a round as well.
      last: number of the job's last step.
      writers: take the figures of each round.
      probe: scores canaries by their last-token activations, or None.
      probe_layer: the layer that the probe reads.

    Raises:
      UserError: no canaries.
    """

    def __init__(
        self,
        folder: Path,
        lm: LanguageModel,
        canaries: Sequence[Sequence[int]],
        every: int,
        last: int,
        writers: Sequence[Writer] = (),
        probe: Scorer | None = None,
        probe_layer: int = -1,
    ):
        if not canaries:
            raise UserError("canaries", "there are none", "give at least one prompt")
        self.folder, self.lm, self.canaries = Path(folder), lm, canaries
        self.every, self.last, self.writers = every, last, writers
        self.probe, self.probe_layer = probe, probe_layer
        self._base = capture_tokens(lm.config, lm.params, canaries)

    def _path(self, step: int, suffix: str) -> Path:
        return self.folder / f"round-{step:06d}.{suffix}"

    def observe(self, found: Round) -> None:
        """Look at a job between two chunks; a round that is there is not made again."""
        if found.step % self.every and found.step != self.last:
            return
        if not self._path(found.step, "json").exists():
            self._make(found, found.losses[(found.step - 1) // self.every * self.every :])
        figures = json.loads(self._path(found.step, "json").read_bytes())["figures"]
        for writer in self.writers:
            writer.write(found.step, figures)

    def _make(self, found: Round, losses: np.ndarray) -> None:
        lm = self.lm
        pooled = capture_tokens(lm.config, lm.params, self.canaries, found.adapter)
        norms = weight_change_norms(found.adapter)
        figures = {"loss": float(losses.mean())}
        figures |= {f"norm/{name}": float(np.linalg.norm(x)) for name, x in norms.items()}
        for pool, x_lnd in pooled.items():
            base_lnd = self._base[pool]
            moved_l = np.linalg.norm(x_lnd - base_lnd, axis=-1).mean(-1)
            size_l = np.linalg.norm(base_lnd, axis=-1).mean(-1)
            for l, share in enumerate(moved_l / np.maximum(size_l, 1e-9)):
                figures[f"drift/{pool}/{l}"] = float(share)
        if self.probe is not None:
            scores_n = self.probe.decision_function(pooled["last"][self.probe_layer])
            figures["probe_score"] = float(scores_n.mean())
        arrays: Tree = {"activations": pooled, "norms": norms, "losses": losses}
        save_arrays(self._path(found.step, "safetensors"), arrays)
        # Written last: its presence says that the round is whole.
        record = {"job": found.job, "step": found.step, "figures": figures}
        write_json_atomic(self._path(found.step, "json"), record)


def read_rounds(folder: Path) -> list[tuple[int, dict, dict]]:
    """The rounds of a trajectory in order: (step, figures, arrays).

    Raises:
      UserError: a round that cannot be read.
    """
    found = []
    for path in sorted(Path(folder).glob("round-*.json")):
        try:
            record = json.loads(path.read_bytes())
            step, figures = int(record["step"]), dict(record["figures"])
        except (ValueError, KeyError, TypeError) as error:
            mend = "delete it and its .safetensors: the run makes the round again"
            raise UserError(str(path), "not a round of a trajectory", mend) from error
        found.append((step, figures, load_arrays(path.with_suffix(".safetensors"))))
    return found
