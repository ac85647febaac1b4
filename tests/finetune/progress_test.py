"""What a log is told: how far, how fast, how long still."""

import logging as std_logging

import pytest

from cifr_jax.finetune import progress
from cifr_jax.finetune.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def said(caplog):
    caplog.set_level(std_logging.INFO, "absl")
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_line_now_and_then_with_rate_and_time_left(clock, said):
    with Progress("phase1", total=10, every=20.0) as bar:
        for step, at in ((1, 110.0), (2, 121.0), (3, 130.0)):
            clock[0] = at
            bar.update(step, 210, 1.5)
        # 420 tokens in 21 s; two of ten steps in 21 s leave 84 s.
        assert said() == ["phase1: step 2 of 10, loss 1.500, 20 tokens/s, 84 s left"]


def test_the_last_step_is_always_told(clock, said):
    with Progress("phase1", total=2) as bar:
        for step in (1, 2):
            clock[0] += 1
            bar.update(step, 100, 0.25)
    assert said() == ["phase1: step 2 of 2, loss 0.250, 100 tokens/s, 0 s left"]


def test_what_an_earlier_run_did_makes_nothing_faster(clock, said):
    with Progress("phase1", total=100, start=90) as bar:
        clock[0] += 30
        bar.update(95, 60, 1.0)
    assert said() == ["phase1: step 95 of 100, loss 1.000, 2 tokens/s, 30 s left"]


def test_on_a_terminal_there_is_a_bar_and_no_log(clock, said, monkeypatch, capsys):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("phase1", total=4, start=1) as bar:
        for step in (2, 4):
            clock[0] += 1
            bar.update(step, 50, 0.5)
        assert bar._bar.n == 4
    assert said() == []
    assert "loss 0.500, 50 tokens/s" in capsys.readouterr().err
