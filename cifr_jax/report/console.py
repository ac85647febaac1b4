"""Anybody's text on a terminal: no markup, no control characters, in its encoding."""

import os
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from cifr_jax.report.wording import MISSING, clean, count


class Writer:
    """Writes values for one console."""

    def __init__(self, console: Console):
        self.console = console

    def __call__(self, value: Any, style: str = "") -> Text:
        encoding = self.console.encoding
        text = clean(value).replace(MISSING, "-")
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        return Text(text, style=style, overflow="fold")

    def leakage(self, failed: Sequence[str], total: int) -> None:
        """Prints which of a run's leakage checks failed, or that none did."""
        line, style = f"Leakage checks: all {count(total, 'check')} passed", ""
        if failed:
            line = f"Leakage checks: {len(failed)} of {total} FAILED: {', '.join(failed)}"
            style = "bold red"
        elif not total:
            line = "Leakage checks: none were run"
        self.console.print(self(line, style))

    def path(self, path: str | os.PathLike[str] | None) -> None:
        """Prints where the page lies, on one unbroken line, so that it can be copied."""
        if path is not None:
            self.console.print(self(f"Report: {os.fspath(path)}"), soft_wrap=True)
