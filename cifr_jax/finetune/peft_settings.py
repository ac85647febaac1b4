"""The settings of a PEFT LoRA adapter (`adapter_config.json`), in and out.

Which modules are adapted, at what rank and scale, follows the rules of PEFT 0.21
(`LoraConfig`, `check_target_module_exists`, `get_pattern_key`). A setting that is neither
implemented here nor known to leave the function alone is refused, unless it is off (null,
false, zero or empty). Modules are named as in transformers: `model.embed_tokens`,
`model.layers.0.self_attn.q_proj`, `lm_head`.
"""

import json
import math
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from cifr_jax.errors import UserError

_READ = (
    ("peft_type", "task_type", "r", "lora_alpha", "use_rslora", "bias", "init_lora_weights")
    + ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")
    + ("rank_pattern", "alpha_pattern")
)  # fmt: skip
# Origins, and what acts in training only, or only beside a setting that is refused here.
_HARMLESS = (
    ("auto_mapping", "base_model_name_or_path", "revision", "inference_mode")
    + ("lora_dropout", "peft_version", "eva_config", "megatron_core", "qalora_group_size")
)  # fmt: skip
_ALLOWED: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM", None),
    "bias": ("none", None),
    "use_rslora": (True, False, None),
    # The other ways to begin (pissa, olora, corda, loftq, ...) change the base as well.
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal", None),
    "layers_pattern": ("layers", ["layers"], [], "", None),
}
_GREATEST_RANK, _GREATEST_ALPHA = 2**31, 1e30
_PLAIN = re.compile(r"[\w.]*")
# A regular expression out of a stranger's file can run for years, and Python's have no time
# limit; a process has.
_SECONDS = 20
_MATCHER = """
import json, re, sys
patterns, names = json.load(sys.stdin)
json.dump([[bool(re.fullmatch(p, n)) for n in names] for p in patterns], sys.stdout)
"""


class Update(NamedTuple):
    """How one module is adapted: rank of its factors, and what their product is times."""

    rank: int
    scale: float


class _Reader:
    """Checks the values of one settings object."""

    def __init__(self, given: Mapping[str, Any], where: str):
        self.given, self.where = given, where

    def refuse(self, key: str, mend: str) -> NoReturn:
        value = json.dumps(self.given.get(key))
        value = value if len(value) <= 80 else f"{value[:77]}..."
        what = f"{key} is {value}" if key in self.given else f"no {key}"
        raise UserError(self.where, what, mend)

    def known(self) -> None:
        """Refuses what is not implemented."""
        for key, value in self.given.items():
            off = value in (None, False, "", [], {})
            if not off and key not in _READ + _HARMLESS:
                self.refuse(key, "not implemented: train without it, or merge it in PEFT")
        for key, allowed in _ALLOWED.items():
            if self.given.get(key) not in allowed:
                names = " ".join(json.dumps(value) for value in allowed if value)
                self.refuse(key, f"not implemented: only {names}")

    def rank(self, key: str, value: Any) -> int:
        if type(value) is not int or not 0 < value <= _GREATEST_RANK:
            self.refuse(key, "give a positive integer")
        return value

    def alpha(self, key: str, value: Any) -> float:
        if type(value) not in (int, float) or not abs(value) <= _GREATEST_ALPHA:
            self.refuse(key, "give a finite number")
        return value

    def modules(self, key: str) -> str | list[str]:
        value = self.given.get(key) or []
        names = value if isinstance(value, list) else [value]
        if not all(isinstance(name, str) for name in names):
            self.refuse(key, "give a list of names, or a regular expression")
        return value

    def blocks(self, n_layers: int) -> list[int] | None:
        key = "layers_to_transform"
        value = self.given.get(key)
        value = [value] if type(value) is int else value
        if not value:
            return None
        if not isinstance(value, list) or any(type(block) is not int for block in value):
            self.refuse(key, "give numbers of blocks")
        if not set(value) <= set(range(n_layers)):
            self.refuse(key, f"the base has blocks 0 to {n_layers - 1}")
        if isinstance(self.given.get("target_modules"), str):
            self.refuse(key, "give target_modules as a list with it, as PEFT asks")
        return value

    def matched(
        self, key: str, patterns: list[str], modules: list[str]
    ) -> list[list[bool]]:
        """Whether each regular expression fits each module's whole name."""
        try:
            run = subprocess.run(
                [sys.executable, "-I", "-S", "-c", _MATCHER],
                input=json.dumps([patterns, modules]),
                capture_output=True,
                text=True,
                timeout=_SECONDS,
            )
        except subprocess.TimeoutExpired:
            self.refuse(key, "takes too long to match: name the modules")
        if run.returncode:
            self.refuse(key, "not a regular expression: name the modules")
        return json.loads(run.stdout)

    def named(self, key: str, modules: list[str]) -> set[str]:
        """The modules that a setting names, in PEFT's two ways."""
        names = self.modules(key)
        if isinstance(names, str):
            (hits,) = self.matched(key, [names], modules)
            return {m for m, hit in zip(modules, hits, strict=True) if hit}
        return {m for m in modules for name in names if f".{m}".endswith(f".{name}")}

    def pattern(self, key: str, check, modules: list[str]) -> dict[str, Any]:
        """The value that a pattern gives each module that it fits; the first counts."""
        given = self.given.get(key) or {}
        if not isinstance(given, dict):
            self.refuse(key, "give an object of names and numbers")
        values = [check(key, value) for value in given.values()]
        if all(_PLAIN.fullmatch(name) for name in given):
            hits = [[_ends(module, name) for module in modules] for name in given]
        else:
            hits = self.matched(key, [rf"(.*\.)?({name})" for name in given], modules)
        found: dict[str, Any] = {}
        for value, row in zip(values, hits, strict=True):
            for module, hit in zip(modules, row, strict=True):
                if hit:
                    found.setdefault(module, value)
        return found


def _ends(module: str, name: str) -> bool:
    # PEFT takes the dots for any character; no two modules' names differ by that.
    return f".{module}".endswith(f".{name}")


def parse_settings(
    given: Mapping[str, Any], where: str, modules: Mapping[str, int | None]
) -> dict[str, Update]:
    """How an adapter changes each module.

    Args:
      given: the object in `adapter_config.json`.
      where: that file.
      modules: every module that can be adapted, with the number of its block.

    Returns:
      The adapted modules, in the order of `modules`; never empty.

    Raises:
      UserError: another method than LoRA, a setting that is not implemented (named with
        its value), a value that makes no sense, or targets that match nothing.
    """
    reader, names = _Reader(given, where), list(modules)
    reader.known()
    r = reader.rank("r", given.get("r"))
    lora_alpha = reader.alpha("lora_alpha", given.get("lora_alpha"))
    numbers = [block for block in modules.values() if block is not None]
    blocks = reader.blocks(max(numbers, default=-1) + 1)
    targets = reader.modules("target_modules")
    if isinstance(targets, str) and targets.lower() == "all-linear":
        targeted = {module for module, block in modules.items() if block is not None}
    else:
        targeted = reader.named("target_modules", names)
    targeted -= reader.named("exclude_modules", names)
    if blocks is not None:
        # As in PEFT, a name given in full holds whatever its block.
        targeted = {m for m in targeted if modules[m] in blocks or m in targets}
    if not targeted:
        reader.refuse("target_modules", f"nothing is adapted; known: {_summary(names)}")
    ranks = reader.pattern("rank_pattern", reader.rank, names)
    alphas = reader.pattern("alpha_pattern", reader.alpha, names)
    updates = {}
    for module in names:
        if module in targeted:
            rank = ranks.get(module, r)
            divisor = math.sqrt(rank) if given.get("use_rslora") else rank
            updates[module] = Update(rank, alphas.get(module, lora_alpha) / divisor)
    return updates


def _summary(modules: Sequence[str]) -> str:
    return " ".join(dict.fromkeys(module.rpartition(".")[2] for module in modules))


def format_settings(
    updates: Mapping[str, Update],
    modules: Mapping[str, int | None],
    alphas: Mapping[int, float],
    base_model_name: str,
) -> dict[str, Any]:
    """The object for `adapter_config.json`.

    Servers that know nothing of patterns (vLLM) read `r` and `lora_alpha` alone: `r` is the
    greatest rank, and alpha / r is the scale of every module.

    Args:
      updates: the adapted modules; ranks differ between kinds of modules only, scales not.
      modules: every module that can be adapted, with the number of its block.
      alphas: alpha for every rank.
      base_model_name: recorded.
    """
    ranks = {module.rpartition(".")[2]: update.rank for module, update in updates.items()}
    r = max(ranks.values())
    others = {name: rank for name, rank in ranks.items() if rank != r}
    all_blocks = {block for block in modules.values() if block is not None}
    blocks = {modules[module] for module in updates} - {None}
    some = blocks if blocks and blocks != all_blocks else None
    # Where blocks are named, PEFT takes modules outside them by their full names only.
    outside = {m.rpartition(".")[2]: m for m in updates if modules[m] is None and some}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model_name,
        "inference_mode": True,
        "r": r,
        "lora_alpha": alphas[r],
        "rank_pattern": others,
        "alpha_pattern": {name: alphas[rank] for name, rank in others.items()},
        "target_modules": [outside.get(name, name) for name in ranks],
        "layers_to_transform": None if some is None else sorted(some),
        "use_rslora": False,
        "use_dora": False,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "init_lora_weights": True,
    }
