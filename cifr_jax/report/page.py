"""What all pages of the report share: how a template is filled, and nothing else.

A page loads nothing and runs nothing. Every value passes through Jinja's autoescape; only
drawn figures are trusted markup.
"""

from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from cifr_jax.report import view, wording


def _shown(value: Any) -> Any:
    """What a template prints for `value`: a dash for a gap, no control characters."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return wording.MISSING
    return wording.clean(value) if isinstance(value, str) else value


def environment() -> jinja2.Environment:
    """The environment in which every page's template is filled."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "fixed": wording.fixed,
        "percent": wording.percent,
        "interval": wording.interval,
        "seconds": wording.seconds,
        "role": lambda role: view.ROLE_WORDS.get(role, role),
    }
    return made
