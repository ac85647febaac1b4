"""Configs: files that define `get_config()`, overrides from the command line, their faults.

A config is a locked `ml_collections.ConfigDict` whose leaves are int, float, bool, str or
tuples of those; what may be absent is `config_dict.placeholder(type)`. `None` and lists are
refused, as `config_flags` cannot override them. One parser serves the command line and
notebooks, and everything that a user can get wrong comes out as `UserError`.
"""

import difflib
import inspect
import math
import os
import re
import sys
import traceback
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from cifr_jax.errors import UserError

_SCALARS = (bool, int, float, str)
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _nodes(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key with its value, groups before what is in them."""
    for key in config.keys():
        try:
            value = config[key]
        except config_dict.RequiredValueError:
            mend = f"set it: --config.{prefix}{key}=..."
            raise UserError(f"config key {prefix}{key}", "has no value", mend) from None
        yield f"{prefix}{key}", value
        if isinstance(value, ConfigDict):
            yield from _nodes(value, f"{prefix}{key}.")


def leaves(config: ConfigDict, prefixes: Sequence[str] = ()) -> dict[str, Any]:
    """Dotted keys to values, sorted; only those at or below `prefixes`, if any are given.

    This is what an artefact's key is made of: a stage names the prefixes that it reads.
    """
    found = {key: v for key, v in _nodes(config) if not isinstance(v, ConfigDict)}
    if prefixes:
        inside = tuple(f"{prefix}." for prefix in prefixes)
        found = {k: v for k, v in found.items() if f"{k}.".startswith(inside)}
    return dict(sorted(found.items()))


def _leaf_fault(value: Any) -> tuple[str, str] | None:
    """What is wrong with a leaf and the mend, or None."""
    if isinstance(value, list):
        return "is a list, which no flag can override", "write a tuple"
    if isinstance(value, tuple):
        return next(filter(None, map(_leaf_fault, value)), None)
    if not isinstance(value, _SCALARS):
        kinds = "a number, a boolean, a string or a tuple of them"
        return f"is of type {type(value).__name__}", f"write {kinds}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"is {value}", "write a finite number"
    return None


def validate_leaves(config: ConfigDict, where: str = "config") -> None:
    """Raises `UserError` for the first leaf that is none of the kinds that may be."""
    for key, value in _nodes(config):
        if isinstance(value, ConfigDict):
            continue
        if value is None:
            holder, _, name = key.rpartition(".")
            group = config[holder] if holder else config
            if group.get_type(name) is not type(None):
                continue  # a placeholder: absent, but of a known type
            mend = "write config_dict.placeholder(type)"
            raise UserError(where, f"key {key} is None, which no flag can override", mend)
        fault = _leaf_fault(value)
        if key.rpartition(".")[2] == "seed" and isinstance(value, int) and value < 0:
            fault = f"is {value}", "write 0 or more: NumPy takes no other seed"
        if fault:
            raise UserError(where, f"key {key} {fault[0]}", fault[1])


def check_numbers(config: ConfigDict, at_least: Mapping[str, float]) -> None:
    """Refuses numbers before any work is done.

    Args:
      config: a task's.
      at_least: the least value of dotted keys; of a tuple, of each of its numbers.

    Raises:
      UserError: the first that is below.
    """
    for key, least in at_least.items():
        value = leaves(config, (key,))[key]
        for number in value if isinstance(value, tuple) else (value,):
            if not number >= least:  # nor NaN
                raise UserError(f"config.{key}", f"{number}", f"give {least:g} or more")


def did_you_mean(config: ConfigDict, key: str) -> str | None:
    """The dotted key of `config` that `key` was most likely meant to be, if any is near."""
    known = [name for name, _ in _nodes(config)]
    last = key.rpartition(".")[2]
    same_end = [name for name in known if name.rpartition(".")[2] == last]
    for names in (same_end, known):
        close = difflib.get_close_matches(key[:80], names, 1, 0.6)
        if close:
            return close[0]
    if same_end:  # the right name in quite another place
        return same_end[0]
    close = difflib.get_close_matches(last[:80], [n.rpartition(".")[2] for n in known], 1)
    return next((n for n in known if close and n.rpartition(".")[2] == close[0]), None)


def _check_override(config: ConfigDict, key: str) -> None:
    """Raises `UserError` unless `key` names a leaf.

    Before ml_collections sees it, which answers a key that is not there with a bare
    AttributeError or KeyError, and takes `--config.keys=1` for the method.
    """
    known = dict(_nodes(config))
    if key not in known:
        meant = did_you_mean(config, key)
        mend = f"did you mean {meant}?" if meant else f"known: {', '.join(config.keys())}"
        raise UserError("command line", f"unknown config key {key}", mend)
    if isinstance(known[key], ConfigDict):
        inside = ", ".join(f"{key}.{name}" for name in known[key])
        mend = f"set one of its keys: {inside}"
        raise UserError("command line", f"config key {key} is a group", mend)


def _execute(path: str, argument: str | None) -> ConfigDict:
    """What the `get_config` of a file returns. Raises `UserError` for whatever fails."""

    def failed(error: BaseException, mend: str) -> UserError:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == path]
        if isinstance(error, SyntaxError) and error.filename == path:
            lines, text = [error.lineno], error.msg
        else:
            text = str(error).strip().partition("\n")[0]
        where = f"{path}:{lines[-1]}" if lines and lines[-1] else path
        return UserError(where, f"{type(error).__name__}: {text}", mend)

    try:
        source = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        what = str(getattr(error, "strerror", None) or error).lower()
        raise UserError(path, what, "give the path of a config file") from error
    module = types.ModuleType("config_file")
    module.__file__ = path
    try:
        # No loader: its bytecode cache can miss an edit made within the same second.
        exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        raise failed(error, "correct the config file") from error
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
        raise UserError(path, "defines no get_config()", "define it")
    arguments = () if argument is None else (argument,)
    try:
        inspect.signature(get_config).bind(*arguments)
    except TypeError:
        if argument is None:
            mend = f"give it: {path}:ARGUMENT"
            raise UserError(path, "get_config needs an argument", mend) from None
        what = f"get_config takes no argument, but was given {argument!r}"
        raise UserError(path, what, "leave out what follows the colon") from None
    try:
        config = get_config(*arguments)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise failed(error, "correct the config file or its argument") from error
    frozen = isinstance(config, config_dict.FrozenConfigDict)
    if frozen or not isinstance(config, ConfigDict):
        what = f"get_config() returned {type(config).__name__}"
        raise UserError(path, what, "return an ml_collections.ConfigDict")
    validate_leaves(config, path)
    return config.lock()


class _ConfigFileParser(flags.ArgumentParser):
    """Loads the file that `--config` names, and checks the overrides against it."""

    def __init__(self, argv: Sequence[str] | None):
        self.argv = argv
        self.config: ConfigDict | None = None
        self.original: dict[str, Any] = {}  # the leaves as the file has them

    def parse(self, argument: str) -> ConfigDict:
        path, colon, rest = argument.partition(":")
        if os.path.exists(argument):
            path, colon = argument, ""
        self.config = _execute(path, rest if colon else None)
        self.original = leaves(self.config)
        argv = list(sys.argv if self.argv is None else self.argv)
        for word in flags.FLAGS.read_flags_from_files(argv, force_gnu=False)[1:]:
            found = re.match(r"--?(?:no)?config\.([^=]*)", word)
            if found:
                _check_override(self.config, found[1])
        return self.config


def _flag_fault(error: Exception, config: ConfigDict | None) -> UserError:
    """The one line for a fault that absl found in the command line."""
    text = " ".join(str(error).split())
    if isinstance(error, flags.UnrecognizedFlagError):
        name = error.flagname
        if name.startswith(("config.", "noconfig.")):
            key = name.partition(".")[2]
            if config is None:
                return UserError(
                    "command line", "--config is missing", "give --config FILE"
                )
            return UserError(
                "command line", f"--{name} is no flag", f"write --config.{key}="
            )
        close = difflib.get_close_matches(name, ["config", "workdir", "debug"], 1)
        mend = f"did you mean --{close[0]}?" if close else "see --help"
        return UserError("command line", f"unknown flag --{name}", mend)
    if missing := re.search(r"Flag --(\w+) must have a value", text):
        mend = f"give --{missing[1]} " + ("FILE" if missing[1] == "config" else "FOLDER")
        return UserError("command line", f"--{missing[1]} is missing", mend)
    wrong = re.match(r"flag --config\.([\w.]+)=(.*?): ", text)
    if wrong and config is not None and wrong[1] in leaves(config):
        holder, _, name = wrong[1].rpartition(".")
        kind = (config[holder] if holder else config).get_type(name)
        what = f"{wrong[2]!r} is not {_KINDS.get(kind, 'a ' + kind.__name__)}"
        value = leaves(config)[wrong[1]]
        mend = "write 1000, not 1e3" if kind is int else "correct it"
        if value is not None:
            mend += f" (the config file has {value!r})"
        return UserError(f"--config.{wrong[1]}", what, mend)
    return UserError("command line", text, "see --help")


def _check_tuples(config: ConfigDict, original: dict[str, Any]) -> None:
    """Refuses an override that changes what a tuple is made of; its parser takes any."""
    for key, value in leaves(config).items():
        old = original[key]
        if not isinstance(value, tuple) or not old or value == old:
            continue
        kinds = {type(item) for item in old}
        kinds |= {int} if float in kinds else set()
        if not {type(item) for item in value} <= kinds:
            what = f"{value!r} does not look like {old!r}, which the config file has"
            raise UserError(f"--config.{key}", what, "give values of the same type")


def define_config_flag(
    flag_values: flags.FlagValues, argv: Sequence[str] | None = None
) -> flags.FlagHolder:
    """Defines `--config FILE[:ARGUMENT]` with its overrides `--config.key=value`.

    Args:
      flag_values: where to define it.
      argv: the whole command line, program name first, in which overrides are looked for;
        by default `sys.argv` at the time of parsing.
    """
    holder = config_flags.DEFINE_config_file(
        "config",
        None,
        "Config file, FILE or FILE:ARGUMENT; --config.KEY=VALUE overrides a value of it.",
        flag_values,
        lock_config=True,
        sys_argv=None if argv is None else list(argv),
    )
    flag_values["config"].parser = _ConfigFileParser(argv)
    return holder


def parse_flags(flag_values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """Parses a command line with the flag that `define_config_flag` defined.

    Returns:
      What is left of it: the program name and positional arguments.

    Raises:
      UserError: an unknown flag or config key (with the likeliest one that was meant), a
        value of the wrong type, a missing flag, or a config file at fault.
    """
    parser: Any = flag_values["config"].parser
    try:
        left = flag_values(list(argv))
    except (flags.Error, ValueError, TypeError) as error:
        raise _flag_fault(error, parser.config) from error
    if parser.config is not None:
        validate_leaves(parser.config, "command line")
        _check_tuples(parser.config, parser.original)
    return left


def load_config(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), arg: str | None = None
) -> ConfigDict:
    """The config of a file, without a command line: for notebooks and tests.

    Args:
      path: file that defines `get_config()`.
      overrides: "a.b=3", parsed exactly as `--config.a.b=3` would be.
      arg: argument for `get_config`, on the command line written after a colon.

    Raises:
      UserError: as `parse_flags`.
    """
    source = os.fspath(path) + ("" if arg is None else f":{arg}")
    argv = ["load_config", f"--config={source}"]
    argv += ["--config." + item.removeprefix("--config.") for item in overrides]
    flag_values = flags.FlagValues()
    holder = define_config_flag(flag_values, argv)
    parse_flags(flag_values, argv)
    return holder.value
