"""What all pages of the report share: how a template is filled, and nothing else.

A page loads nothing and runs nothing. Every value passes through Jinja's autoescape; only
drawn figures are trusted markup.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from cifr_jax.files import write_bytes_atomic
from cifr_jax.report import drawing, view, wording


def _shown(value: Any) -> Any:
    """What a template prints for `value`: a dash for a gap, no control characters."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return wording.MISSING
    return wording.clean(value) if isinstance(value, str) else value


def render(template: str, context: Mapping[str, Any]) -> str:
    """A page as text, in the colours of the figures; equal contexts give equal text."""
    shared = {"light": drawing.LIGHT, "dark": drawing.DARK}
    return environment().get_template(template).render({**context, **shared})


def write(text: str, path: str | os.PathLike[str]) -> None:
    """Writes a page to `path`, whole or not at all.

    Raises:
      UserError: the file system refused.
    """
    write_bytes_atomic(path, text.encode())


def run_facts(results: view.Results) -> dict[str, Any]:
    """What every page of a run tells of it: names, checks, environment, config."""
    base = results.get("base_model") or {}
    timings = results.get("timings") or {}
    passed, failed, total = view.leakage(results)
    return {
        "title": f"cifr_jax: {wording.clean(results.get('protocol') or 'report')}",
        "protocol": results.get("protocol"),
        "seed": results.get("seed"),
        "schema": results.get("schema"),
        "base_name": base.get("name"),
        "base_parameters": wording.number(base.get("parameters")),
        "passed": passed,
        "failed": failed,
        "total": total,
        "environment": list(wording.flattened(results.get("environment") or {})),
        "timings": [(key, wording.seconds(value)) for key, value in timings.items()],
        "total_time": sum(wording.number(t) or 0.0 for t in timings.values()),
        "config": list(wording.flattened(results.get("config") or {})),
    }


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
