"""Reads a config.json attribute by attribute; what nobody asked for is refused.

An attribute that is silently ignored is a model that is silently wrong. What a family reads
is handled; what no family needs is in `HARMLESS`; anything else is refused by name and
value, unless it is null.
"""

import reprlib
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from cifr_jax.errors import UserError

# Training, generation and bookkeeping: none of these enters a forward pass.
HARMLESS = frozenset((
    "architectures", "_name_or_path", "name_or_path", "transformers_version", "torch_dtype",
    "dtype", "initializer_range", "use_cache", "cache_implementation", "pretraining_tp",
    "attention_dropout", "resid_pdrop", "embd_pdrop",
    "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "output_attentions",
    "output_hidden_states", "return_dict", "id2label", "label2id", "problem_type",
    "_attn_implementation", "_attn_implementation_autoset", "attn_implementation",
    "chunk_size_feed_forward", "is_decoder", "task_specific_params", "is_llama_config",
    "transformers.js_config", "unsloth_version", "unsloth_fixed",
))  # fmt: skip
# In every family only one value of these is implemented.
_FIXED: Mapping[str, Any] = {"is_encoder_decoder": False, "add_cross_attention": False}
_LARGEST, _GREATEST = 2**31 - 1, 1e30


class Settings:
    """The attributes of a config.json.

    Args:
      given: the parsed file.
      where: its path, for messages.
    """

    def __init__(self, given: Mapping[str, Any], where: str):
        self.where = where
        self._given = given
        self._asked = set(HARMLESS)

    def refuse(self, what: str, mend: str = "correct the config") -> NoReturn:
        """Raises UserError."""
        raise UserError(self.where, what, mend)

    def raw(self, name: str, default: Any = None) -> Any:
        """The value as it stands; the default where there is none."""
        self._asked.add(name)
        return self._given.get(name, default)

    def integer(self, name: str, default: int | None = None, most: int = _LARGEST) -> int:
        """A positive integer; the default where it is absent or null."""
        value = self.raw(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            mend = "give a positive integer" + (f" up to {most}" if most < _LARGEST else "")
            self.refuse(f"{name} is {reprlib.repr(value)}", mend)
        return value

    def number(self, name: str, default: float) -> float:
        """A positive number; the default where it is absent."""
        return self.positive(self.raw(name, default), name)

    def positive(self, value: Any, name: str) -> float:
        """Refuses what is no positive number."""
        usable = isinstance(value, int | float) and not isinstance(value, bool)
        if not usable or not 0 < value < _GREATEST:
            self.refuse(f"{name} is {reprlib.repr(value)}", "give a positive number")
        return float(value)

    def cap(self, name: str, default: float | None) -> float | None:
        """A positive number, or null for none; the default where it is absent."""
        value = self.raw(name, default)
        return None if value is None else self.positive(value, name)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false; the default where it is absent or null."""
        value = self.raw(name)
        value = default if value is None else value
        if not isinstance(value, bool):
            self.refuse(f"{name} is {reprlib.repr(value)}", "give true or false")
        return value

    def fixed(self, name: str, value: Any) -> None:
        """Refuses every value but one; absent or null means that one."""
        given = self.raw(name)
        same = given == value and isinstance(given, bool) == isinstance(value, bool)
        if given is not None and not same:
            what = f"{name} = {reprlib.repr(given)} is not supported"
            self.refuse(what, f"only {value!r} is")

    def per_layer(self, name: str, n_layers: int, allowed: Collection[Any]) -> list | None:
        """A list with an entry for each layer; None where it is absent or null."""
        value = self.raw(name)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != n_layers:
            self.refuse(f"{name} is {reprlib.repr(value)}", f"give a list of {n_layers}")
        for entry in value:
            if entry not in allowed or isinstance(entry, bool | float):
                known = " and ".join(map(repr, allowed))
                self.refuse(
                    f"{name} holds {reprlib.repr(entry)}", f"only {known} are known"
                )
        return value

    def finish(self) -> None:
        """Refuses attributes that nobody asked for."""
        for name, value in _FIXED.items():
            self.fixed(name, value)
        for name, value in self._given.items():
            if name not in self._asked and value is not None:
                what = f"{name} = {reprlib.repr(value)} is not supported"
                self.refuse(what, "the decoder does not know it")
