"""What logging costs a training: 20 ms steps of NumPy on one core, 100 metrics each, logged to a server beside it.

One process does the steps; stretches of 25 with and without `log()` take turns, so that what else the machine does
meets both alike. The mapping of metrics is made in both: a training has it anyway. Sender and server share the two
cores with it; `offline` is the same without them: spool only. `slow-down` is the median step with `log()` over the
median step without; `other half` is the same of steps without `log()` alone, odd stretches to even: what the machine
makes of no difference at all. Memory: resident before `import thalweg` and after all steps are logged, in a process
that has NumPy already; and of the sender at the end. The steps that are there are counted afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from loadtests.report import Report
from thalweg.testing import ServerProcess, running_server

STRETCH = 25
METRICS = 100
_STEP_S = 0.02


def work(matrix: NDArray[np.float64], times: int) -> float:
    """Some of a step's computing."""
    total = 0.0
    for _ in range(times):
        total += float((matrix @ matrix)[0, 0])
    return total


def train(url: str | None, stretches: int) -> dict[str, Any]:
    """The training, offline without an address. Returns milliseconds of steps, and memory in MiB."""
    process = psutil.Process()
    matrix = np.random.default_rng(0).normal(size=(200, 200)) / 200
    begin = time.perf_counter()
    work(matrix, 200)
    times = max(1, round(200 * _STEP_S / (time.perf_counter() - begin)))
    before = process.memory_info().rss
    import thalweg  # what it takes is measured

    run = thalweg.init(project="bench", url=url, run_id="training", mode="online" if url else "offline")
    names = [f"train/layer_{number}/grad_norm" for number in range(METRICS)]
    quiet: list[list[float]] = []
    logged: list[list[float]] = []
    step = 0
    for stretch in range(2 * stretches):
        took = []
        for _ in range(STRETCH):
            begin = time.perf_counter()
            loss = work(matrix, times)
            metrics = {name: loss + number for number, name in enumerate(names)}
            if stretch % 2:
                run.log(metrics, step=step)
                step += 1
            took.append((time.perf_counter() - begin) * 1e3)
        (logged if stretch % 2 else quiet).append(took)
    if url:
        run.flush(60)
    resident, senders = process.memory_info().rss, [one.memory_info().rss for one in process.children(recursive=True)]
    run.finish()
    return {
        "quiet": quiet,
        "logged": logged,
        "steps": step,
        "sdk_mib": (resident - before) / 2**20,
        "sender_mib": max(senders, default=0) / 2**20,
    }


def told_by_training(url: str, stretches: int, spool: str) -> dict[str, Any]:
    """What a training says; offline with an empty address."""
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.training_cost", "--train", url, "--stretches", str(stretches)],
        stdout=subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "THALWEG_SPOOL_DIR": spool},
        check=True,
        text=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def slow_down(told: dict[str, Any]) -> float:
    """Per cent."""
    quiet, logged = ([ms for stretch in told[name] for ms in stretch] for name in ("quiet", "logged"))
    return 100 * (float(median(logged)) / float(median(quiet)) - 1)


def measure(server: ServerProcess, stretches: int, folder: Path) -> dict[str, float]:
    """One training with a server, whose points are counted afterwards, and one without."""
    told = told_by_training(server.url, stretches, str(folder / "online"))
    found = server.client.post(
        "/projects/bench/series", {"runs": ["training"], "metrics": ["train/layer_7/grad_norm"], "points": None}
    )
    assert found["series"][0]["x"] == list(range(told["steps"])), "steps are missing"
    odd, even = ([ms for stretch in told["quiet"][start::2] for ms in stretch] for start in (1, 0))
    return {
        "step without log()": median(ms for stretch in told["quiet"] for ms in stretch),
        "slow-down": slow_down(told),
        "slow-down, offline": slow_down(told_by_training("", stretches, str(folder / "offline"))),
        "other half": 100 * (median(odd) / median(even) - 1),
        "memory that the SDK adds": told["sdk_mib"],
        "memory of the sender": told["sender_mib"],
    }


def main() -> None:
    """Several trainings, each with a server of its own, and the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stretches", type=int, default=30)
    parser.add_argument("--train", help="address, or nothing: be the training, and say what it took")
    options = parser.parse_args()
    if options.train is not None:
        print(json.dumps(train(options.train or None, options.stretches)))
        return
    report = Report("What logging costs a training", (__doc__ or "").strip())
    rounds = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "data") as server:
            rounds.append(measure(server, options.stretches, Path(folder)))
    units = {"step without log()": "ms", "slow-down": "%", "slow-down, offline": "%", "other half": "%"}
    wanted = {
        "slow-down": "under 1",
        "slow-down, offline": "under 1",
        "memory that the SDK adds": "under 30",
        "memory of the sender": "under 100",
    }
    for name in rounds[0]:
        report.add(name, units.get(name, "MiB"), [one[name] for one in rounds], wanted.get(name, ""))
    report.write("training_cost")


if __name__ == "__main__":
    main()
