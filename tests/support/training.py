"""Training scripts as real processes, and their points read back over HTTP.

The scripts have no `if __name__ == "__main__"` guard, as many training scripts have none.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_until
from thalweg.api_client import ApiClient
from thalweg.errors import NotFoundError

ENDLESS = """
import itertools, sys
import thalweg
run = thalweg.init(project="faults", run_id=sys.argv[1], system_interval_s=0)
for step in itertools.count():
    run.log({"loss": 1.0 / (1 + step), "square": step * step, "deep": {"half": step / 2}}, step=step)
    print(step, flush=True)
"""
"""Logs for ever; prints a step only after its log() has returned."""


def expected(name: str, step: int) -> float:
    """What ENDLESS logs."""
    return {"loss": 1.0 / (1 + step), "square": float(step * step), "deep/half": step / 2}[name]


METRICS = ("loss", "square", "deep/half")


@dataclass(slots=True)
class Training:
    """A running script."""

    process: subprocess.Popen[str]

    def read_steps(self, count: int) -> int:
        """Reads so many lines and returns the last step."""
        assert self.process.stdout is not None
        line = ""
        for _ in range(count):
            line = self.process.stdout.readline()
            assert line, "the training ended before its time"
        return int(line)

    def kill(self) -> int:
        """Ends it with SIGKILL and returns the last step whose log() had returned."""
        os.kill(self.process.pid, signal.SIGKILL)
        assert self.process.stdout is not None
        rest = self.process.stdout.read().splitlines()
        self.process.wait()
        self.process.stdout.close()
        return int(rest[-1]) if rest and rest[-1] else -1


def start(
    folder: Path, url: str, script: str, *arguments: str, stderr: int | None = None, **variables: str
) -> Training:
    """Starts a script with its spool in `folder`."""
    path = folder / "train.py"
    path.write_text(script)
    environment = {**os.environ, "THALWEG_URL": url, "THALWEG_SPOOL_DIR": str(folder / "spool"), **variables}
    process = subprocess.Popen(
        [sys.executable, str(path), *arguments],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=environment,
        cwd=folder,
    )
    return Training(process)


def run_to_end(folder: Path, url: str, script: str, *arguments: str, **variables: str) -> tuple[int, str, str]:
    """Runs a script and returns exit status, standard output and standard error."""
    training = start(folder, url, script, *arguments, stderr=subprocess.PIPE, **variables)
    out, err = training.process.communicate(timeout=120)
    return training.process.returncode, out, err


def get_run(client: ApiClient, project: str, run_id: str) -> dict[str, Any]:
    """A run as the API shows it; empty while it is not there."""
    try:
        run: dict[str, Any] = client.get(f"/projects/{project}/runs/{run_id}")
    except NotFoundError:
        return {}
    return run


def wait_for_status(client: ApiClient, run_id: str, status: str, project: str = "faults") -> dict[str, Any]:
    """The run, once it has this status and all its writers' points have arrived."""

    def arrived() -> dict[str, Any]:
        run = get_run(client, project, run_id)
        if run.get("status") != status:
            return {}
        counters = run["health"]["counters"]
        return run if counters.get("accepted", 0) == counters.get("logged", 0) else {}

    return wait_until(arrived)


def exact(client: ApiClient, run_id: str, name: str, project: str = "faults", **more: Any) -> dict[float, float]:
    """Points of a series by step. Asserts that no step is there twice."""
    body = {"runs": [run_id], "metrics": [name], "points": None, **more}
    series = client.post(f"/projects/{project}/series", body)["series"]
    if not series:
        return {}
    (one,) = series
    assert len(set(one["x"])) == len(one["x"]), "a step is there twice"
    return dict(zip(one["x"], one["value"], strict=True))


def assert_complete(client: ApiClient, run_id: str, last_step: int) -> None:
    """Every point of ENDLESS up to `last_step` is there, exactly once, with its value; one frame more may be."""
    for name in METRICS:
        points = exact(client, run_id, name)
        assert len(points) - (last_step + 1) in (0, 1), (name, len(points), last_step)
        assert points == {float(step): expected(name, step) for step in range(len(points))}, name
        buckets = client.post("/projects/faults/series", {"runs": [run_id], "metrics": [name], "points": 7})["series"][
            0
        ]
        assert sum(buckets["n"]) == len(points), "a bucket counts a point twice"
