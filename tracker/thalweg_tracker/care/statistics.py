"""What the ingest knows of series, made again of their points: pure NumPy over sorted rows.

A backup holds each point once, so that no flag but HAS_NUMBER is left, and one row a series and part of it is
enough. Which writer a series is ascribed to says only whether others wrote it too: of each rank it is the one whose
training goes on, so that what it writes after a restore joins what is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thalweg_tracker.model import series_flags
from thalweg_tracker.model.keys import WriterKey
from thalweg_tracker.model.rows import STATS

SPANS: Final = pa.schema(
    [("run", pa.uint64()), ("rank", pa.uint16()), ("first_step", pa.float64()), ("last_step", pa.float64())]
)
Place = tuple[int, int]
"""A run's key and a rank."""


@dataclass(frozen=True, slots=True)
class Writers:
    """Whom series are ascribed to, by run and rank: what the training logged, and what the host measured."""

    training: Mapping[Place, WriterKey]
    host: Mapping[Place, WriterKey]

    @staticmethod
    def of(rows: Sequence[Mapping[str, Any]]) -> Writers:
        """From rows of the table `writers`: of a training the primary one that was heard last."""
        ordered = sorted(rows, key=lambda row: (row["primary"], row["last_seen_at"]))
        training = {(row["run"], row["rank"]): WriterKey(row["writer"]) for row in ordered}
        ordered.sort(key=lambda row: (not row["primary"], row["last_seen_at"]))
        host = {(row["run"], row["rank"]): WriterKey(row["writer"]) for row in ordered}
        return Writers(training, host)

    def training_of(self, place: Place) -> WriterKey:
        """The writer of what a training logged."""
        return self.training.get(place) or made_up(place)

    def host_of(self, place: Place) -> WriterKey:
        """The writer of what a host measured."""
        return self.host.get(place) or made_up(place)


def made_up(place: Place) -> WriterKey:
    """A writer of points whose own was not known yet: its first batch was on its way."""
    run, rank = place
    return WriterKey((run + rank + 1) % 2**64)


def series_statistics(points: pa.Table, writers: Writers, of_host: NDArray[np.uint64]) -> pa.Table:
    """Rows of `series_stats_feed`, one a series.

    `points`: sorted by run, metric, rank and step, each once; at least one. `of_host`: keys of the metrics of hosts.
    """
    run, metric, rank, step, value = (points[name].to_numpy() for name in ("run", "metric", "rank", "step", "value"))
    time_us = points["time"].cast(pa.int64()).to_numpy()
    begins = _begins(run, metric, rank)
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(run)) - 1
    series = np.cumsum(begins) - 1
    is_number = ~np.isnan(value)
    low, high = np.where(is_number, value, np.inf), np.where(is_number, value, -np.inf)
    least, greatest = np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)
    has_number = np.logical_or.reduceat(is_number, starts)
    columns: dict[str, NDArray[Any]] = {
        "run": run[starts],
        "metric": metric[starts],
        "rank": rank[starts],
        "writer": _writers(run[starts], rank[starts], np.isin(metric[starts], of_host), writers),
        "flags": np.where(has_number, series_flags.HAS_NUMBER, 0).astype(np.uint8),
        "first_step": step[starts],
        "first_time": time_us[starts],
        "first": value[starts],
        "last_step": step[ends],
        "last_time": time_us[ends],
        "last": value[ends],
        "min": least,
        "argmin": np.minimum.reduceat(np.where(is_number & (low == least[series]), step, np.inf), starts),
        "max": greatest,
        "argmax": np.minimum.reduceat(np.where(is_number & (high == greatest[series]), step, np.inf), starts),
    }
    return pa.table([pa.array(columns[one.name]).cast(one.type) for one in STATS], schema=STATS)


def _begins(run: NDArray[np.uint64], metric: NDArray[np.uint64], rank: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Which rows are the first of a series."""
    found = np.ones(len(run), np.bool_)
    found[1:] = (run[1:] != run[:-1]) | (metric[1:] != metric[:-1]) | (rank[1:] != rank[:-1])
    return found


def _writers(
    run: NDArray[np.uint64], rank: NDArray[np.uint16], is_host: NDArray[np.bool_], writers: Writers
) -> NDArray[np.uint64]:
    """The writer of each series. Runs ascend, and have few ranks."""
    number = np.cumsum(np.append(0, run[1:] != run[:-1]))
    codes = (number << 17) | (rank.astype(np.int64) << 1) | is_host
    _, firsts, where = np.unique(codes, return_index=True, return_inverse=True)
    chosen = [
        (writers.host_of if is_host[first] else writers.training_of)((int(run[first]), int(rank[first])))
        for first in firsts
    ]
    return np.array(chosen, np.uint64)[where]


def spans(statistics: pa.Table, of_host: NDArray[np.uint64]) -> pa.Table:
    """First and last step of what trainings logged, by run and rank: rows of SPANS."""
    logged = statistics.filter(pa.array(~np.isin(statistics["metric"].to_numpy(), of_host)))
    return joined([logged.select(SPANS.names)])


def joined(parts: Sequence[pa.Table]) -> pa.Table:
    """The same of several parts together."""
    found = pa.concat_tables([SPANS.empty_table(), *parts]).group_by(["run", "rank"])
    found = found.aggregate([("first_step", "min"), ("last_step", "max")])
    return found.select(["run", "rank", "first_step_min", "last_step_max"]).rename_columns(SPANS.names).cast(SPANS)
