"""Rows a second into `points` of the embedded engine, with nothing around it: two ways, one and two at a time.

The rows are those that the ingest makes: 500,000 at a time, sorted by series, noisy float32 values, 1,000
metrics of one run. After each variant the number of rows that are readable is compared.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chdb
import numpy as np
import pyarrow as pa

from loadtests.report import Report
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.ingest.assemble import POINTS

METRICS = 1000
STEPS = 500
ROWS = METRICS * STEPS


def make_rows(run: int, batch: int) -> pa.Table:
    """One batch of rows, sorted by (metric, step)."""
    keys = np.sort(np.random.default_rng(1).integers(0, 2**63, METRICS, dtype=np.uint64))
    steps = np.arange(batch * STEPS, (batch + 1) * STEPS, dtype=float)
    noise = np.abs(np.random.default_rng(batch).normal(1.0, 0.2, ROWS)).astype(np.float32)
    times = (1_700_000_000_000_000 + np.tile(steps, METRICS) * 1000).astype(np.int64)
    columns = [
        pa.array(np.full(ROWS, run, np.uint64)),
        pa.array(np.repeat(keys, STEPS)),
        pa.array(np.zeros(ROWS, np.uint16)),
        pa.array(np.tile(steps, METRICS)),
        pa.array(times).view(pa.timestamp("us", "UTC")),
        pa.array(noise.astype(np.float64)),
    ]
    return pa.Table.from_arrays(columns, schema=POINTS)


def send_insert(folder: Path) -> Callable[[pa.Table], None]:
    """The other way that chDB has: a stream of bytes. It reports success even if the table refuses the rows."""
    local = threading.local()

    def insert(rows: pa.Table) -> None:
        connection: Any = getattr(local, "connection", None)
        if connection is None:
            connection = local.connection = chdb.connect(str(folder / "clickhouse"))  # type: ignore[no-untyped-call]  # ships no types
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        with connection.send_insert("INSERT INTO thalweg.points", "ArrowStream") as stream:
            stream.append(memoryview(sink.getvalue()))
            stream.finish()

    return insert


def rows_per_second(insert: Callable[[pa.Table], None], batches: list[pa.Table], in_flight: int) -> float:
    """Inserts all batches with so many threads."""
    left = iter(batches)
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                rows = next(left, None)
            if rows is None:
                return
            insert(rows)

    threads = [threading.Thread(target=work) for _ in range(in_flight)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(batches) * ROWS / (time.perf_counter() - begin)


def main() -> None:
    """Measures the variants in turn, several times, and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batches", type=int, default=20)
    options = parser.parse_args()
    report = Report("Embedded engine alone", (__doc__ or "").strip())
    with tempfile.TemporaryDirectory() as text:
        engine = EmbeddedEngine(Path(text))
        migrate(engine)
        ways = {"Python(rows)": lambda rows: engine.insert("points", rows), "send_insert": send_insert(Path(text))}
        rates: dict[tuple[str, int], list[float]] = {pair: [] for pair in itertools.product(ways, (1, 2))}
        run = 0
        for _ in range(options.repeats):
            for way, in_flight in rates:
                run += 1
                batches = [make_rows(run, batch) for batch in range(options.batches)]
                rates[way, in_flight].append(rows_per_second(ways[way], batches, in_flight))
                found = engine.query("SELECT count() AS n FROM points WHERE run = {run:UInt64}", {"run": run})
                assert found["n"][0].as_py() == options.batches * ROWS, found
        for (way, in_flight), values in rates.items():
            report.add(f"{way}, {in_flight} in flight", "rows/s", values)
        engine.close()
    report.write("embedded_insert")


if __name__ == "__main__":
    main()
