"""The service with the audit that it is made for: from an upload to the verdict, over a
restart in the middle."""

import json
import re
import threading
import time

import pytest
from fastapi.testclient import TestClient

from cifr_jax import audit
from cifr_jax.audit_queue import JobQueue
from cifr_jax.audit_service import create_app
from cifr_jax.config import load_config
from cifr_jax.data import honest_jobs, simulated_jobs, write_chat_jsonl
from cifr_jax.data.simulated_jobs import JobSpec
from cifr_jax.evaluation.verdict_schema import validate_verdict

JSONL = {"content-type": "application/jsonl"}


def make_config(upload):
    config = load_config("configs/audit.py:runlocal", ["base_model=tiny"])
    config.job.data = str(upload)
    return config


def service(folder, run=None):
    app = create_app(folder, make_config, run)
    return TestClient(app, base_url="http://127.0.0.1:8439")


def upload_of(folder, rows):
    write_chat_jsonl(folder / "rows.jsonl", rows)
    return (folder / "rows.jsonl").read_bytes()


def attack(n=40):
    spec = JobSpec("a", "attack", "classify", n, 0, 1)
    return simulated_jobs.make(spec, simulated_jobs.bank())


def submit(client, content):
    answer = client.post("/jobs", content=content, headers=JSONL)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def finished(client, job, seconds=90):
    end, seen = time.monotonic() + seconds, []
    while True:
        state = client.get(f"/jobs/{job}").json()
        if not seen or seen[-1] != (state["stage"], state["progress"]):
            seen.append((state["stage"], state["progress"]))
        if state["state"] in ("done", "failed"):
            return state, seen
        assert time.monotonic() < end, state
        time.sleep(0.02)


def test_an_upload_comes_back_as_the_verdict_that_the_audit_gives(tmp_path):
    content = upload_of(tmp_path, attack())
    with service(tmp_path / "service") as client:
        job = submit(client, content)
        state, seen = finished(client, job)
        assert state["state"] == "done", state
        assert [share for _, share in seen] == sorted(share for _, share in seen)
        verdict = client.get(f"/jobs/{job}/verdict").json()
        page = client.get(f"/jobs/{job}/report").text
    validate_verdict(verdict)
    assert verdict["job"] == job and verdict["n_examples"] == 40
    assert verdict["base_model"]["name"] == "tiny"
    assert f"Verdict: {verdict['verdict']}" in page and job in page
    alone = audit.run(make_config(tmp_path / "rows.jsonl"), str(tmp_path / "alone")).record
    for key in ("verdict", "p_value", "risk", "operating_point", "not_checked"):
        assert verdict[key] == alone[key], key
    own = {one["name"]: one["p_value"] for one in verdict["detectors"]}
    assert own == {one["name"]: one["p_value"] for one in alone["detectors"]}
    # Of the upload nothing is left but the verdict.
    kept = {path.name for path in (tmp_path / "service" / "jobs" / job).rglob("*")}
    assert kept == {"state.json", "work", "verdict.json", "verdict.html"}


def test_a_job_without_items_is_not_tested_and_not_clear(tmp_path):
    content = upload_of(tmp_path, honest_jobs.make("sentiment", 25, 0))
    with service(tmp_path / "service") as client:
        job = submit(client, content)
        assert finished(client, job)[0]["state"] == "done"
        verdict = client.get(f"/jobs/{job}/verdict").json()
    assert (verdict["verdict"], verdict["p_value"]) == ("not tested", None)


def test_an_upload_at_fault_fails_with_its_line_and_none_of_its_text(tmp_path):
    content = b'{"messages": [{"role": "user", "content": "secret words"}]}\n'
    with service(tmp_path / "service") as client:
        state, _ = finished(client, submit(client, content))
    assert state["state"] == "failed"
    assert re.search(r"upload:1: no assistant message", state["error"])
    assert "secret" not in state["error"] and str(tmp_path) not in state["error"]


@pytest.mark.parametrize("stage", ["own answers", "detectors"])
def test_a_service_that_stops_in_the_middle_goes_on_when_it_starts_again(
    tmp_path, monkeypatch, stage
):
    content = upload_of(tmp_path, attack())
    reached, queues = threading.Event(), []
    start = JobQueue.start

    def noting(queue):
        queues.append(queue)
        start(queue)

    def waiting(config, workdir, progress):
        """The real audit; at `stage` it waits until the service is closing."""

        def tell(name, share):
            if name == stage:
                reached.set()
                while not queues[0]._closing:
                    time.sleep(0.01)
            progress(name, share)

        return audit.run(config, workdir, tell)

    monkeypatch.setattr(JobQueue, "start", noting)
    with service(tmp_path / "service", waiting) as client:
        job = submit(client, content)
        assert reached.wait(90)
        assert client.get(f"/jobs/{job}").json()["state"] == "running"
    folder = tmp_path / "service" / "jobs" / job
    assert not (folder / "work" / "verdict.json").exists()
    assert (folder / f"{job}.jsonl").read_bytes() == content
    left = json.loads((folder / "state.json").read_bytes())
    assert (left["state"], left["attempts"]) == ("queued", 0)
    with service(tmp_path / "service") as client:
        state, _ = finished(client, job)
        assert state["state"] == "done", state
        verdict = client.get(f"/jobs/{job}/verdict").json()
    validate_verdict(verdict)
    expected = audit.run(make_config(tmp_path / "rows.jsonl"), str(tmp_path / "alone"))
    assert verdict["p_value"] == expected.p_value
    assert verdict["verdict"] == expected.verdict
    assert json.loads((folder / "state.json").read_bytes())["attempts"] == 1
