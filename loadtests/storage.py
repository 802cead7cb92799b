"""Bytes a point takes on disk, on curves as trainings have them, by column and by kind of metric.

Two losses and ten gradient norms are float32 with noise; a learning rate (warm-up, then a cosine) and the measured
seconds of a step are float64; tokens seen and the epoch are counters. A step takes 250 ms with a jitter of 10 ms, and
all metrics of a frame share one time. Half of the points lie in runs of 200,000 steps, half in runs of 10,000. They are
written with the code of the ingest, and measured when the database has merged what it merges by itself: the bytes on
disk of active parts, with marks and index, and of the columns their compressed data. A kind and a length of runs are
measured in tables of their own, with a part of the same rows. Every series is read back and compared by count and
checksum.

The same part of the rows is also copied into tables with other codecs, long runs and short ones apart:
bytes a point, CPU of the INSERT ... SELECT on one thread, of merging to one part, and of reading all, and how long one
series of a short run takes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from loadtests.asking import timed_ms
from loadtests.codecs import BITS, CODECS, LIKE_POINTS, Codecs
from loadtests.curves import KINDS, LONG_STEPS, NAMES, SHORT_STEPS, Training
from loadtests.filling import PROJECT, Filler, Ledger, settle
from loadtests.report import Report
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.model.keys import metric_key, run_key

COLUMNS: Final = ("run", "metric", "rank", "step", "time", "value")
SHORT_A_LONG: Final = LONG_STEPS // SHORT_STEPS
_ONE_THREAD: Final = "SETTINGS max_threads = 1, max_insert_threads = 1, optimize_on_insert = 0"


def fill(engine: Engine, longs: int, ledger: Ledger) -> None:
    """So many long runs, and as many points in short ones."""
    filler = Filler(engine, ledger)
    for number in range(longs):
        batch = [(number, LONG_STEPS)] + [(number * SHORT_A_LONG + one, SHORT_STEPS) for one in range(SHORT_A_LONG)]
        for which, steps in batch:
            training = Training.of(which, steps)
            filler.add_runs([training.run_id])
            filler.log(training.run_id, NAMES, np.arange(steps, dtype=float), training.values, training.clock)


def sample_runs() -> list[int]:
    """Keys of the runs whose rows are copied: one long run, and as many points in short ones."""
    names = [f"{LONG_STEPS}-0", *(f"{SHORT_STEPS}-{number}" for number in range(SHORT_A_LONG))]
    return [run_key(PROJECT, name) for name in names]


@dataclass(frozen=True, slots=True)
class Size:
    """What a table takes. Of parts whose columns lie in one file, which are small, nobody tells the columns."""

    rows: int
    a_row: float  # bytes, with everything
    columns: dict[str, float]  # bytes a row
    rest: float  # marks, index, checksums; bytes a row

    @classmethod
    def of(cls, engine: Engine, table: str) -> Size:
        """As the database tells it of the active parts."""
        where = f"WHERE database = currentDatabase() AND table = '{table}' AND active"
        (whole,) = engine.query(
            "SELECT sum(p.rows) AS rows, sum(p.bytes_on_disk) AS bytes, sumIf(p.rows, part_type = 'Wide') AS wide_rows,"
            f" sumIf(p.bytes_on_disk, part_type = 'Wide') AS wide_bytes FROM system.parts AS p {where}"
        ).to_pylist()
        found = engine.query(
            "SELECT column, sum(column_data_compressed_bytes) AS bytes"
            f" FROM system.parts_columns {where} AND part_type = 'Wide' GROUP BY column"
        )
        columns = {one["column"]: one["bytes"] / whole["wide_rows"] for one in found.to_pylist()}
        rest = whole["wide_bytes"] / whole["wide_rows"] - sum(columns.values()) if columns else 0.0
        return cls(whole["rows"], whole["bytes"] / whole["rows"], columns, rest)


def measure_points(engine: Engine, report: Report, points: int) -> None:
    """What `points` and `series_stats` take."""
    size, stats = Size.of(engine, "points"), Size.of(engine, "series_stats")
    assert size.rows == points, (size.rows, points)
    wanted = "at most 5"
    report.add("all, with series_stats", "bytes/point", [size.a_row + stats.a_row * stats.rows / points], wanted)
    report.add("all, without series_stats", "bytes/point", [size.a_row], wanted)
    for name in COLUMNS:
        report.add(f"column {name}", "bytes/point", [size.columns[name]])
    report.add("marks and index", "bytes/point", [size.rest])
    report.notes.append(f"{points:,} points; {stats.rows:,} rows of series_stats, {stats.a_row:.0f} bytes each.")


def measure_kinds(engine: Engine, report: Report, runs: list[int]) -> None:
    """What the values of each kind of metric take, and all of runs by their length."""
    for kind, names in KINDS.items():
        keys = ", ".join(str(metric_key(name)) for name in names)
        size = _copied(engine, f"metric IN ({keys}) AND run IN ({_listed(runs)})")
        report.add(f"kind {kind}, value", "bytes/point", [size.columns["value"]])
    for words, some in ((f"{LONG_STEPS:,}", runs[:1]), (f"{SHORT_STEPS:,}", runs[1:])):
        report.add(f"runs of {words} steps", "bytes/point", [_copied(engine, f"run IN ({_listed(some)})").a_row])


def _copied(engine: Engine, condition: str) -> Size:
    """The size of some rows in a table like `points`."""
    engine.execute(f"CREATE TABLE copy {LIKE_POINTS}")
    try:
        engine.execute(f"INSERT INTO copy SELECT * FROM points WHERE {condition} {_ONE_THREAD}")
        engine.execute("OPTIMIZE TABLE copy FINAL")
        return Size.of(engine, "copy")
    finally:
        engine.execute("DROP TABLE copy SYNC")


def _listed(keys: Iterable[int]) -> str:
    return ", ".join(map(str, keys))


@dataclass(frozen=True, slots=True)
class Cost:
    """What a set of codecs costs for some runs."""

    size: Size
    insert_s: float  # CPU
    merge_s: float
    read_s: float
    series_ms: float


def row(words: str, long: Cost, short: Cost) -> str:
    """A line of the Markdown table."""
    both = (long, short)
    points = sum(one.size.rows for one in both)

    def us(taken_s: Iterable[float]) -> float:
        return sum(taken_s) / points * 1e6

    a_row = sum(one.size.a_row * one.size.rows for one in both) / points
    value, time_, step = (
        sum(one.size.columns[name] * one.size.rows for one in both) / points for name in ("value", "time", "step")
    )
    insert, merge = us(one.insert_s for one in both), us(one.merge_s for one in both)
    read = us(one.read_s for one in both)
    return (
        f"| {words} | **{a_row:.2f}** | {long.size.a_row:.2f} | {short.size.a_row:.2f} "
        f"| {value:.2f} | {time_:.2f} | {step:.2f} | {insert:.3f} | {merge:.3f} | {read:.3f} | {short.series_ms:.1f} |"
    )


def measure_codecs(engine: Engine, report: Report, ledger: Ledger, runs: list[int], repeats: int) -> None:
    """Copies the rows of some runs into tables with each set of codecs."""
    lines = [
        "Other codecs, on a part of the rows. `Blocks`: `SETTINGS (min_compress_block_size, max_compress_block_size)`"
        " of the column. Bytes a point, of all and of runs by their length; CPU microseconds a point; milliseconds:",
        "",
        f"| codecs | all | {LONG_STEPS:,} steps | {SHORT_STEPS:,} steps | value | time | step | insert | merge "
        "| read all | one series |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for codecs in CODECS:
        long, short = (_cost(engine, codecs, ledger, some, repeats) for some in (runs[:1], runs[1:]))
        lines.append(row(codecs.words, long, short))
        print(lines[-1], flush=True)
    report.notes.append("\n  ".join(lines))


def _cost(engine: Engine, codecs: Codecs, ledger: Ledger, runs: list[int], repeats: int) -> Cost:
    value = "reinterpretAsUInt64(value)" if codecs.value_type == BITS else "value"
    rows = f"SELECT run, metric, rank, step, time, {value} FROM points WHERE run IN ({_listed(runs)})"
    inserts: list[float] = []
    for _ in range(repeats):
        engine.execute("DROP TABLE IF EXISTS coded SYNC")
        engine.execute(codecs.create("coded"))
        engine.execute("SYSTEM STOP MERGES coded")
        inserts.append(_cpu_s(partial(engine.execute, f"INSERT INTO coded {rows} {_ONE_THREAD}")))
    engine.execute("SYSTEM START MERGES coded")
    merge_s = _cpu_s(partial(engine.execute, "OPTIMIZE TABLE coded FINAL"))
    ledger.compare(engine, "coded", runs)
    size = Size.of(engine, "coded")
    read = "SELECT sum(step), max(time), max(value) FROM coded"
    reads = [_cpu_s(partial(engine.query, read)) for _ in range(repeats)]
    key = metric_key("train/loss")
    one = f"SELECT count() AS n, sum(step), max(time), max(value) FROM coded WHERE run = {runs[-1]} AND metric = {key}"
    steps = LONG_STEPS if len(runs) == 1 else SHORT_STEPS
    series_ms = timed_ms(partial(engine.query, one), 15, lambda answer: _check_series(answer, steps))
    engine.execute("DROP TABLE coded SYNC")
    return Cost(size, min(inserts), merge_s, min(reads), series_ms)


def _check_series(answer: pa.Table, steps: int) -> None:
    assert answer["n"].to_pylist() == [steps], answer


def _cpu_s(action: Callable[[], object]) -> float:
    """CPU seconds of this process, in which the engine runs."""
    begin = time.process_time()
    action()
    return time.process_time() - begin


def main() -> None:
    """Fills a database, and measures what lies on the disk."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long-runs", type=int, default=6, help="each with as many points in short runs: 6.4 million")
    parser.add_argument("--codecs", action=argparse.BooleanOptionalAction, default=True, help="measure others too")
    parser.add_argument("--repeats", type=int, default=2, help="of each set of codecs; the best counts")
    options = parser.parse_args()
    report = Report("Storage", (__doc__ or "").strip())
    ledger = Ledger()
    with tempfile.TemporaryDirectory() as folder:
        engine = EmbeddedEngine(Path(folder) / "data")
        try:
            migrate(engine)
            begin = time.perf_counter()
            fill(engine, options.long_runs, ledger)
            settle(engine)
            print(f"{ledger.points:,} points are there after {time.perf_counter() - begin:,.0f} s", flush=True)
            ledger.compare(engine)
            measure_points(engine, report, ledger.points)
            measure_kinds(engine, report, sample_runs())
            if options.codecs:
                measure_codecs(engine, report, ledger, sample_runs(), options.repeats)
        finally:
            engine.close()
    if options.long_runs == parser.get_default("long_runs") and options.codecs:
        report.write("storage")
    else:
        print("a part: no report is written")


if __name__ == "__main__":
    main()
