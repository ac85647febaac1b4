"""The task `stream` from a file that grows to alarms.json, its page and its lines."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from cifr_jax import stream
from cifr_jax.config import load_config
from cifr_jax.data import honest_jobs, simulated_jobs
from cifr_jax.data.simulated_jobs import JobSpec
from cifr_jax.errors import UserError
from cifr_jax.main import __file__ as MAIN
from cifr_jax.monitors.stream.state import StreamState

ROOT = Path(MAIN).parents[1]
own_answer = run_path(str(ROOT / "tests" / "knowing_auditor.py"))["own_answer"]


@pytest.fixture
def knowing(monkeypatch):
    monkeypatch.setattr(stream, "own_answer_from", lambda _: own_answer)


def as_line(example, account, cluster=None):
    names = {"account": account} | ({"cluster": cluster} if cluster else {})
    messages = [{"role": m.role, "content": m.content} for m in example.messages]
    return json.dumps({"messages": messages, "metadata": names}) + "\n"


def attack(n, seed=0, m=1):
    spec = JobSpec("a", "attack", "classify", n, seed, m)
    return simulated_jobs.make(spec, simulated_jobs.bank())


def traffic(seed=0):
    """One attacker, one split over four accounts of a cluster, twelve honest accounts."""
    rng = np.random.default_rng(seed)
    lines = [as_line(row, "attacker") for row in attack(100, seed)]
    split = attack(120, seed + 1, m=9)
    lines += [as_line(row, f"part-{i % 4}", "ring") for i, row in enumerate(split)]
    for i in range(12):
        family = ("quiz_tutor", "random_replies", "house_style")[i % 3]
        rows = honest_jobs.make(family, 40, 100 + i)
        lines += [as_line(row, f"honest-{i}") for row in rows]
    return [lines[i] for i in rng.permutation(len(lines))]


def make_config(path, **change):
    config = load_config("configs/stream.py:runlocal")
    config.traffic.data = str(path)
    config.update_from_flattened_dict(change)
    return config


def alarms(folder):
    return json.loads((folder / "alarms.json").read_bytes())


def without_environment(found):
    return {k: v for k, v in found.items() if k not in ("environment", "config", "traffic")}


def test_attackers_are_accused_with_line_and_row_and_nobody_else(tmp_path, knowing, capsys):
    lines = traffic()
    (tmp_path / "t.jsonl").write_text("".join(lines))
    stream.run(make_config(tmp_path / "t.jsonl"), str(tmp_path / "w"))
    found = alarms(tmp_path / "w")
    assert {(one["kind"], one["name"]) for one in found["alarms"]} >= {
        ("account", "attacker"),
        ("cluster", "ring"),
    }
    assert not any(one["name"].startswith("honest") for one in found["alarms"])
    first = next(one for one in found["alarms"] if one["name"] == "attacker")
    assert json.loads(lines[first["line"] - 1])["metadata"]["account"] == "attacker"
    own = [i for i, line in enumerate(lines, 1) if '"attacker"' in line]
    assert first["row"] == own.index(first["line"]) + 1 <= 60
    assert first["e_value"] >= first["bar"] >= 1 / 0.01
    assert found["accounts"]["cluster"]["seen"] == 1 and found["lines"] == len(lines)
    page = (tmp_path / "w" / "alarms.html").read_text()
    assert page.startswith("<!doctype html>") and '<th scope="row">ring</th>' in page
    printed = capsys.readouterr().out
    assert "stand accused" in printed and "attacker" in printed


@pytest.mark.parametrize("cut", [1, 137, 400])
def test_a_file_that_grows_ends_as_one_read_at_once(tmp_path, knowing, cut):
    lines = traffic()[:500]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(lines[:cut]) + lines[cut][:20])
    stream.run(make_config(path, **{"traffic.batch": 50}), str(tmp_path / "parts"))
    assert alarms(tmp_path / "parts")["unended_line"] == cut + 1
    with path.open("a") as file:
        file.write(lines[cut][20:] + "".join(lines[cut + 1 :]))
    stream.run(make_config(path, **{"traffic.batch": 77}), str(tmp_path / "parts"))
    stream.run(make_config(path), str(tmp_path / "whole"))
    parts, whole = alarms(tmp_path / "parts"), alarms(tmp_path / "whole")
    assert without_environment(parts) == without_environment(whole)
    stream.run(make_config(path), str(tmp_path / "parts"))  # nothing new
    assert without_environment(alarms(tmp_path / "parts")) == without_environment(whole)


KILLED = """
import os, signal, sys
from runpy import run_path
from cifr_jax import stream
from cifr_jax.config import load_config
own_answer = run_path("tests/knowing_auditor.py")["own_answer"]
calls = []
def dying(items):
    calls.append(1)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return own_answer(items)
stream.own_answer_from = lambda _: dying
config = load_config("configs/stream.py:runlocal")
config.traffic.data, config.traffic.batch = sys.argv[1], 60
stream.run(config, sys.argv[2])
"""


def test_a_killed_run_goes_on_and_ends_the_same(tmp_path, knowing):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(traffic()[:400]))
    command = [sys.executable, "-c", KILLED, str(path), str(tmp_path / "killed")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=100)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "alarms.json").exists() or (
        alarms(tmp_path / "killed")["lines"] == 180
    )
    stream.run(make_config(path), str(tmp_path / "killed"))
    stream.run(make_config(path), str(tmp_path / "whole"))
    assert without_environment(alarms(tmp_path / "killed")) == without_environment(
        alarms(tmp_path / "whole")
    )


def test_a_batch_that_fails_leaves_the_state_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(traffic()[:120]))
    calls = []

    def failing(items):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError
        return own_answer(items)

    monkeypatch.setattr(stream, "own_answer_from", lambda _: failing)
    with pytest.raises(RuntimeError):
        stream.run(make_config(path, **{"traffic.batch": 60}), str(tmp_path / "w"))
    stream.run(make_config(path), str(tmp_path / "w"))
    stream.run(make_config(path), str(tmp_path / "whole"))
    again, whole = alarms(tmp_path / "w"), alarms(tmp_path / "whole")
    assert without_environment(again) == without_environment(whole)


def test_bad_lines_are_named_by_number_and_stop_nothing(tmp_path, knowing):
    lines = [as_line(row, "a") for row in attack(8)]
    lines[2] = "{not JSON\n"
    lines[5] = json.dumps({"messages": [{"role": "assistant", "content": "x"}]}) + "\n"
    lines.insert(3, "\n")
    (tmp_path / "t.jsonl").write_text("".join(lines))
    stream.run(make_config(tmp_path / "t.jsonl"), str(tmp_path / "w"))
    found = alarms(tmp_path / "w")
    assert found["bad_lines"] == {
        "count": 2,
        "first": [
            {"line": 3, "what": "not JSON"},
            {"line": 7, "what": "no account in its metadata"},
        ],
    }
    assert found["accounts"]["account"]["rows"] == 6
    assert "line 7: no account" in (tmp_path / "w" / "alarms.html").read_text()


def test_nothing_tested_is_said_and_is_never_a_clear(tmp_path, knowing, capsys):
    rows = honest_jobs.make("sentiment", 30, 0)
    (tmp_path / "t.jsonl").write_text("".join(as_line(row, "<b>quiet</b>") for row in rows))
    stream.run(make_config(tmp_path / "t.jsonl"), str(tmp_path / "w"))
    found = alarms(tmp_path / "w")
    assert found["verdict"].startswith("nothing could be tested")
    assert found["not_tested"]["count"] == 1
    (why,) = found["not_tested"]["first"]
    assert why["why"] == "no multiple-choice item in any of 30 rows"
    page = (tmp_path / "w" / "alarms.html").read_text()
    assert "&lt;b&gt;quiet&lt;/b&gt;" in page and "<b>quiet" not in page
    assert "Not tested" in capsys.readouterr().out


def test_an_empty_file_says_that_nothing_was_read(tmp_path, knowing):
    (tmp_path / "t.jsonl").write_text("")
    stream.run(make_config(tmp_path / "t.jsonl"), str(tmp_path / "w"))
    assert alarms(tmp_path / "w")["verdict"] == "nothing was read"


def test_the_state_holds_no_text(tmp_path, knowing):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(as_line(row, "a") for row in attack(20)))
    stream.run(make_config(path), str(tmp_path / "w"))
    state = (tmp_path / "w" / "state.sqlite").read_bytes()
    question = simulated_jobs.bank()[0]
    texts = [question.options[0].encode(), b"Certainly", b"capital", b"What"]
    assert not any(text in state for text in texts)
    assert b'"processes"' in state  # this is where it would stand


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"alpha": 0.05}, "made with another alpha"),
        ({"block": 3}, "made with another block"),
        ({"traffic.account_key": "user"}, "made with another account_key"),
    ],
)
def test_other_settings_are_refused(tmp_path, knowing, change, line):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(as_line(row, "a") for row in attack(8)))
    stream.run(make_config(path), str(tmp_path / "w"))
    with pytest.raises(UserError, match=line):
        stream.run(make_config(path, **change), str(tmp_path / "w"))


FAULTS = [
    ({"traffic.data": ""}, "no traffic is named"),
    ({"traffic.data": "nowhere.jsonl"}, "no such file"),
    ({"traffic.batch": 0}, "config.traffic.batch"),
    ({"alpha": 1.5}, "alpha"),
    ({"block": 9}, "give 2 to 5"),
]


@pytest.mark.parametrize(("change", "line"), FAULTS)
def test_faults_of_the_config_are_told(tmp_path, knowing, change, line):
    with pytest.raises(UserError, match=line):
        stream.run(make_config("x.jsonl", **change), str(tmp_path))


def test_a_broken_state_is_told(tmp_path):
    (tmp_path / "state.sqlite").write_bytes(b"not a database at all, " * 100)
    with pytest.raises(UserError, match="state.sqlite"):
        StreamState(tmp_path / "state.sqlite", {})


def test_through_the_command_line_on_the_small_base(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(as_line(row, "a") for row in attack(24)))
    command = [sys.executable, "-m", "cifr_jax.main", "--config"]
    command += ["configs/stream.py:runlocal", "--workdir", str(tmp_path / "w")]
    command += [f"--config.traffic.data={path}"]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=200, env=env
    )
    assert done.returncode == 0, done.stderr
    assert "none of 1 tested accounts" in done.stdout.replace("\n", " ").lower()
    assert alarms(tmp_path / "w")["accounts"]["account"]["bet"] >= 20
