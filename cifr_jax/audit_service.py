"""The audit as a small HTTP service for a provider's pipeline: the task `audit_service`.

Uploads are streamed to disk, audits run one after the other (`audit_queue.py`), verdicts
are fetched when done. It answers on the loopback unless told otherwise, and then only to
who knows the token. No text of an upload is logged, and nothing is loaded from elsewhere.
"""

import asyncio
import contextlib
import html
import importlib
import ipaddress
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from cifr_jax import compiled_programs
from cifr_jax.audit_guard import LOOPBACK_NAMES, Guard
from cifr_jax.audit_queue import (
    JobQueue,
    JobState,
    Progress,
    QueueFullError,
    UnknownJobError,
)
from cifr_jax.config import load_config
from cifr_jax.errors import UserError
from cifr_jax.evaluation.verdict_schema import validate_verdict

# Types that a form of a foreign page cannot send without asking first (CORS).
UPLOAD_TYPES = (
    "application/jsonl",
    "application/x-ndjson",
    "application/octet-stream",
)

Run = Callable[[ConfigDict, str, Progress], Any]  # as `audit.run`
MakeConfig = Callable[[Path], ConfigDict]  # for the upload at a path


def _not_installed(name: str) -> UserError:
    mend = "pip install 'cifr-jax[service]'"
    return UserError("task audit_service", f"the package {name} is not installed", mend)


def _index_page(schema: dict[str, Any]) -> str:
    """The routes as a page of our own: the usual ones load scripts from elsewhere."""
    lines = [
        f"<tr><td>{method.upper()}</td><td>{html.escape(path)}</td>"
        f"<td>{html.escape(route.get('summary', ''))}</td></tr>"
        for path, routes in schema["paths"].items()
        for method, route in routes.items()
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        "<title>cifr_jax audit service</title><style>:root{color-scheme:light dark}"
        "body{font:16px/1.5 system-ui,sans-serif;margin:2rem}"
        "td{padding:.2rem 1rem .2rem 0}</style></head><body>"
        "<h1>cifr_jax audit service</h1><table><caption>Routes, described in full by "
        f'<a href="/openapi.json">openapi.json</a></caption>{"".join(lines)}</table>'
        "</body></html>"
    )


def create_app(
    folder: Path,
    make_config: MakeConfig,
    run: Run | None = None,
    *,
    max_bytes: int = 2**30,
    max_queue: int = 16,
    upload_seconds: float = 600.0,
    token: str = "",
    hosts: tuple[str, ...] = LOOPBACK_NAMES,
    keep_files: bool = False,
) -> Any:
    """The FastAPI application; jobs start and stop with its lifespan.

    Args:
      folder: where jobs lie, and what an earlier service left there goes on.
      make_config: the config of the audit of the upload at a path.
      run: audits; `cifr_jax.audit.run` unless given.
      max_bytes: of one upload; a larger one is answered with 413.
      max_queue: jobs that arrive, wait or run; one more is answered with 429.
      upload_seconds: within which an upload must have arrived, else 408.
      token: what "Authorization: Bearer" must hold; "": no token is asked for.
      hosts: names under which the service answers, without port; empty: any.
      keep_files: keep uploads and artefacts after the verdict.

    Raises:
      UserError: the extra `service` is not installed, or the folder cannot be had.
    """
    try:
        from fastapi import FastAPI, HTTPException, Request
        from fastapi.concurrency import run_in_threadpool as in_thread
        from fastapi.responses import HTMLResponse, Response
    except ModuleNotFoundError as error:
        raise _not_installed("fastapi") from error

    def audit(upload: Path, work: Path, progress: Progress) -> None:
        audit_run = run or importlib.import_module("cifr_jax.audit").run
        try:
            audit_run(make_config(upload), str(work), progress)
        finally:
            compiled_programs.free_if_many()
        # What is not a whole verdict must not be taken for a clear one.
        validate_verdict(json.loads((work / "verdict.json").read_bytes()))
        (work / "verdict.html").stat()

    queue = JobQueue(folder, audit, max_queue, keep_files)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        queue.start()
        yield
        await in_thread(queue.close)

    app = FastAPI(
        title="cifr_jax audit service",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Guard, token=token, hosts=hosts)

    def fault(status: int, what: str, **headers: str) -> HTTPException:
        return HTTPException(status, what, headers)

    async def store(request: Request, path: Path) -> None:
        size = 0
        with path.open("wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if size > max_bytes:
                    raise fault(413, f"the upload is larger than {max_bytes} bytes")
                await in_thread(file.write, chunk)
        if not size:
            raise fault(400, "the upload is empty")

    body = {"schema": {"type": "string", "format": "binary"}}
    upload_body = {"requestBody": {"content": dict.fromkeys(UPLOAD_TYPES, body)}}

    @app.post("/jobs", status_code=202, openapi_extra=upload_body)
    async def submit(request: Request) -> JobState:
        """Queues the audit of an upload: chats as JSON lines, in OpenAI's format."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in UPLOAD_TYPES:
            raise fault(415, f"send the content type {UPLOAD_TYPES[0]}")
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared[:19]) > max_bytes:
            raise fault(413, f"the upload is larger than {max_bytes} bytes")
        try:
            with queue.arrival() as arrival:
                async with asyncio.timeout(upload_seconds):
                    await store(request, arrival.upload)
                return await in_thread(queue.add, arrival)
        except QueueFullError:
            full = "the queue is full"
            raise fault(429, full, **{"Retry-After": "60"}) from None
        except TimeoutError:
            raise fault(408, "the upload took too long") from None
        except (OSError, UserError) as error:
            logging.error("an upload was not stored: %s", type(error).__name__)
            raise fault(507, "the upload could not be stored") from None

    @app.get("/jobs/{job}")
    def state(job: str) -> JobState:
        """State and progress of a job."""
        try:
            return queue.state(job)
        except UnknownJobError:
            raise fault(404, "no such job") from None

    def result(job: str, name: str) -> bytes:
        known = state(job)
        if known.state != "done":
            raise fault(409, f"the job is {known.state}")
        try:
            return queue.result(job, name).read_bytes()
        except (OSError, UnknownJobError):  # deleted this moment
            raise fault(404, "no such job") from None

    @app.get("/jobs/{job}/verdict")
    def verdict(job: str) -> Response:
        """verdict.json of a job that is done."""
        content = result(job, "verdict.json")
        return Response(content, media_type="application/json")

    @app.get("/jobs/{job}/report", response_class=HTMLResponse)
    def report(job: str) -> Response:
        """The verdict of a job that is done as a page."""
        return HTMLResponse(result(job, "verdict.html"))

    @app.delete("/jobs/{job}", status_code=204)
    def delete(job: str) -> None:
        """Deletes a job and all its files; stops it at its next stage if it runs."""
        try:
            queue.remove(job)
        except UnknownJobError:
            raise fault(404, "no such job") from None

    @app.get("/healthz")
    def health() -> dict[str, str]:
        """Whether the service answers; needs no token."""
        return {"status": "ok"}

    @app.get("/openapi.json", include_in_schema=False)
    def openapi() -> dict[str, Any]:
        return app.openapi()

    @app.get("/", include_in_schema=False)
    def index() -> Response:
        return HTMLResponse(_index_page(app.openapi()))

    return app


def _token(variable: str) -> str:
    """The token in the environment variable of that name; "" where no name is given."""
    if not variable:
        return ""
    token = os.environ.get(variable, "")
    if not token:
        what = f"the environment variable {variable} is not set or empty"
        raise UserError("config.token_variable", what, "set it, or name none")
    return token


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise UserError("config.port", f"{port} is no port", "give one from 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        what = f"cannot listen on {host} port {port}: {error}"
        raise UserError("config.host, config.port", what, "give others") from error


def _config_maker(audit: ConfigDict) -> MakeConfig:
    """Reads the config of the audits now, so that a fault in it is told at the start."""
    mode = audit.mode or None
    template = load_config(audit.file, ["job.data=upload.jsonl", *audit.overrides], mode)

    def make_config(upload: Path) -> ConfigDict:
        config = template.copy_and_resolve_references()
        config.job.data = str(upload)
        return config.lock()

    return make_config


def run(config: ConfigDict, workdir: str) -> None:
    """The task `audit_service`: serves until it is interrupted.

    Args:
      config: see configs/audit_service.py.
      workdir: jobs lie in WORKDIR/jobs.

    Raises:
      UserError: for a host that others reach without leave or token, an address that
        cannot be had, a config of the audits that does not load, a missing package.
    """
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise _not_installed("uvicorn") from error
    token, local = _token(config.token_variable), _is_loopback(config.host)
    if not local and not config.allow_remote:
        what = f"{config.host} can be reached from other machines"
        mend = "set config.allow_remote=True if that is meant"
        raise UserError("config.host", what, mend)
    if not local and not token:
        what = f"no token, though {config.host} can be reached from other machines"
        raise UserError("config.token_variable", what, "name a variable that holds one")
    for key in ("max_megabytes", "max_queue", "upload_seconds"):
        if config[key] <= 0:
            raise UserError(f"config.{key}", f"{config[key]}", "give a number above 0")
    make_config = _config_maker(config.audit)
    most = make_config(Path("upload.jsonl")).job.max_mib * 2**20
    if config.max_megabytes * 10**6 > most:
        what = f"{config.max_megabytes}, and the audits take {most // 10**6} at most"
        raise UserError("config.max_megabytes", what, "lower it, or raise job.max_mib")
    app = create_app(
        Path(workdir),
        make_config,
        max_bytes=config.max_megabytes * 10**6,
        max_queue=config.max_queue,
        upload_seconds=config.upload_seconds,
        token=token,
        hosts=LOOPBACK_NAMES if local else (),
        keep_files=config.keep_files,
    )
    listener = _listen(config.host, config.port)
    logging.info("serving on http://%s:%d", *listener.getsockname()[:2])
    # No access log: what a client writes into an address is not ours to keep.
    settings = uvicorn.Config(app, log_config=None, access_log=False, server_header=False)
    uvicorn.Server(settings).run(sockets=[listener])
