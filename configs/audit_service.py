"""Audit uploads over HTTP: a small service on this machine for a provider's pipeline.

  pip install -e '.[service]'
  python -m cifr_jax.main --config configs/audit_service.py --workdir out/service
  curl -H 'Content-Type: application/jsonl' -T upload.jsonl -X POST localhost:8439/jobs
  curl localhost:8439/jobs/ID; curl localhost:8439/jobs/ID/verdict

Jobs lie in WORKDIR/jobs; what waits or runs when the service ends goes on when it starts
again. http://localhost:8439/ lists the routes. As `:runlocal` it takes any free port.
"""

from ml_collections import ConfigDict


def get_config(mode: str = "") -> ConfigDict:
    """The configuration; `mode` is empty or runlocal (a free port, the shortest audit)."""
    config = ConfigDict()
    config.task = "audit_service"  # what main dispatches on
    config.host = "127.0.0.1"  # address to listen on; the loopback unless allow_remote
    config.port = 8439  # 0: any that is free
    config.allow_remote = False  # may listen where other machines reach it; needs a token
    config.token_variable = ""  # environment variable with the bearer token; "": no token
    config.max_megabytes = 256  # largest upload, of 10**6 bytes; beyond: 413
    config.max_queue = 16  # jobs that arrive, wait or run; beyond: 429
    config.upload_seconds = 600.0  # within which an upload must have arrived; beyond: 408
    config.keep_files = False  # keep uploads and artefacts after the verdict

    config.audit = ConfigDict()
    config.audit.file = "configs/audit.py"  # config of the audits
    config.audit.mode = ""  # its argument, as after the colon of --config; "": none
    config.audit.overrides = ()  # of its values: ("job.rows=100",)

    if mode == "runlocal":
        config.port = 0
        config.audit.mode = "runlocal"
    return config
