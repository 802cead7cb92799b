"""Backup and restore: how long they take, also beside a load, and that nothing is lost.

A database is filled with the code of the ingest, with curves as trainings have them (`loadtests/curves.py`: noisy
values, times with jitter). `thalweg backup` makes a backup while nobody serves it; then the server makes one while
clients log to it as fast as it takes that. The files are compared with their checksums (`restore-database --check`),
and restored into an empty database, which verifies each table by the hashes of its rows before the command ends. Then
the checksum of each series in the restored database is compared with what was written; what the clients beside the
backup logged is read back from the server by themselves.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from loadtests.beside import ingest_beside
from loadtests.curves import NAMES, SHORT_STEPS, Training
from loadtests.filling import PROJECT, Filler, Ledger, settle
from loadtests.report import Report, python_loop_ms
from loadtests.usage import peak_mib, resident_mib
from thalweg.bench.ingest import IngestLoad
from thalweg.testing import running_server
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.engine.migrate import migrate

POINTS_OF_RUN: Final = SHORT_STEPS * len(NAMES)
LOAD: Final = IngestLoad(clients=1, metrics=1000)
WANTED_S: Final = 60
WANTED_POINTS: Final = 100_000_000


def fill(folder: Path, points: int) -> Ledger:
    """A database of so many points, or a few more."""
    ledger = Ledger()
    engine = EmbeddedEngine(folder)
    try:
        migrate(engine)
        filler = Filler(engine, ledger)
        steps = np.arange(SHORT_STEPS, dtype=np.float64)
        for number in range(-(-points // POINTS_OF_RUN)):
            training = Training.of(number, SHORT_STEPS)
            filler.add_runs([training.run_id])
            filler.log(training.run_id, NAMES, steps, training.values, training.clock)
        settle(engine)
    finally:
        engine.close()
    return ledger


def compare(folder: Path, ledger: Ledger, runs: int) -> None:
    """The series of the first runs in a database with what was written. Raises AssertionError."""
    engine = EmbeddedEngine(folder)
    try:
        sql = "SELECT count() AS n FROM branches FINAL WHERE project = {project:String}"
        assert engine.query(sql, {"project": PROJECT})["n"][0].as_py() == runs
        ledger.compare(engine)
    finally:
        engine.close()


def command(name: str, *arguments: str) -> dict[str, Any]:
    """What a command says, and how long its process took."""
    script = f"from thalweg_tracker.cli.backup import {name}; {name}()"
    begun_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments, "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name} failed: {done.stderr}")
    return {**json.loads(done.stdout), "took_s": time.perf_counter() - begun_s}


def measure(report: Report, folder: Path, points: int, rounds: int) -> None:
    """All figures."""
    data, to, restored = folder / "data", folder / "backup", folder / "restored"
    begun_s = time.perf_counter()
    ledger = fill(data, points)
    print(f"{ledger.points:,} points are there after {time.perf_counter() - begun_s:,.0f} s", flush=True)
    figures: dict[str, list[float]] = {}
    for _ in range(rounds):
        for path in (to, restored):
            shutil.rmtree(path, ignore_errors=True)
        made = command("backup", str(to), "--data", str(data))
        checked = command("restore_database", str(to), "--check")
        back = command("restore_database", str(to), "--data", str(restored))
        assert made["points"] == checked["points"] == back["points"] == ledger.points
        compare(restored, ledger, -(-points // POINTS_OF_RUN))
        found = {
            "backup": made["took_s"],
            "comparing all files with their checksums": checked["took_s"],
            "restore, with verification": back["took_s"],
            "bytes a point in the backup": made["bytes"] / made["points"],
            "a loop of a million additions in Python": python_loop_ms(),
        }
        for name, value in found.items():
            figures.setdefault(name, []).append(value)
    wanted = f"under {WANTED_S}" if points >= WANTED_POINTS else ""
    for name, values in figures.items():
        unit = "B" if "bytes" in name else "ms" if "loop" in name else "s"
        report.add(name, unit, values, wanted if name in ("backup", "restore, with verification") else "")
    measure_beside_load(report, data, folder / "beside", ledger.points)
    report.notes.append(f"{ledger.points:,} points in {-(-points // POINTS_OF_RUN):,} runs.")


def measure_beside_load(report: Report, data: Path, to: Path, points: int) -> None:
    """A backup that the server makes while it takes in all that it can."""
    with running_server(data) as server:
        server.client.get("/health")
        before_mib = resident_mib(server)
        with ingest_beside(server.url, "beside", LOAD) as loading:
            made = command("backup", str(to), "--data", str(data))
            assert not loading.done(), "the load ended before the backup did"
        load = loading.result()
        assert made["points"] >= points
        report.add("backup by the server beside a load", "s", [made["took_s"]])
        report.add("the load beside it, acknowledged", "points/s", [load.points_per_s])
        report.add("points in that backup", "points", [made["points"]])
        report.add("memory of the server before, resident", "MiB", [before_mib])
        report.add("memory of the server, peak", "MiB", [peak_mib(server)])


def main() -> None:
    """Fills, backs up, restores, compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=WANTED_POINTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the databases and backups are made, and left")
    options = parser.parse_args()
    report = Report("Backup and restore", (__doc__ or "").strip())
    with tempfile.TemporaryDirectory() as temporary:
        measure(report, options.folder or Path(temporary), options.points, options.rounds)
    if options.points >= WANTED_POINTS:  # fewer say nothing of what is wanted
        report.write("backup")


if __name__ == "__main__":
    main()
