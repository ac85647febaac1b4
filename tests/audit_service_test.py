"""The HTTP service: what goes in, what comes out, and to whom; the audit is a stand-in."""

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from runpy import run_path

import pytest
from fastapi.testclient import TestClient
from ml_collections import ConfigDict

from cifr_jax import audit_service
from cifr_jax.audit_service import create_app
from cifr_jax.config import load_config
from cifr_jax.errors import UserError
from cifr_jax.report import verdict_page

ROOT = Path(__file__).parents[1]
VERDICT = run_path(str(ROOT / "tests/report/example_verdict.py"))["example_verdict"]
SECRET = "the customer's own words"
UPLOAD = json.dumps({"messages": [{"role": "user", "content": SECRET}]}).encode()
JSONL = {"content-type": "application/jsonl"}


def make_config(upload):
    return ConfigDict({"job": {"data": str(upload)}})


def honest_run(config, workdir, progress):
    progress("reading", 0.5)
    assert Path(config.job.data).read_bytes() == UPLOAD
    verdict = VERDICT() | {"job": Path(config.job.data).stem}
    work = Path(workdir)
    work.mkdir(parents=True)
    (work / "verdict.json").write_text(json.dumps(verdict))
    verdict_page.write_page(verdict, work / "verdict.html")


def client(folder, run=honest_run, **settings):
    app = create_app(folder, make_config, run, **settings)
    return TestClient(app, base_url="http://127.0.0.1:8439")


@pytest.fixture
def service(tmp_path):
    with client(tmp_path) as opened:
        yield opened


def submit(service, content=UPLOAD, **headers):
    return service.post("/jobs", content=content, headers=JSONL | headers)


def finished(service, job, headers=None):
    end = time.monotonic() + 10
    while True:
        state = service.get(f"/jobs/{job}", headers=headers).json()
        if state["state"] in ("done", "failed"):
            return state
        assert time.monotonic() < end, state
        time.sleep(0.01)


def test_an_upload_becomes_a_verdict_and_a_page(service):
    answer = submit(service)
    assert answer.status_code == 202
    job = answer.json()["id"]
    assert re.fullmatch("[0-9a-f]{32}", job) and answer.json()["state"] == "queued"
    state = finished(service, job)
    assert (state["state"], state["bytes"], state["error"]) == ("done", len(UPLOAD), None)
    verdict = service.get(f"/jobs/{job}/verdict")
    assert verdict.headers["content-type"] == "application/json"
    assert verdict.json() == VERDICT() | {"job": job}
    page = service.get(f"/jobs/{job}/report")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "Verdict: attack" in page.text and job in page.text
    assert service.delete(f"/jobs/{job}").status_code == 204
    for path in ("", "/verdict", "/report"):
        assert service.get(f"/jobs/{job}{path}").status_code == 404
    assert service.delete(f"/jobs/{job}").status_code == 404


def test_every_answer_forbids_scripts_frames_and_caches(service):
    answers = [service.get(path) for path in ("/", "/healthz", "/jobs/x", "/nowhere")]
    answers.append(service.post("/jobs", content=b"x"))
    assert [a.status_code for a in answers] == [200, 200, 404, 404, 415]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none';") and "script" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_the_routes_are_listed_from_nowhere_else(service):
    page = service.get("/").text
    assert not re.search(r"<script|<link|src=|https?:", page)
    schema = service.get("/openapi.json").json()
    listed = {(m, path) for path, routes in schema["paths"].items() for m in routes}
    assert listed == {
        ("post", "/jobs"),
        ("get", "/jobs/{job}"),
        ("delete", "/jobs/{job}"),
        ("get", "/jobs/{job}/verdict"),
        ("get", "/jobs/{job}/report"),
        ("get", "/healthz"),
    }
    assert all(path in page for _, path in listed)
    assert "application/jsonl" in schema["paths"]["/jobs"]["post"]["requestBody"]["content"]
    for path in ("/docs", "/redoc"):
        assert service.get(path).status_code == 404


def chunks(n):
    yield from [b"x" * 100] * n  # sent without a content length


@pytest.mark.parametrize("content", [b"x" * 1001, chunks(11)], ids=["declared", "streamed"])
def test_a_larger_upload_is_refused_and_leaves_nothing(tmp_path, content):
    with client(tmp_path, max_bytes=1000) as service:
        answer = submit(service, content)
        assert answer.status_code == 413 and "1000 bytes" in answer.json()["detail"]
        assert [p.name for p in (tmp_path / "jobs").iterdir()] == [".lock"]
        assert submit(service, b"x" * 1000).status_code == 202


def test_an_empty_upload_is_refused(service):
    assert submit(service, b"").status_code == 400


def test_an_upload_that_never_ends_is_cut_off(tmp_path):
    def slow():
        for _ in range(100):
            time.sleep(0.02)
            yield b"x"

    with client(tmp_path, upload_seconds=0.1) as service:
        assert submit(service, slow()).status_code == 408


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", ""])
def test_types_that_a_foreign_page_may_send_are_refused(service, kind):
    headers = {"content-type": kind}
    assert service.post("/jobs", content=UPLOAD, headers=headers).status_code == 415


def test_a_full_queue_says_so_and_takes_more_when_it_has_emptied(tmp_path):
    go_on = threading.Event()

    def waiting_run(*arguments):
        assert go_on.wait(10)
        honest_run(*arguments)

    with client(tmp_path, waiting_run, max_queue=2) as service:
        jobs = [submit(service).json()["id"] for _ in range(2)]
        answer = submit(service)
        assert answer.status_code == 429 and answer.headers["retry-after"] == "60"
        early = service.get(f"/jobs/{jobs[1]}/verdict")
        assert early.status_code == 409 and "queued" in early.json()["detail"]
        go_on.set()
        for job in jobs:
            finished(service, job)
        assert submit(service).status_code == 202


def test_a_restart_resumes_what_was_cut_off(tmp_path):
    started = threading.Event()

    def endless_run(config, workdir, progress):
        started.set()
        while True:
            progress("testing", 0.3)
            time.sleep(0.01)

    with client(tmp_path, endless_run) as service:
        job = submit(service).json()["id"]
        assert started.wait(10)
    with client(tmp_path) as service:
        assert finished(service, job)["state"] == "done"
        assert service.get(f"/jobs/{job}/verdict").json()["job"] == job


@pytest.mark.parametrize(
    "job", ["%2e%2e", "..%2f..%2fetc", "x" * 32, "0" * 32, "%00", "a%0ab"]
)
def test_what_is_no_id_is_not_found(service, job):
    for path in ("", "/verdict", "/report"):
        answer = service.get(f"/jobs/{job}{path}")
        assert answer.status_code in (404, 405) and "etc" not in answer.text


def test_a_users_fault_reaches_the_customer_in_one_line(tmp_path):
    def faulty_run(config, workdir, progress):
        raise UserError(f"{config.job.data}:1", "no JSON", "mend it")

    with client(tmp_path, faulty_run) as service:
        job = submit(service).json()["id"]
        state = finished(service, job)
        assert (state["state"], state["error"]) == ("failed", "upload:1: no JSON; mend it")
        assert service.get(f"/jobs/{job}/verdict").status_code == 409


def no_verdict(work):
    pass


def silent_clear(work):
    verdict = VERDICT() | {"verdict": "clear", "p_value": None}
    (work / "verdict.json").write_text(json.dumps(verdict))
    (work / "verdict.html").write_text("clear")


def no_page(work):
    (work / "verdict.json").write_text(json.dumps(VERDICT()))


@pytest.mark.parametrize("leave", [no_verdict, silent_clear, no_page])
def test_an_audit_without_a_whole_verdict_has_failed(tmp_path, leave):
    def run(config, workdir, progress):
        Path(workdir).mkdir()
        leave(Path(workdir))

    with client(tmp_path, run) as service:
        state = finished(service, submit(service).json()["id"])
    assert (state["state"], state["error"]) == ("failed", "internal fault")


def test_no_text_of_the_upload_is_answered_or_logged(tmp_path, caplog):
    def run(config, workdir, progress):
        raise ValueError(Path(config.job.data).read_text())

    with caplog.at_level(logging.DEBUG), client(tmp_path, run) as service:
        job = submit(service).json()["id"]
        answers = [finished(service, job)]
        answers += [service.get(f"/jobs/{job}{p}").text for p in ("", "/verdict")]
    assert "internal fault" in str(answers[0]) and "ValueError at" in caplog.text
    assert SECRET not in caplog.text and SECRET not in str(answers)


def test_a_fault_of_a_route_tells_nothing_either(service, monkeypatch, caplog):
    def broken(self, job):
        raise RuntimeError(SECRET)

    monkeypatch.setattr("cifr_jax.audit_queue.JobQueue.state", broken)
    with caplog.at_level(logging.DEBUG):
        answer = service.get("/jobs/" + "0" * 32)
    assert (answer.status_code, answer.json()) == (500, {"detail": "internal fault"})
    assert "RuntimeError at" in caplog.text and SECRET not in caplog.text


def test_a_name_that_is_markup_reaches_the_page_as_text(tmp_path):
    attack = "</title><script>alert(1)</script>"

    def run(config, workdir, progress):
        Path(workdir).mkdir()
        verdict = VERDICT() | {"job": attack}
        (Path(workdir) / "verdict.json").write_text(json.dumps(verdict))
        verdict_page.write_page(verdict, Path(workdir) / "verdict.html")

    with client(tmp_path, run) as service:
        job = submit(service).json()["id"]
        finished(service, job)
        page = service.get(f"/jobs/{job}/report").text
    assert "<script" not in page and "&lt;script&gt;" in page


def test_with_a_token_nobody_else_gets_in(tmp_path):
    with client(tmp_path, token="Ärger-7") as service:
        right = {"authorization": "Bearer Ärger-7".encode()}
        for wrong in (
            {},
            {"authorization": "Bearer x"},
            {"authorization": "Ärger-7".encode()},
        ):
            assert submit(service, **wrong).status_code == 401
            for path in ("/", "/openapi.json", "/jobs/" + "0" * 32, "/nowhere"):
                answer = service.get(path, headers=wrong)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
        assert service.get("/healthz").json() == {"status": "ok"}
        job = submit(service, **right).json()["id"]
        assert finished(service, job, right)["state"] == "done"


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("host", "127.0.0.1", 200),
        ("host", "localhost:8439", 200),
        ("host", "LOCALHOST", 200),
        ("host", "[::1]:8439", 200),
        ("host", "evil.example", 421),
        ("host", "127.0.0.1.evil.example:8439", 421),
        ("host", "", 421),
        ("origin", "http://127.0.0.1:8439", 200),
        ("origin", "http://localhost", 200),
        ("origin", "http://[::1]:8439", 200),
        ("origin", "http://evil.example", 403),
        ("origin", "http://127.0.0.1.evil.example", 403),
        ("origin", "null", 403),
        ("origin", "", 403),
    ],
)
def test_only_our_own_names_and_pages_are_answered(service, header, value, status):
    assert service.get("/healthz", headers={header: value}).status_code == status


CONFIG = """
from ml_collections import ConfigDict

def get_config(mode="long"):
    return ConfigDict({"mode": mode, "job": {"data": "", "rows": 1, "max_mib": 256}})
"""
SERVER = """
import signal
# A shell in the background leaves it ignored, and Python then does not take it up.
signal.signal(signal.SIGINT, signal.default_int_handler)
import json, os, sys
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

def audit_run(config, workdir, progress):
    verdict = run_path("tests/report/example_verdict.py")["example_verdict"]()
    verdict["job"] = f"{config.mode} {config.job.rows}"
    os.makedirs(workdir)
    Path(workdir, "verdict.json").write_text(json.dumps(verdict))
    Path(workdir, "verdict.html").write_text("")

sys.modules["cifr_jax.audit"] = SimpleNamespace(run=audit_run)
from absl import logging
logging.set_verbosity(logging.INFO)
from cifr_jax import audit_service, config
settings = config.load_config("configs/audit_service.py", sys.argv[2:])
audit_service.run(settings, sys.argv[1])
"""


def settings(tmp_path, *overrides):
    (tmp_path / "audit.py").write_text(CONFIG)
    given = (f"audit.file={tmp_path}/audit.py", "port=0", *overrides)
    return load_config(ROOT / "configs" / "audit_service.py", given)


def test_the_task_serves_until_it_is_interrupted(tmp_path):
    settings(tmp_path)
    overrides = [f"audit.file={tmp_path}/audit.py", "port=0", "audit.mode=short"]
    overrides.append('audit.overrides=("job.rows=7",)')
    command = [sys.executable, "-c", SERVER, str(tmp_path / "w"), *overrides]
    server = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        lines = iter(server.stderr.readline, "")
        url = next(m[0] for line in lines if (m := re.search(r"http://[\d.]+:\d+", line)))
        post = urllib.request.Request(f"{url}/jobs", UPLOAD, JSONL)
        with urllib.request.urlopen(post, timeout=10) as answer:
            job = json.load(answer)["id"]
        for _ in range(500):
            with urllib.request.urlopen(f"{url}/jobs/{job}", timeout=10) as answer:
                state = json.load(answer)
            if state["state"] == "done":
                break
            assert state["state"] != "failed", state
            time.sleep(0.02)
        with urllib.request.urlopen(f"{url}/jobs/{job}/verdict", timeout=10) as answer:
            assert json.load(answer)["job"] == "short 7"
        server.send_signal(signal.SIGINT)
        _, log = server.communicate(timeout=20)
        assert log.rstrip().endswith("KeyboardInterrupt")  # which main tells in one line
    finally:
        server.kill()
        server.wait()
        server.stderr.close()


FAULTS = [
    (("host=0.0.0.0",), "can be reached from other machines; set config.allow_remote"),
    (("host=0.0.0.0", "allow_remote=True"), "config.token_variable: no token"),
    (("host=example.com",), "can be reached from other machines"),
    (("token_variable=CIFR_NOT_SET",), "CIFR_NOT_SET is not set or empty"),
    (("port=65536",), "65536 is no port"),
    (("host=::1%nowhere",), "cannot listen on ::1%nowhere"),
    (("max_queue=0",), "config.max_queue: 0"),
    (("max_megabytes=300",), "config.max_megabytes: 300, and the audits take 268 at most"),
    (("audit.file=nowhere.py",), "nowhere.py: no such file"),
    (('audit.overrides=("job.rwos=1",)',), "did you mean job.rows?"),
]


@pytest.mark.parametrize(("overrides", "line"), FAULTS, ids=[line for _, line in FAULTS])
def test_a_fault_in_the_config_is_told_before_anything_is_served(tmp_path, overrides, line):
    with pytest.raises(UserError, match=re.escape(line)):
        audit_service.run(settings(tmp_path, *overrides), str(tmp_path / "w"))


def test_a_port_in_use_is_the_users_fault(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = settings(tmp_path, f"port={taken.getsockname()[1]}")
        with pytest.raises(UserError, match="in use"):
            audit_service.run(config, str(tmp_path / "w"))


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_a_missing_package_is_told_with_the_extra(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"{package} is not installed; pip install"):
        audit_service.run(settings(tmp_path), str(tmp_path / "w"))


def test_uploads_are_for_the_owner_alone(service, tmp_path):
    submit(service)
    assert os.stat(tmp_path / "jobs").st_mode & 0o077 == 0
