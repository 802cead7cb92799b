"""Does cost grow? Points a second of the ingest, and the main questions, in databases of different sizes.

First the points grow: 10, 50 and 200 million in the database, most of them in one run that goes on, beside 1,000 small
trainings. Then the trainings: 10, 1,000 and 10,000 of them share the same number of points, each number in a database
of its own. Everywhere there are also a run of one series with a million points, 20 runs of one series with 10,000, and
a run with 10,000 metrics. At each size the database is merged, served by `thalweg up` and asked over one kept HTTP
connection: the median of warm calls; of the 20 series, which nobody has asked for before, that of first calls. Every
answer is compared with what was written. Then 5 million points more are written with the code of the ingest, three
times; in the end every series is read and compared by count and checksum. A ratio is the largest size to the smallest.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from loadtests import query_answers as answers
from loadtests import query_data as data
from loadtests.asking import Asking, timed_ms
from loadtests.filling import INSERT_POINTS, PROJECT, Filler, Ledger, settle
from loadtests.report import Report
from thalweg.testing import running_server
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.engine.migrate import migrate

LONG_METRICS: Final = 1000
"""Of the run that goes on."""
MIDDLE_POINTS: Final = 1_000_000
FRESH_POINTS: Final = 10_000
WIDE_METRICS: Final = 10_000
SMALL_STEPS: Final = 100
"""Of the trainings beside the run that goes on."""
INSERTS: Final = 3
FIXED_POINTS: Final = MIDDLE_POINTS + data.COMPARED * FRESH_POINTS + WIDE_METRICS * data.WIDE_STEPS
NAMES_PATTERN: Final = r"head_7\d/.*_norm$"
INGEST: Final = "ingest, points more"
FILLED: Final = "ingest up to this size, until merged"
BUCKETS: Final = f"series of {MIDDLE_POINTS:,} points to 1,000 buckets"
FRESH: Final = f"series of {FRESH_POINTS:,} points, first call"
Found = dict[str, list[float]]
"""Values by what they are of."""


class Trainings(answers.Table):
    """The trainings, of a number of steps of their own."""

    def __init__(self, runs: int, steps: int) -> None:
        super().__init__(runs)
        last = data.training_values(self.numbers, np.array([steps - 1]))[:, 0, :]
        self.last = dict(zip(data.METRICS, last.T, strict=True))


class Database:
    """A database that grows, and what was written to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ledger = Ledger()
        self._long_steps = 0

    @property
    def points(self) -> int:
        """Points that were written."""
        return self._ledger.points

    @contextmanager
    def _filling(self) -> Iterator[tuple[Engine, Filler]]:
        engine = EmbeddedEngine(self.folder)
        try:
            yield engine, Filler(engine, self._ledger)
            settle(engine)
        finally:
            engine.close()

    def begin(self, runs: int, steps: int) -> float:
        """Everything but the run that goes on. Returns points a second, until merged."""
        begin = time.perf_counter()
        with self._filling() as (engine, filler):
            migrate(engine)
            data.fill_trainings(filler, runs, steps)
            data.fill_wide(filler, WIDE_METRICS)
            data.fill_single(filler, data.single_run(MIDDLE_POINTS), MIDDLE_POINTS, 0)
            for number in range(data.COMPARED):
                data.fill_single(filler, f"compared-{number}", FRESH_POINTS, number)
            filler.add_runs(["long"])
        return self.points / (time.perf_counter() - begin)

    def fill_up(self, points: int) -> float:
        """Lets the long run go on up to so many points in all. Returns points a second, until merged."""
        before = self.points
        begin = time.perf_counter()
        with self._filling() as (_, filler):
            self._go_on(filler, points - before)
        return (self.points - before) / (time.perf_counter() - begin)

    def insert(self, points: int) -> float:
        """Lets the long run go on by so many points. Returns points a second of the inserts alone."""
        with self._filling() as (_, filler):
            begin = time.perf_counter()
            self._go_on(filler, points)
            return points / (time.perf_counter() - begin)

    def _go_on(self, filler: Filler, points: int) -> None:
        names = [f"layer_{number}/norm" for number in range(LONG_METRICS)]
        frames = INSERT_POINTS // LONG_METRICS
        pool = data.noise()[: frames * LONG_METRICS].astype(np.float32).astype(np.float64)
        values = pool.reshape(frames, LONG_METRICS)
        for _ in range(round(points / INSERT_POINTS)):
            steps = np.arange(self._long_steps, self._long_steps + frames, dtype=float)
            filler.log("long", names, steps, values)
            self._long_steps += frames

    def compare(self) -> None:
        """Reads all and compares."""
        engine = EmbeddedEngine(self.folder)
        try:
            self._ledger.compare(engine)
        finally:
            engine.close()


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and what its answer has to be."""

    name: str
    method: str
    path: str
    options: dict[str, Any]
    check: answers.Check

    def ms(self, asking: Asking, calls: int) -> float:
        """Median of so many warm calls."""
        ask = partial(asking.fetch, self.method, self.path, **self.options)
        return timed_ms(ask, calls, lambda answer: self.check(orjson.loads(answer)))


def questions(table: Trainings) -> list[Question]:
    """Those that are asked again and again."""
    series = {"runs": [data.single_run(MIDDLE_POINTS)], "metrics": ["loss"], "points": 1000}
    columns = ["config.lr", "config.optimizer", "last(accuracy)", "last(loss)"]
    configs = [data.config(number) for number in table.numbers.tolist()]
    taken = np.array([one["optimizer"] == "adam" and float(one["lr"]) < 0.02 for one in configs])
    taken &= table.last["loss"] < 0.7
    runs = {
        "filter": 'config.optimizer == "adam" and config.lr < 0.02 and last(loss) < 0.7',
        "columns": columns,
        "sort": ["-last(accuracy)"],
        "limit": answers.PAGE,
    }
    names = {"match": NAMES_PATTERN, "limit": answers.PAGE}
    in_buckets = answers.single_in_buckets(data.single_values(MIDDLE_POINTS, 0), 1000)
    page = answers.names_page(WIDE_METRICS, NAMES_PATTERN)
    return [
        Question(BUCKETS, "POST", "/series", {"json": series}, in_buckets),
        Question(
            "runs by config and last(loss), first page",
            "POST",
            "/runs/query",
            {"json": runs},
            table.page(taken, "accuracy", columns),
        ),
        Question("metric names by regex", "GET", "/runs/wide/metrics", {"params": names}, page),
    ]


def ask(database: Database, table: Trainings, rounds: int, calls: int) -> Found:
    """Milliseconds of the main questions."""
    found: Found = {}
    fresh = iter(range(data.COMPARED))
    with running_server(database.folder) as server:
        asking = Asking.of(server.url, PROJECT)
        for _ in range(rounds):
            for question in questions(table):
                found.setdefault(question.name, []).append(question.ms(asking, calls))
            some = [fresh_ms(asking, next(fresh)) for _ in range(data.COMPARED // rounds)]
            found.setdefault(FRESH, []).append(statistics.median(some))
    return found


def fresh_ms(asking: Asking, number: int) -> float:
    """One of the short series, all of its points. Nobody has asked for it before."""
    begin = time.perf_counter()
    series = asking.series(f"compared-{number}", None)
    took_s = time.perf_counter() - begin
    answers.exact_series(data.single_values(FRESH_POINTS, number))({"series": [series]})
    return took_s * 1e3


def measure(database: Database, table: Trainings, options: argparse.Namespace) -> Found:
    """The questions, then the inserts."""
    found = ask(database, table, options.rounds, options.calls)
    found[INGEST] = [database.insert(options.insert_points) for _ in range(INSERTS)]
    print(f"{database.points:,} points: {found}", flush=True)
    return found


def grow_points(folder: Path, options: argparse.Namespace) -> dict[str, Found]:
    """By the points in one database that grows."""
    database = Database(folder)
    database.begin(options.small_runs, SMALL_STEPS)
    table = Trainings(options.small_runs, SMALL_STEPS)
    by_size: dict[str, Found] = {}
    for points in options.points:
        assert points > database.points, f"{points:,} points are there already: {database.points:,}"
        filled = database.fill_up(points)
        by_size[f"{points / 1e6:g} M points"] = measure(database, table, options) | {FILLED: [filled]}
    database.compare()
    return by_size


def grow_runs(folder: Path, options: argparse.Namespace) -> dict[str, Found]:
    """By the number of runs that share the same points, each in a database of its own."""
    by_runs: dict[str, Found] = {}
    for runs in options.runs:
        steps = options.run_points // runs // len(data.METRICS)
        database = Database(folder / str(runs))
        filled = database.begin(runs, steps)
        by_runs[f"{runs:,} runs"] = measure(database, Trainings(runs, steps), options) | {FILLED: [filled]}
        database.compare()
    return by_runs


def tell(report: Report, by_size: dict[str, Found]) -> None:
    """Each quantity at each size, and the last to the first."""
    sizes = list(by_size)
    if not sizes:
        return
    first, last = sizes[0], sizes[-1]
    for name in by_size[first]:
        is_rate = name in (INGEST, FILLED)
        for size, found in by_size.items():
            report.add(f"{name}: {size}", "points/s" if is_rate else "ms", found[name])
        ratio = statistics.median(by_size[last][name]) / statistics.median(by_size[first][name])
        report.add(f"{name}: {last} to {first}", "", [ratio])


def main() -> None:
    """Lets databases grow, and asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="*", default=[10_000_000, 50_000_000, 200_000_000])
    parser.add_argument("--runs", type=int, nargs="*", default=[10, 1000, 10_000])
    parser.add_argument("--run-points", type=int, default=18_000_000, help="that the runs share")
    parser.add_argument("--small-runs", type=int, default=1000, help="beside the run that goes on")
    parser.add_argument("--insert-points", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=7, help="calls in a row for one figure")
    options = parser.parse_args()
    report = Report("Growth", (__doc__ or "").strip())
    with tempfile.TemporaryDirectory() as folder:
        tell(report, grow_points(Path(folder) / "points", options) if options.points else {})
    with tempfile.TemporaryDirectory() as folder:
        tell(report, grow_runs(Path(folder), options))
    report.notes.append(f"{FIXED_POINTS:,} points of each database are in the runs that are asked for.")
    if all(value == parser.get_default(name) for name, value in vars(options).items()):
        report.write("growth")
    else:
        print("a part: no report is written")


if __name__ == "__main__":
    main()
