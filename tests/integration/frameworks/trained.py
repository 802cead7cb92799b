"""Trainings with real frameworks, alone or by torchrun: what they said to the spool, and what the server has of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import spools, training
from tests.support.runs import NOBODY
from tests.support.waiting import wait_until
from thalweg.spool import layout
from thalweg.testing import ServerProcess

PROJECT = "faults"
QUIET = {
    "PYTHONWARNINGS": "ignore",  # frameworks warn of much that is not ours
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "THALWEG_SYSTEM_INTERVAL_S": "0",
    "THALWEG_PROJECT": PROJECT,
}


def train(folder: Path, url: str, script: str, *arguments: str, **variables: str) -> tuple[str, str]:
    """Runs a script to its end, which must be a good one. Returns standard output and standard error."""
    status, out, err = training.run_to_end(folder, url, script, *arguments, **QUIET, **variables)
    assert status == 0, err[-4000:]
    return out, err


def train_offline(folder: Path, script: str, *arguments: str) -> tuple[str, str]:
    """The same without a server: what it says stays in the spool."""
    return train(folder, NOBODY, script, *arguments, THALWEG_MODE="offline")


@contextmanager
def torchrun(folder: Path, url: str, script: str, *options: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A script as two ranks on this host and a free port; ended with all its ranks where the test leaves it."""
    path = folder / "train.py"
    path.write_text(script)
    environment = {**os.environ, "THALWEG_URL": url, "THALWEG_SPOOL_DIR": str(folder / "spool"), **QUIET, **variables}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *options, str(path)]
    process = subprocess.Popen(
        [sys.executable, *launcher],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=folder,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()  # torchrun ends its ranks
            process.communicate(timeout=60)


def end_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Waits for a good end. Returns standard output and standard error."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err[-4000:]
    return out, err


def words(folder: Path, rank: int = 0) -> list[dict[str, Any]]:
    """What a rank said of checkpoints, oldest first."""
    found: list[dict[str, Any]] = []
    for writer in layout.writer_folders(folder / "spool"):
        if layout.read_identity(writer).rank == rank:
            found += [event["checkpoint"] for event in spools.read_all(writer).events if event["kind"] == "checkpoint"]
    return found


def states_of(said: list[dict[str, Any]]) -> list[tuple[float, str]]:
    """Steps and states."""
    return [(word["step"], word["state"]) for word in said]


def checkpoints(server: ServerProcess, run_id: str, **query: Any) -> dict[float, dict[str, Any]]:
    """The checkpoints of a run by step."""
    path = f"/projects/{PROJECT}/runs/{run_id}/checkpoints"
    return {one["step"]: one for one in server.client.get(path, **query)["checkpoints"]}


def wait_for_checkpoints(
    server: ServerProcess, run_id: str, wanted: dict[float, str], **query: Any
) -> dict[float, dict[str, Any]]:
    """The run's checkpoints, once they have these states; "complete" is also one that the server has looked at."""

    def found() -> dict[float, dict[str, Any]]:
        there = checkpoints(server, run_id, **query)
        states = {step: "complete" if one["state"] == "verified" else one["state"] for step, one in there.items()}
        return there if states == wanted else {}

    return wait_until(found, timeout_s=30)


def finished(server: ServerProcess, run_id: str) -> dict[str, Any]:
    """The run, when all of it has arrived."""
    return training.wait_for_status(server.client, run_id, "finished", PROJECT)


def failed(server: ServerProcess, run_id: str) -> dict[str, Any]:
    """The run that failed, when all of it has arrived."""
    return training.wait_for_status(server.client, run_id, "failed", PROJECT)


def series(server: ServerProcess, run_id: str, name: str, branch: int | None = None) -> dict[float, float]:
    """The points of a metric by step, along the run's lineage."""
    run: Any = run_id if branch is None else {"run_id": run_id, "branch": branch}
    return training.exact(server.client, run, name, PROJECT)


def is_logged(server: ServerProcess, run_id: str, name: str, step: float) -> bool:
    """Whether a point has arrived. False while the run is not there."""
    return bool(training.get_run(server.client, PROJECT, run_id)) and step in series(server, run_id, name)
