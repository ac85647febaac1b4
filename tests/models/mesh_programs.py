"""Runs a program of the tests on virtual devices, in one process or several."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def run_on(
    program: Path, devices: int, mesh: dict[str, int], processes: int = 1
) -> list[Any]:
    """Figures of the program, as told by every process.

    Args:
      program: takes devices of a process, the mesh and, of several processes, coordinator,
        their number and its own; its last line is JSON.
      devices: of all processes together.
      mesh: sizes of its axes.
      processes: how many.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen(
            [sys.executable, str(program), str(devices // processes), json.dumps(mesh)]
            + ([f"127.0.0.1:{port}", str(processes), str(i)] if processes > 1 else []),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(processes)
    ]
    told = []
    for process in running:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err[-3000:]
        told.append(json.loads(out.splitlines()[-1]))
    return told
