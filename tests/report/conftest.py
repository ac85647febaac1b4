"""The made-up results dict as a fixture, fresh for each test."""

from pathlib import Path
from runpy import run_path

import pytest

_MAKE = run_path(str(Path(__file__).parent / "example_results.py"))["example_results"]


@pytest.fixture
def results():
    return _MAKE()
