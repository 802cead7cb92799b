"""`thalweg move`: points a second from an embedded database to a server, compared by checksums of each series.

The source is filled with the code of the ingest: `runs` runs of 1,000 metrics, values as noisy float32 numbers. The
server is the one of the tests, the native protocol in front of the embedded engine, so source, move and destination
share one machine, and the destination takes several times the CPU that ClickHouse would. The move is the command, a
process of its own; its figures are those that it prints.
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
from typing import Final

import numpy as np

from loadtests.filling import Filler, Ledger, settle
from loadtests.report import Report
from tests.support.clickhouse_server import start
from tests.support.engines import server_store
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.engine.server import ServerEngine

METRICS: Final = 1000
STEPS: Final = 1000
WANTED: Final = "at least 500,000"


def fill(folder: Path, runs: int) -> Ledger:
    """A database of so many million points."""
    engine = EmbeddedEngine(folder)
    ledger = Ledger()
    try:
        migrate(engine)
        filler = Filler(engine, ledger)
        names = [f"layer_{number}/norm" for number in range(METRICS)]
        rng = np.random.default_rng(0)
        for number in range(runs):
            run_id = f"run-{number}"
            filler.add_runs([run_id])
            values = rng.normal(1, 0.2, (STEPS, METRICS)).astype(np.float32).astype(np.float64)
            filler.log(run_id, names, np.arange(STEPS, dtype=float), values)
        settle(engine)
    finally:
        engine.close()
    return ledger


def run_move(folder: Path, store: str) -> tuple[dict[str, float], float]:
    """What the command tells, and the CPU seconds that it took, source and client together."""
    command = [sys.executable, "-c", "from thalweg_tracker.cli.move import move; move()"]
    before = os.times()
    done = subprocess.run(
        [*command, "--from", str(folder), "--json"],
        env=os.environ | {"THALWEG_STORE": store},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    after = os.times()
    used_s = after.children_user + after.children_system - before.children_user - before.children_system
    result: dict[str, float] = json.loads(done.stdout)
    assert not result["differences"], result
    return result, used_s


def main() -> None:
    """Fills, moves as often as asked, and reports."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.move", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="runs of a million points each")
    parser.add_argument("--rounds", type=int, default=3, help="moves, each into a database of its own")
    arguments = parser.parse_args()
    report = Report("Moving an embedded database to a server", (__doc__ or "").partition("\n\n")[2].strip())
    moved: list[float] = []
    compared: list[float] = []
    used: list[float] = []
    with tempfile.TemporaryDirectory(prefix="thalweg-move-") as name:
        folder = Path(name)
        started_s = time.monotonic()
        ledger = fill(folder / "source", arguments.runs)
        print(f"filled {ledger.points:,} points in {time.monotonic() - started_s:.0f} s", flush=True)
        with start(folder / "clickhouse") as server:
            for number in range(arguments.rounds):
                store = f"clickhouse://default@127.0.0.1:{server.ports[0]}/moved_{number}"
                result, used_s = run_move(folder / "source", store)
                assert result["points"] == ledger.points, (result, ledger.points)
                moved.append(ledger.points / result["moved_s"])
                compared.append(ledger.points / result["took_s"])
                used.append(used_s / ledger.points * 1e6)
                destination = ServerEngine(server_store(server, f"moved_{number}"))
                try:
                    ledger.compare(destination)
                    destination.execute(f"DROP DATABASE moved_{number} SYNC")
                finally:
                    destination.close()
    report.add("moved", "points/s", moved, WANTED)
    report.add("moved and compared", "points/s", compared, WANTED)
    report.add("the command, source engine included", "us CPU/point", used)
    report.notes.append(f"{ledger.points:,} points, {arguments.runs * METRICS:,} series.")
    report.write("move")


if __name__ == "__main__":
    main()
