"""The queue on disk: order, restarts, deletion, faults that tell nothing of the upload."""

import json
import logging
import threading
import time

import pytest

from cifr_jax.audit_queue import (
    INTERNAL_FAULT,
    MOST_ATTEMPTS,
    JobQueue,
    QueueFullError,
    UnknownJobError,
)
from cifr_jax.errors import UserError

SECRET = b"the customer's own words"


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.005)


def finish(upload, work, progress):
    """A stand-in for the audit: leaves both results and an artefact."""
    progress("reading", 0.0)
    (work / "artefacts").mkdir(parents=True)
    (work / "artefacts" / "rows").write_bytes(upload.read_bytes())
    (work / "copy.txt").write_bytes(upload.read_bytes())
    for name in ("verdict.json", "verdict.html"):
        (work / name).write_text("{}")


@pytest.fixture
def open_queue(tmp_path):
    opened = []

    def make(audit=finish, start=True, **settings):
        queue = JobQueue(tmp_path, audit, **{"max_queue": 8, **settings})
        opened.append(queue)
        if start:
            queue.start()
        return queue

    yield make
    for queue in opened:
        if queue._thread.is_alive():
            queue.close()


def submit(queue, content=SECRET):
    with queue.arrival() as arrival:
        arrival.upload.write_bytes(content)
        return queue.add(arrival).id


def files(queue):
    found = {path.name for path in queue.folder.rglob("*") if path.is_file()}
    return found - {".lock"}


def is_(queue, job, state):
    return lambda: queue.state(job).state == state


def test_jobs_run_in_the_order_of_their_arrival(open_queue):
    order = []
    queue = open_queue(lambda upload, *_: order.append(upload.stem), start=False)
    jobs = [submit(queue) for _ in range(5)]
    assert [queue.state(job).state for job in jobs] == ["queued"] * 5
    queue.start()
    until(is_(queue, jobs[-1], "done"))
    assert order == jobs


def test_after_the_verdict_only_the_verdict_is_left(open_queue):
    queue = open_queue()
    job = submit(queue)
    until(is_(queue, job, "done"))
    until(lambda: files(queue) == {"state.json", "verdict.json", "verdict.html"})
    state = queue.state(job)
    assert (state.progress, state.error, state.bytes) == (1.0, None, len(SECRET))
    assert state.finished >= state.created


def test_files_are_kept_when_asked_for(open_queue):
    queue = open_queue(keep_files=True)
    job = submit(queue)
    until(is_(queue, job, "done"))
    assert (queue.folder / job / f"{job}.jsonl").read_bytes() == SECRET
    assert (queue.folder / job / "work" / "artefacts" / "rows").exists()


def test_progress_is_on_disk_while_a_job_runs(open_queue):
    reported, go_on = threading.Event(), threading.Event()

    def audit(upload, work, progress):
        progress("reading", 0.25)
        progress("reading", 0.5)  # too soon to be worth a write
        progress("testing", 7.0)
        reported.set()
        assert go_on.wait(10)

    queue = open_queue(audit)
    job = submit(queue)
    assert reported.wait(10)
    state = json.loads((queue.folder / job / "state.json").read_text())
    assert (state["state"], state["stage"], state["progress"]) == ("running", "testing", 1)
    go_on.set()
    until(is_(queue, job, "done"))


def test_a_users_fault_is_told_in_one_line_without_our_folders(open_queue, tmp_path):
    def audit(upload, work, progress):
        raise UserError(f"{upload}:3", f"no JSON, see {work}", "mend it")

    queue = open_queue(audit)
    job = submit(queue)
    until(is_(queue, job, "failed"))
    assert queue.state(job).error == "upload:3: no JSON, see workdir; mend it"
    until(lambda: files(queue) == {"state.json"})


@pytest.mark.parametrize("kind", [ValueError, MemoryError, SystemExit, KeyboardInterrupt])
def test_other_faults_tell_nothing_and_the_next_job_runs(open_queue, caplog, kind):
    faults = [kind(SECRET.decode())]

    def audit(upload, work, progress):
        if faults:
            raise faults.pop()

    with caplog.at_level(logging.INFO, logger="absl"):
        queue = open_queue(audit, start=False)
        first, second = submit(queue), submit(queue)
        queue.start()
        until(is_(queue, second, "done"))
    assert queue.state(first).error == INTERNAL_FAULT
    assert f"{kind.__name__} at audit_queue_test.py:" in caplog.text
    assert SECRET.decode() not in caplog.text


def test_a_restart_goes_on_with_what_waited_and_ran(open_queue):
    running, stop = threading.Event(), threading.Event()

    def interrupted(upload, work, progress):
        running.set()
        while not stop.is_set():
            progress("testing", 0.5)
            time.sleep(0.01)

    queue = open_queue(interrupted)
    first, second = submit(queue), submit(queue)
    assert running.wait(10)
    queue.close()
    seen = []
    again = open_queue(lambda upload, *_: seen.append((upload.stem, upload.read_bytes())))
    until(is_(again, second, "done"))
    assert seen == [(first, SECRET), (second, SECRET)]
    assert again.state(first).attempts == 1  # an orderly stop cost none


@pytest.mark.parametrize(
    ("attempts", "state"), [(MOST_ATTEMPTS - 1, "done"), (MOST_ATTEMPTS, "failed")]
)
def test_a_job_that_keeps_killing_the_process_is_given_up(open_queue, attempts, state):
    queue = open_queue(start=False)
    job = submit(queue)
    queue.close()
    path = queue.folder / job / "state.json"
    killed = json.loads(path.read_text()) | {"state": "running", "attempts": attempts}
    path.write_text(json.dumps(killed))
    again = open_queue()
    until(is_(again, job, state))


def test_half_written_uploads_and_deleted_jobs_are_gone_after_a_restart(open_queue):
    queue = open_queue(start=False)
    job = submit(queue)
    queue.close()
    (queue.folder / job / "deleted").touch()
    half = queue.folder / ".tmp-0123"
    half.mkdir()
    (half / "upload.jsonl").write_bytes(SECRET)
    again = open_queue()
    assert [path.name for path in again.folder.iterdir()] == [".lock"]


@pytest.mark.parametrize("state", ["done", "failed"])
def test_an_upload_left_beside_a_verdict_goes_at_the_next_start(open_queue, state):
    queue = open_queue(start=False)
    job = submit(queue)
    queue.close()
    path = queue.folder / job / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"state": state}))
    again = open_queue()
    assert files(again) == {"state.json"} and again.state(job).state == state


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"id": 1}', b"\xff"])
def test_a_state_that_cannot_be_read_counts_as_failed(open_queue, content):
    queue = open_queue(start=False)
    job = submit(queue)
    (queue.folder / job / "state.json").write_bytes(content)
    assert queue.state(job).state == "failed"
    queue.close()
    assert open_queue().state(job).error == INTERNAL_FAULT


def test_the_queue_takes_so_many_and_an_upload_that_fails_frees_its_place(open_queue):
    queue = open_queue(start=False, max_queue=2)
    with pytest.raises(RuntimeError, match="cut off"), queue.arrival():
        raise RuntimeError("cut off")
    submit(queue)
    with queue.arrival(), pytest.raises(QueueFullError), queue.arrival():
        pass
    submit(queue)
    with pytest.raises(QueueFullError), queue.arrival():
        pass
    assert len([path for path in queue.folder.iterdir() if path.is_dir()]) == 2


def test_deleting_stops_what_runs_and_leaves_nothing(open_queue):
    running = threading.Event()

    def endless(upload, work, progress):
        running.set()
        while True:
            progress("testing", 0.0)
            time.sleep(0.01)

    queue = open_queue(endless)
    first, second = submit(queue), submit(queue)
    assert running.wait(10)
    queue.remove(second)
    queue.remove(first)
    for job in (first, second):
        with pytest.raises(UnknownJobError):
            queue.state(job)
    until(lambda: [path.name for path in queue.folder.iterdir()] == [".lock"])
    assert queue._thread.is_alive()


@pytest.mark.parametrize(
    "job", ["", ".", "..", "../jobs", "a" * 31, "A" * 32, "0" * 31 + "/", "0" * 32 + "\n"]
)
def test_what_is_no_id_is_unknown(open_queue, job):
    queue = open_queue(start=False)
    for door in (queue.state, queue.remove):
        with pytest.raises(UnknownJobError):
            door(job)


def test_one_folder_has_one_owner(open_queue):
    queue = open_queue()
    with pytest.raises(UserError, match="in use by another run"):
        open_queue()
    queue.close()
    open_queue()


def test_a_folder_that_cannot_be_had_is_the_users_fault(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        JobQueue(tmp_path / "file", finish, 1)
