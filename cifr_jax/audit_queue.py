"""Audits waiting on disk and the one thread that runs them.

    jobs/ID/state.json    a `JobState`, replaced whole
    jobs/ID/ID.jsonl      the upload; removed after the verdict unless files are kept
    jobs/ID/work/         the work folder of the audit, verdict.json and verdict.html in it
    jobs/ID/deleted       marks a job whose folder goes once nobody works in it

The folder is the queue: whoever opens it next goes on with what was waiting or running.
"""

import contextlib
import dataclasses
import json
import os
import re
import secrets
import shutil
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from absl import logging

from cifr_jax.errors import UserError
from cifr_jax.files import TEMPORARY, write_json_atomic
from cifr_jax.folder_lock import FolderLock

INTERNAL_FAULT = "internal fault"
MOST_ATTEMPTS = 3  # a job under which the process dies this often is given up
_SECONDS_BETWEEN_WRITES = 0.5  # of progress within one stage
_ID = re.compile(r"[0-9a-f]{32}")
_RESULTS = ("verdict.json", "verdict.html")

Progress = Callable[[str, float], None]
Audit = Callable[[Path, Path, Progress], None]  # upload, work folder, progress


class QueueFullError(Exception):
    """As many jobs wait, run or arrive as the queue takes."""


class UnknownJobError(Exception):
    """No job has this id."""


class _Stopped(BaseException):
    """Ends an audit from within its progress call; no `except Exception` keeps it."""


@dataclass(frozen=True)
class JobState:
    """What there is to know of a job; times are seconds since 1970.

    `progress` is the share of `stage` that is done, from 0 to 1; `error` is one line for a
    failed job.
    """

    id: str
    state: str  # queued, running, done or failed
    stage: str
    progress: float
    bytes: int
    created: float
    finished: float | None = None
    error: str | None = None
    attempts: int = 0


class Arrival:
    """An upload on its way: `upload` is the file to write, `id` the job's when added."""

    def __init__(self, folder: Path, job: str):
        self.id, self.folder = job, folder / f"{TEMPORARY}{job}"
        self.upload = self.folder / f"{job}.jsonl"


class JobQueue:
    """Jobs on disk, run one at a time in the order of their arrival.

    Args:
      folder: where the jobs lie; made if missing, and owned until `close`.
      audit: runs one job; leaves verdict.json and verdict.html in the work folder.
      max_queue: most jobs that arrive, wait and run at one time.
      keep_files: keep uploads and artefacts after the verdict.

    Raises:
      UserError: the folder cannot be written to, or another process owns it.
    """

    def __init__(
        self, folder: Path, audit: Audit, max_queue: int, keep_files: bool = False
    ):
        self.folder, self._audit = Path(folder) / "jobs", audit
        self._max_queue, self._keep_files = max_queue, keep_files
        self._changed = threading.Condition()
        self._waiting: deque[str] = deque()
        self._running: str | None = None
        self._arriving = 0
        self._closing = False
        self._lock = FolderLock(self.folder, mode=0o700)
        self._recover()
        self._thread = threading.Thread(target=self._work, name="audits", daemon=True)

    def start(self) -> None:
        """Starts the thread that runs the jobs; once."""
        self._thread.start()

    def close(self, timeout: float = 10.0) -> None:
        """Stops at the running audit's next progress call; it goes on when opened again."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        if not self._thread.is_alive():  # else the audit still owns the folder
            self._lock.close()

    @contextlib.contextmanager
    def arrival(self) -> Iterator[Arrival]:
        """Yields an `Arrival` to put an upload in; raises QueueFullError."""
        with self._changed:
            if self._arriving + self._pending() >= self._max_queue:
                raise QueueFullError
            self._arriving += 1
        arrival = Arrival(self.folder, secrets.token_hex(16))
        try:
            arrival.folder.mkdir(mode=0o700)
            yield arrival
        finally:
            shutil.rmtree(arrival.folder, ignore_errors=True)
            with self._changed:
                self._arriving -= 1

    def add(self, arrival: Arrival) -> JobState:
        """Queues a finished upload. Raises OSError or UserError where the disk refused."""
        size = arrival.upload.stat().st_size
        state = JobState(arrival.id, "queued", "", 0.0, size, time.time())
        _write(arrival.folder, state)
        with self._changed:
            os.rename(arrival.folder, self.folder / arrival.id)
            self._waiting.append(arrival.id)
            self._changed.notify_all()
        logging.info("job %s: queued, %d bytes", arrival.id, size)
        return state

    def state(self, job: str) -> JobState:
        """Raises UnknownJobError."""
        return _read(self._path(job))

    def result(self, job: str, name: str) -> Path:
        """Path of verdict.json or verdict.html of a job that is done."""
        return self._path(job) / "work" / name

    def remove(self, job: str) -> None:
        """Deletes a job with all its files; one that runs stops at its next progress call.

        Raises:
          UnknownJobError: there is none such.
        """
        with self._changed:
            folder = self._path(job)
            (folder / "deleted").touch()
            if job in self._waiting:
                self._waiting.remove(job)
            running = job == self._running
        if not running:
            shutil.rmtree(folder, ignore_errors=True)
        logging.info("job %s: deleted", job)

    def _pending(self) -> int:
        return len(self._waiting) + (self._running is not None)

    def _path(self, job: str) -> Path:
        # The pattern keeps every separator, dot and NUL out of the path.
        folder = self.folder / job if _ID.fullmatch(job) else None
        if folder is None or not folder.is_dir() or (folder / "deleted").exists():
            raise UnknownJobError
        return folder

    def _recover(self) -> None:
        """Takes up what an earlier process left: nobody else owns the folder now."""
        found = []
        for folder in self.folder.iterdir():
            if folder.name.startswith(TEMPORARY) or (folder / "deleted").exists():
                shutil.rmtree(folder, ignore_errors=True)
            elif _ID.fullmatch(folder.name) and (folder / "state.json").exists():
                found.append(_read(folder))
        for state in sorted(found, key=lambda state: (state.created, state.id)):
            folder = self.folder / state.id
            if state.state in ("queued", "running") and state.attempts >= MOST_ATTEMPTS:
                self._finish(folder, state, "failed", INTERNAL_FAULT)
            elif state.state in ("queued", "running"):
                again = dataclasses.replace(state, state="queued", stage="", progress=0.0)
                _write(folder, again)
                self._waiting.append(state.id)
                logging.info("job %s: queued again", state.id)
            else:  # the process may have died between its last state and the tidying
                self._tidy(folder, state)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                self._running = self._waiting.popleft()
                folder = self.folder / self._running
            try:
                self._run(folder)
            except Exception as error:  # the disk refused the state itself
                logging.error("job %s: %s", folder.name, fault_place(error))
            with self._changed:  # at once, so that `remove` leaves it to one of the two
                self._running = None
                deleted = (folder / "deleted").exists()
            if deleted:
                shutil.rmtree(folder, ignore_errors=True)

    def _run(self, folder: Path) -> None:
        state = _read(folder)
        state = dataclasses.replace(state, state="running", attempts=state.attempts + 1)
        _write(folder, state)
        upload, work = folder / f"{state.id}.jsonl", folder / "work"
        shown, written = state, time.monotonic()

        def progress(stage: str, share: float) -> None:
            nonlocal shown, written
            if self._closing or (folder / "deleted").exists():
                raise _Stopped
            now = time.monotonic()
            if stage == shown.stage and now - written < _SECONDS_BETWEEN_WRITES:
                return
            share = min(max(float(share), 0.0), 1.0)
            shown, written = dataclasses.replace(state, stage=stage, progress=share), now
            _write(folder, shown)

        logging.info("job %s: running", state.id)
        try:
            self._audit(upload, work, progress)
        except _Stopped:
            # An orderly stop is no fault of the job: it costs no attempt.
            again = dataclasses.replace(state, state="queued", attempts=state.attempts - 1)
            _write(folder, again)
        except UserError as error:
            # Where this machine keeps the files is nothing to the customer.
            line = str(error)
            for path, name in ((upload, "upload"), (work, "workdir"), (folder, "job")):
                line = line.replace(str(path), name)
            self._finish(folder, shown, "failed", line)
        except BaseException as error:  # SystemExit too, which would end this thread
            logging.error("job %s: %s", state.id, fault_place(error))
            self._finish(folder, shown, "failed", INTERNAL_FAULT)
        else:
            self._finish(folder, shown, "done", None)

    def _finish(self, folder: Path, state: JobState, name: str, error: str | None) -> None:
        share = 1.0 if name == "done" else state.progress
        last = dataclasses.replace(
            state, state=name, progress=share, finished=time.time(), error=error
        )
        _write(folder, last)
        logging.info("job %s: %s", state.id, name)
        self._tidy(folder, state)

    def _tidy(self, folder: Path, state: JobState) -> None:
        """Removes what a finished job needs no more, unless files are kept."""
        if self._keep_files:
            return
        (folder / f"{state.id}.jsonl").unlink(missing_ok=True)
        for path in (folder / "work").glob("*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in _RESULTS:
                path.unlink(missing_ok=True)


def _write(folder: Path, state: JobState) -> None:
    write_json_atomic(folder / "state.json", dataclasses.asdict(state))


def _read(folder: Path) -> JobState:
    """The state of a job; one that cannot be read counts as failed."""
    try:
        return JobState(**json.loads((folder / "state.json").read_bytes()))
    except FileNotFoundError:
        raise UnknownJobError from None  # deleted this moment
    except (OSError, ValueError, TypeError):
        return JobState(folder.name, "failed", "", 0.0, 0, 0.0, 0.0, INTERNAL_FAULT)


def fault_place(error: BaseException) -> str:
    """Type and place of a fault, without its text: that may quote the customer."""
    frames = traceback.extract_tb(error.__traceback__)
    last = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown"
    return f"{type(error).__name__} at {last}"
