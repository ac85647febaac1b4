"""JSON objects out of model folders, with errors that name file and line."""

import json
import reprlib
from pathlib import Path
from typing import Any

from cifr_jax.errors import UserError
from cifr_jax.models.text_file import read_text


def read_json(path: str | Path, missing_ok: bool = False) -> dict[str, Any]:
    """The JSON object in a file; `{}` for a missing one where that is allowed.

    Raises:
      UserError: no such file, too large, not UTF-8, not JSON (with the line), not an
        object, a name twice in one object.
    """
    path = Path(path)
    try:
        value = json.loads(read_text(path), object_pairs_hook=unique_names)
    except FileNotFoundError as e:
        if missing_ok:
            return {}
        raise UserError(str(path), "no such file", "give a whole model folder") from e
    except json.JSONDecodeError as e:
        raise UserError(f"{path}:{e.lineno}", f"not JSON ({e.msg})", "correct it") from e
    except RecursionError as e:
        raise UserError(str(path), "JSON nested too deeply", "correct it") from e
    except ValueError as e:  # also an integer of more digits than Python converts
        raise UserError(str(path), f"not usable JSON ({e})", "correct it") from e
    if not isinstance(value, dict):
        raise UserError(str(path), "not a JSON object", "correct it")
    return value


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; for `json.loads`, which keeps the last value of a name.

    Raises:
      ValueError: a name stands twice. Another reader may take another value.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{reprlib.repr(name)} stands twice")
        found[name] = value
    return found
