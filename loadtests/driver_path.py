"""The way to ClickHouse servers: CPU a point of our own code and clickhouse-driver together, and points a second.

The server is the one of the tests: the native protocol in front of the embedded engine, a process of its own. What it
takes is not ours and is not counted. First commits as the ingest makes them are assembled and inserted by this process,
one after the other, and the CPU time of this process, all its threads, is taken around them. `wide`: a million points,
1,000 metrics of one writer; `very-wide`: a million points, 100,000 metrics; `narrow`: 25,000 points, 10 metrics of 500
writers. Every series is read back and compared by count and checksum, and its statistics by the last step and value.

Then `thalweg ingest` and `thalweg api` run on that server, each a process, and two clients log 1,000 metrics a step
as fast as they are taken. All of this shares one machine. All points are read back over HTTP and compared.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Final

import numpy as np

from loadtests.filling import Ledger, each_us, stream_schema, writer_of
from loadtests.report import Report
from loadtests.usage import cpu_s
from tests.support.clickhouse_server import RunningServer, start
from tests.support.engines import server_store
from thalweg.api_client import ApiClient, run_path
from thalweg.bench.frames import Frames
from thalweg.bench.ingest import LOADS, run_ingest
from thalweg.bench.read_back import verify
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.engine.server import ServerEngine
from thalweg_tracker.ingest.assemble import assemble
from thalweg_tracker.ingest.decode import FrameBlock

BATCH_POINTS: Final = 125_000
"""A batch of a sender has a megabyte: so many float64."""
PROJECT: Final = "bench"


@dataclass(frozen=True, slots=True)
class Shape:
    """What one commit holds."""

    writers: int
    metrics: int
    frames: int

    @property
    def points(self) -> int:
        """Points of a commit."""
        return self.writers * self.metrics * self.frames


SHAPES: Final = {
    "wide": Shape(1, 1000, 1000),
    "very-wide": Shape(1, 100_000, 10),
    "narrow": Shape(500, 10, 5),
}


class Commits:
    """Commits of one shape, whose steps go on. Values are noisy float32 numbers."""

    def __init__(self, name: str, shape: Shape) -> None:
        self._shape = shape
        self._writers = [writer_of(f"{name}-{number}") for number in range(shape.writers)]
        # A stream has its own schema: writers do not share it.
        names = [f"layer_{number}/norm" for number in range(shape.metrics)]
        schema = stream_schema(names)
        self._schemas = [replace(schema) for _ in self._writers]
        self._first_steps = count(0, shape.frames)
        self._rng = np.random.default_rng(0)

    def __next__(self) -> list[FrameBlock]:
        shape, first = self._shape, next(self._first_steps)
        at_once = max(1, BATCH_POINTS // shape.metrics)
        blocks = []
        for writer, schema in zip(self._writers, self._schemas, strict=True):
            values = self._rng.normal(1, 0.2, (shape.frames, shape.metrics)).astype(np.float32).astype(np.float64)
            steps = np.arange(first, first + shape.frames, dtype=float)
            for start_ in range(0, shape.frames, at_once):
                part = slice(start_, start_ + at_once)
                times = each_us(steps[part])
                blocks.append(FrameBlock(writer, schema, steps[part], times, values[part], False, False))
        return blocks


@dataclass(slots=True)
class Spent:
    """CPU microseconds a point of each commit, by what they went to."""

    assemble: list[float] = field(default_factory=list)
    points: list[float] = field(default_factory=list)
    stats: list[float] = field(default_factory=list)

    @property
    def together(self) -> list[float]:
        """All of it."""
        return [sum(parts) for parts in zip(self.assemble, self.points, self.stats, strict=True)]


def spend(engine: Engine, commits: Commits, rounds: int, ledger: Ledger) -> Spent:
    """Makes so many commits, after one that warms up."""
    spent = Spent()
    for number in range(rounds + 1):
        blocks = next(commits)
        ledger.add_all(blocks)
        points = sum(block.points for block in blocks)
        marks = [time.process_time()]
        rows = assemble(blocks)
        marks.append(time.process_time())
        engine.insert("points", rows.points)
        marks.append(time.process_time())
        engine.insert("series_stats_feed", rows.stats)
        marks.append(time.process_time())
        if number:
            for values, took_s in zip((spent.assemble, spent.points, spent.stats), np.diff(marks), strict=True):
                values.append(float(took_s) / points * 1e6)
    return spent


def compare_statistics(engine: Engine) -> None:
    """The last step and value of each series in `series_stats` have to be those of its points."""
    from_points = engine.query(
        "SELECT run, metric, max(p.step) AS step, argMax(p.value, p.step) AS value FROM points AS p"
        " GROUP BY run, metric ORDER BY run, metric"
    )
    from_stats = engine.query(
        "SELECT run, metric, max(s.last).1 AS step, max(s.last).3 AS value FROM series_stats AS s"
        " GROUP BY run, metric ORDER BY run, metric"
    )
    assert from_stats.equals(from_points), "statistics are not those of the points"


def measure_inserts(server: RunningServer, report: Report, rounds: int) -> None:
    """Commits of each shape."""
    for name, shape in SHAPES.items():
        engine = ServerEngine(server_store(server, name.replace("-", "_")))
        try:
            migrate(engine)
            ledger = Ledger()
            spent = spend(engine, Commits(name, shape), rounds, ledger)
            ledger.compare(engine)
            compare_statistics(engine)
        finally:
            engine.close()
        wanted = "under 0.4" if name == "wide" else ""
        report.add(f"{name}: assemble and insert", "us CPU/point", spent.together, wanted)
        report.add(f"{name}: assemble alone", "us CPU/point", spent.assemble)
        report.add(f"{name}: insert into points alone", "us CPU/point", spent.points)
        report.add(f"{name}: insert into series_stats alone", "us CPU/point", spent.stats)


@dataclass(frozen=True, slots=True)
class Role:
    """One of the server's processes, and where it listens."""

    pid: int
    http: str
    grpc: str


@contextmanager
def role(store: str, log: Path, *arguments: str) -> Iterator[Role]:
    """`thalweg ...` on that store for the time of the block; it has to end with exit status 0."""
    command = [sys.executable, "-m", "thalweg.cli.main", *arguments, "--json"]
    environment = os.environ | {"THALWEG_STORE": store}
    with (
        log.open("ab") as stderr,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()
            ready = json.loads(line)
            yield Role(process.pid, ready["http"] or "", ready["grpc"] or "")
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(60)
    assert status == 0, log.read_text()


def measure_end_to_end(server: RunningServer, report: Report, folder: Path, rounds: int, seconds: float) -> None:
    """The wide load through both roles."""
    load = replace(LOADS["wide"], seconds=seconds)
    rates: list[float] = []
    ours: list[float] = []
    servers: list[float] = []
    for number in range(rounds):
        store = f"clickhouse://default@127.0.0.1:{server.ports[0]}/end_to_end_{number}"
        command = [sys.executable, "-m", "thalweg.cli.main", "migrate", "--store", store]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        log = folder / "roles.log"
        with (
            role(store, log, "ingest", "--grpc=127.0.0.1:0") as ingest,
            role(store, log, "api", "--http=127.0.0.1:0", f"--ingest={ingest.grpc}") as api,
        ):
            before = [cpu_s(pid) for pid in (ingest.pid, server.pid)]
            result = run_ingest(api.http, PROJECT, load, check=False)
            after = [cpu_s(pid) for pid in (ingest.pid, server.pid)]
            compare_runs(ApiClient(api.http), result.runs, load.metrics, result.points)
        rates.append(result.points_per_s)
        for values, used_s in zip((ours, servers), np.subtract(after, before), strict=True):
            values.append(float(used_s) / result.points * 1e6)
    report.add("end to end, wide: acknowledged", "points/s", rates)
    report.add("end to end, wide: `thalweg ingest`, gRPC and all", "us CPU/point", ours)
    report.add("end to end, wide: the server of the tests", "us CPU/point", servers)


def compare_runs(client: ApiClient, runs: tuple[str, ...], metrics: int, points: int) -> None:
    """Reads all points of the clients' runs and compares them."""
    found = 0
    for seed, run_id in enumerate(runs):
        frames = Frames.of(metrics, seed)
        (first,) = client.get(f"{run_path(PROJECT, run_id)}/metrics", match=f"^{frames.names[0]}$")["metrics"]
        found += verify(client, PROJECT, run_id, frames, int(first["last_step"]) + 1)
    assert found == points, (found, points)


def main() -> None:
    """Measures commits, then the whole way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of the whole way")
    parser.add_argument("--commits", type=int, default=10, help="of each shape")
    parser.add_argument("--seconds", type=float, default=15.0, help="of the whole way, each round")
    options = parser.parse_args()
    report = Report("The way to ClickHouse servers", (__doc__ or "").strip())
    with tempfile.TemporaryDirectory() as folder, start(Path(folder) / "data") as server:
        measure_inserts(server, report, options.commits)
        measure_end_to_end(server, report, Path(folder), options.rounds, options.seconds)
    if all(value >= parser.get_default(name) for name, value in vars(options).items()):
        report.write("driver_path")
    else:
        print("a part: no report is written")


if __name__ == "__main__":
    main()
