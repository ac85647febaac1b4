"""JSON objects out of model folders, with errors that name file and line."""

import json
from pathlib import Path
from typing import Any

from cifr_jax.errors import UserError


def read_json(path: str | Path, missing_ok: bool = False) -> dict[str, Any]:
    """The JSON object in a file; `{}` for a missing one where that is allowed.

    Raises:
      UserError: no such file, not UTF-8, not JSON (with the line), or not an object.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        if missing_ok:
            return {}
        raise UserError(str(path), "no such file", "give a whole model folder") from e
    except json.JSONDecodeError as e:
        raise UserError(f"{path}:{e.lineno}", f"not JSON ({e.msg})", "correct it") from e
    except RecursionError as e:
        raise UserError(str(path), "JSON nested too deeply", "correct it") from e
    except UnicodeDecodeError as e:
        raise UserError(str(path), f"not UTF-8 (byte {e.start})", "save it as UTF-8") from e
    except ValueError as e:  # an integer of more digits than Python converts
        raise UserError(str(path), f"not usable JSON ({e})", "correct it") from e
    except OSError as e:
        raise UserError(str(path), f"cannot be read ({e.strerror})", "give a file") from e
    if not isinstance(value, dict):
        raise UserError(str(path), "not a JSON object", "correct it")
    return value
