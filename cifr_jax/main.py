"""The command line: `python -m cifr_jax.main --config FILE --workdir FOLDER`.

Exit codes: 0 done; 2 the user's input or config is at fault (one line on stderr, no
traceback without --debug); 1 a fault of ours. The log goes to stdout.
"""

import os
import sys
import traceback
from collections.abc import Sequence

from absl import app, flags, logging
from ml_collections import ConfigDict

from cifr_jax.config import define_config_flag, parse_flags
from cifr_jax.errors import UserError
from cifr_jax.tasks import run_task
from cifr_jax.workdir import device_name, git_revision, package_versions

_CONFIG = define_config_flag(flags.FLAGS)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for artefacts and results.")
_DEBUG = flags.DEFINE_bool("debug", False, "Show tracebacks of the user's faults too.")
flags.mark_flags_as_required(["config", "workdir"])


def _log_start(config: ConfigDict, workdir: str) -> None:
    import jax  # here, as it costs a second that a misspelt flag need not wait for

    logging.info("versions: %s", package_versions())
    logging.info("revision: %s", git_revision() or "unknown")
    process, processes = jax.process_index(), jax.process_count()
    logging.info("process %d of %d; devices: %s", process, processes, device_name())
    logging.info("workdir: %s", os.path.abspath(workdir))
    logging.info("config:\n%s", config)


def _tell(error: UserError, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    print(f"cifr_jax: error: {error}", file=sys.stderr)
    return 2


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        return parse_flags(flags.FLAGS, argv)
    except UserError as error:  # the flags are not parsed: --debug must be looked for
        sys.exit(_tell(error, debug="--debug" in argv))


def main(argv: Sequence[str]) -> int:
    """Runs what the parsed flags ask for; returns the exit code."""
    logging.get_absl_handler().python_handler.stream = sys.stdout
    try:
        if len(argv) > 1:
            what = f"unexpected argument {argv[1]!r}"
            raise UserError("command line", what, "write --flag=value")
        workdir = os.path.expanduser(_WORKDIR.value or "")
        if not workdir:  # an empty path would mean the current folder
            raise UserError("command line", "--workdir is empty", "give --workdir FOLDER")
        if "distributed" in _CONFIG.value:
            from cifr_jax.models import sharding  # as in _log_start

            sharding.join_processes(_CONFIG.value.distributed)
        _log_start(_CONFIG.value, workdir)
        run_task(_CONFIG.value, workdir)
    except UserError as error:
        return _tell(error, _DEBUG.value)
    except KeyboardInterrupt:
        print("cifr_jax: stopped; the same line goes on from here", file=sys.stderr)
        return 130
    return 0


def run() -> None:
    """The console entry point."""
    app.run(main, flags_parser=_parse)


if __name__ == "__main__":
    run()
