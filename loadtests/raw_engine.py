"""Rows a second into `points` of the embedded engine with nothing around it: the most that any ingest could reach.

The rows are those that the ingest makes of the load `wide`: the frames of two clients, a million points at a time,
sorted by series, two inserts in flight. The rows that can be read are counted and summed afterwards.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from thalweg.bench.frames import Frames
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.model import limits
from thalweg_tracker.model.rows import POINTS

_POOL = 8


class RowPool:
    """Batches of rows: values take turns, steps go on. Making one takes a few milliseconds."""

    def __init__(self, metrics: int, clients: int = 2) -> None:
        self.steps = limits.COMMIT_MAX_ROWS // metrics // clients
        series = clients * metrics
        self.rows = self.steps * series
        self.keys = np.sort(np.random.default_rng(1).integers(0, 2**63, metrics, dtype=np.uint64))
        """Of the metrics, in their order."""
        self._run = pa.array(np.repeat(np.arange(1, clients + 1, dtype=np.uint64), self.steps * metrics))
        self._metric = pa.array(np.tile(np.repeat(self.keys, self.steps), clients))
        self._rank = pa.array(np.zeros(self.rows, np.uint16))
        self._step = np.tile(np.arange(self.steps, dtype=float), series)
        frames = [Frames.of(metrics, seed) for seed in range(clients)]
        self.values = []
        for number in range(_POOL):
            steps = np.arange(number * self.steps, (number + 1) * self.steps)
            self.values.append(np.concatenate([one.values(steps).T.ravel() for one in frames]))

    def values_of_first_run(self, number: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The values of one insert in the first run: metrics x steps, float64."""
        metrics = len(self.keys)
        return self.values[number % _POOL][: metrics * self.steps].reshape(metrics, self.steps)

    def batch(self, number: int) -> pa.Table:
        """The rows of one insert."""
        step = self._step + number * self.steps
        times = 1_700_000_000_000_000 + (step * 1000).astype(np.int64)
        columns = [
            self._run,
            self._metric,
            self._rank,
            pa.array(step),
            pa.array(times).view(pa.timestamp("us", "UTC")),
            pa.array(self.values[number % _POOL]),
        ]
        return pa.Table.from_arrays(columns, schema=POINTS)


def raw_rows_per_second(folder: Path, metrics: int, seconds: float) -> float:
    """Inserts for so long into a new database. Raises AssertionError if a row is not there afterwards."""
    engine = EmbeddedEngine(folder)
    try:
        migrate(engine)
        pool = RowPool(metrics)
        numbers = count()
        ends_at = time.perf_counter() + seconds

        def work() -> list[int]:
            done = []
            while time.perf_counter() < ends_at:
                number = next(numbers)  # a call in C, which no other thread interrupts
                engine.insert("points", pool.batch(number))
                done.append(number)
            return done

        begin = time.perf_counter()
        with ThreadPoolExecutor(limits.COMMITS_IN_FLIGHT) as threads:
            jobs = [threads.submit(work) for _ in range(limits.COMMITS_IN_FLIGHT)]
            done = [number for job in jobs for number in job.result()]
        took_s = time.perf_counter() - begin
        (found,) = engine.query("SELECT count() AS n, sum(value) AS total FROM points FINAL").to_pylist()
        total = sum(float(pool.values[number % _POOL].sum()) for number in done)
        assert found["n"] == len(done) * pool.rows, (found, len(done))
        assert abs(found["total"] - total) < 1e-6 * total, (found, total)
        return len(done) * pool.rows / took_s
    finally:
        engine.close()
