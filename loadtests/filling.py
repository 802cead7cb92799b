"""Fills a database with the code of the ingest, without client, network or spool, and compares what is there then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.ingest.assemble import assemble
from thalweg_tracker.ingest.checkpoints import checkpoint_rows
from thalweg_tracker.ingest.decode import FrameBlock, StreamSchema, Writer
from thalweg_tracker.ingest.events import WriterNews, attribute_rows, branch_rows, writer_rows
from thalweg_tracker.ingest.registry import RUN_METRICS, Registry
from thalweg_tracker.lineage.chain import Branch, Lineage
from thalweg_tracker.lineage.tree import Origin
from thalweg_tracker.model.keys import WriterKey, metric_key, run_key
from thalweg_tracker.runs.store import BRANCHES, greeted_row, write_branches

PROJECT = "bench"
START_US = 1_750_000_000_000_000
INSERT_POINTS = 500_000
Clock = Callable[[NDArray[np.float64]], NDArray[np.int64]]
"""Times in microseconds of some steps. They have to increase with the step."""


def each_us(steps: NDArray[np.float64]) -> NDArray[np.int64]:
    """A step each microsecond."""
    return START_US + steps.astype(np.int64)


class Ledger:
    """Count and checksum of each series that was written; a checksum ties step, time and value together. One thread."""

    def __init__(self) -> None:
        self._parts: list[tuple[NDArray[np.uint64], ...]] = []  # run, metric, points, checksum of each series
        self.points = 0

    def add_all(self, blocks: Iterable[FrameBlock]) -> None:
        """Notes what is about to be written. Steps are whole numbers from 0 on, and nothing is written twice."""
        for block in blocks:
            self._add(block)

    def _add(self, block: FrameBlock) -> None:
        keys = block.schema.keys
        odd = 2 * block.steps.astype(np.uint64) + 1
        # Of 64 bits: what is above is lost on both sides.
        sums = (odd @ block.values.view(np.uint64))[block.schema.order] + odd @ block.times.astype(np.uint64)
        run, count = (np.full(len(keys), number, np.uint64) for number in (block.writer.run, len(block.steps)))
        self._parts.append((run, keys, count, sums))
        self.points += block.points

    def compare(self, engine: Engine, table: str = "points", runs: Iterable[int] | None = None) -> None:
        """Reads all points of these runs, or of all, and compares. Raises AssertionError."""
        run, metric, *numbers = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        if runs is not None:
            chosen = np.isin(run, np.fromiter(runs, np.uint64))
            run, metric, numbers = run[chosen], metric[chosen], [column[chosen] for column in numbers]
        order = np.lexsort((metric, run))
        run, metric = run[order], metric[order]
        starts = np.flatnonzero(np.append(True, (np.diff(run) != 0) | (np.diff(metric) != 0)))
        expected = [run[starts], metric[starts], *(np.add.reduceat(column[order], starts) for column in numbers)]
        found = engine.query(_CHECKSUMS.format(table=table))
        for name, wanted in zip(("run", "metric", "points", "checksum"), expected, strict=True):
            assert np.array_equal(found[name].to_numpy(), wanted), (
                f"{name} of series in {table} is not what was written"
            )


_CHECKSUMS = """
SELECT
    run,
    metric,
    count() AS points,
    sum((reinterpretAsUInt64(value) + toUInt64(toUnixTimestamp64Micro(time))) * (2 * toUInt64(step) + 1)) AS checksum
FROM {table}
GROUP BY run, metric
ORDER BY run, metric
"""


def stream_schema(names: list[str]) -> StreamSchema:
    """The schema of frames whose values have these names."""
    pairs = sorted((metric_key(name), column) for column, name in enumerate(names))
    keys = np.array([key for key, _ in pairs], np.uint64)
    order = np.array([column for _, column in pairs], np.intp)
    return StreamSchema(keys, order, np.zeros(len(names), np.bool_), len(names))


def writer_of(run_id: str) -> Writer:
    """The one writer of a run."""
    key = run_key(PROJECT, run_id)
    return Writer(PROJECT, run_id, 0, key, 0, f"{key:016x}" * 2, WriterKey(key))


class Filler:
    """Writes what the ingest would write, and notes the points in a ledger, if it has one."""

    def __init__(self, engine: Engine, ledger: Ledger | None = None) -> None:
        self._engine = engine
        self._registry = Registry(engine)
        self._ledger = ledger

    def log(
        self,
        run_id: str,
        names: list[str],
        steps: NDArray[np.float64],
        values: NDArray[np.float64],
        clock: Clock = each_us,
    ) -> None:
        """Points of a run: values[i, j] at steps[i] of names[j]. The run has to be there."""
        self.log_runs(names, [(run_id, steps, values)], clock)

    def log_runs(
        self,
        names: list[str],
        runs: Iterable[tuple[str, NDArray[np.float64], NDArray[np.float64]]],
        clock: Clock = each_us,
    ) -> None:
        """The same of several runs, as (run, steps, values)."""
        schema = stream_schema(names)
        blocks: list[FrameBlock] = []
        own: list[dict[str, int | str]] = []
        news: list[WriterNews] = []
        waiting = 0
        frames = max(1, INSERT_POINTS // len(names))
        for run_id, steps, values in runs:
            writer = writer_of(run_id)
            if not own:
                self._registry.register_names(PROJECT, writer.run, [(metric_key(name), name) for name in names])
            span = (float(steps.min()), float(steps.max()))
            news.append(WriterNews(writer, [], {}, START_US, 0, *span))
            own += [{"run": writer.run, "name": name, "metric": metric_key(name)} for name in names]
            for start in range(0, len(steps), frames):
                part = slice(start, start + frames)
                blocks.append(FrameBlock(writer, schema, steps[part], clock(steps[part]), values[part], False, False))
                waiting += blocks[-1].points
                if waiting >= INSERT_POINTS:
                    self._insert(blocks)
                    blocks, waiting = [], 0
        self._insert(blocks)
        self._engine.insert("run_metrics", pa.Table.from_pylist(own, schema=RUN_METRICS))
        self._engine.insert("writers", writer_rows(news))

    def _insert(self, blocks: list[FrameBlock]) -> None:
        if blocks:
            if self._ledger is not None:
                self._ledger.add_all(blocks)
            rows = assemble(blocks)
            self._engine.insert("points", rows.points)
            self._engine.insert("series_stats_feed", rows.stats)

    def add_runs(self, run_ids: list[str]) -> None:
        """Runs from nothing."""
        rows = [greeted_row(PROJECT, Branch(run_id), run_key(PROJECT, run_id), START_US) for run_id in run_ids]
        self._engine.insert("branches", pa.Table.from_pylist(rows, schema=BRANCHES))

    def tell(self, events: Iterable[tuple[str, list[pb.Event]]]) -> None:
        """What the writers of some runs say: that they started, attributes, that they ended."""
        news = [WriterNews(writer_of(run_id), some, {}, some[-1].time_us, sequence=1) for run_id, some in events]
        self._engine.insert("branches", branch_rows(news))
        self._engine.insert("attributes", attribute_rows(news))
        self._engine.insert("writers", writer_rows(news))

    def add_forks(self, forks: list[tuple[str, str, float, Lineage]]) -> None:
        """Forks whose trainings have begun: run, parent, step, its lineage."""
        self.add_runs([run_id for run_id, _, _, _ in forks])
        made = [
            (Origin(Branch(run_id), "fork", parent, 0, step, "", START_US + place), lineage)
            for place, (run_id, parent, step, lineage) in enumerate(forks)
        ]
        write_branches(self._engine, PROJECT, made, version=1)

    def add_checkpoints(self, run_id: str, steps: range, uri: str) -> None:
        """A complete checkpoint at each step."""
        durable = pb.CheckpointSaved.DURABLE
        saved = [
            pb.Event(
                time_us=START_US + step,
                checkpoint=pb.CheckpointSaved(
                    step=step, kind="full", uri=uri, state=durable, shards=1, saved_us=START_US + step
                ),
            )
            for step in steps
        ]
        key = run_key(PROJECT, run_id)
        self._engine.insert("checkpoints", checkpoint_rows((PROJECT, key, event) for event in saved))


def settle(engine: Engine, timeout_s: float = 600) -> None:
    """Waits until the database has merged what it merges by itself."""
    quiet = 0
    deadline = time.monotonic() + timeout_s
    while quiet < 5:
        assert time.monotonic() < deadline, f"merges went on for {timeout_s} s"
        time.sleep(0.5)
        merges = engine.query("SELECT count() AS merges FROM system.merges")["merges"][0].as_py()
        quiet = 0 if merges else quiet + 1
