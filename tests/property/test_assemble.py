"""Columns of random batches to rows: points and statistics are those of a loop, in memory and in the engine."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import wire
from tests.support.engines import opened
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.ingest.assemble import assemble
from thalweg_tracker.ingest.decode import FrameBlock, StreamSchema, Writer
from thalweg_tracker.model import series_flags
from thalweg_tracker.model.keys import RunKey, WriterKey, metric_key
from thalweg_tracker.model.settings import EmbeddedStore

NAMES = ["a", "b", "c", "d"]
KEYS = {name: metric_key(name) for name in NAMES}
STEPS = [0.0, 1.0, 2.0, 3.0, -1.0, 0.5, 1e300]
VALUES = [0.0, 1.0, -1.0, 2.5, math.nan, math.inf, -math.inf, 1e-300]
_runs = itertools.count(1)


@dataclass(frozen=True)
class Point:
    """One point, and what its block said."""

    writer: Writer
    schema: int
    metric: int
    step: float
    time: int
    value: float
    resent: bool
    relogged: bool


@dataclass(frozen=True)
class Logged:
    """Blocks as the decoder makes them, and the points that they mean."""

    blocks: list[FrameBlock]
    points: list[Point]


@st.composite
def logged(draw: st.DrawFn) -> Logged:
    """Up to three writers of one run, on up to two ranks, with two schemas each; times are all different."""
    run = RunKey(next(_runs))
    writers = [
        Writer("p", "r", 0, run, draw(st.integers(0, 1)), wire.writer_id(n), WriterKey(n))
        for n in range(draw(st.integers(1, 3)))
    ]
    schemas = {
        writer.writer: [
            _schema(draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))) for _ in range(2)
        ]
        for writer in writers
    }
    times = itertools.count(wire.START_US)
    blocks: list[FrameBlock] = []
    points: list[Point] = []
    for _ in range(draw(st.integers(1, 6))):
        writer = draw(st.sampled_from(writers))
        number = draw(st.integers(0, 1))
        names, schema = schemas[writer.writer][number]
        steps = draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=6))
        rows = [[draw(st.sampled_from(VALUES)) for _ in names] for _ in steps]
        told = [next(times) for _ in steps]
        resent, relogged = draw(st.booleans()), draw(st.booleans())
        blocks.append(
            FrameBlock(writer, schema, np.array(steps), np.array(told), np.array(rows, float), resent, relogged)
        )
        points += [
            Point(writer, id(schema), KEYS[name], step, time, value, resent, relogged)
            for step, time, row in zip(steps, told, rows, strict=True)
            for name, value in zip(names, row, strict=True)
        ]
    return Logged(blocks, points)


def _schema(names: Sequence[str]) -> tuple[list[str], StreamSchema]:
    keys = np.array([KEYS[name] for name in names], np.uint64)
    order = np.argsort(keys)
    return list(names), StreamSchema(keys[order], order, np.zeros(len(names), np.bool_), len(names))


def told(value: float) -> float | str:
    """Such that NaN equals NaN."""
    return "NaN" if math.isnan(value) else value


def summary(points: Sequence[Point]) -> dict[str, Any]:
    """Statistics of one series, by a loop."""
    numbers = [point for point in points if not math.isnan(point.value)]
    first = min(points, key=lambda point: (point.step, -point.time))
    last = max(points, key=lambda point: (point.step, point.time))
    least = min(numbers, key=lambda point: (point.value, point.step), default=None)
    most = min(numbers, key=lambda point: (-point.value, point.step), default=None)
    return {
        "first_step": first.step,
        "first": told(first.value),
        "last_step": last.step,
        "last": told(last.value),
        "min": least and least.value,
        "argmin": least and least.step,
        "max": most and most.value,
        "argmax": most and most.step,
    }


def flags(points: Sequence[Point]) -> int:
    """What cannot be relied on, by a loop."""
    repeated = len({point.step for point in points}) < len(points)
    return (
        (series_flags.HAS_NUMBER if any(not math.isnan(point.value) for point in points) else 0)
        | (series_flags.RESENT if any(point.resent for point in points) else 0)
        | (series_flags.RELOGGED if repeated or any(point.relogged for point in points) else 0)
    )


def row_summary(row: dict[str, Any]) -> dict[str, Any]:
    """The same of a row of statistics."""
    has_number = bool(row["flags"] & series_flags.HAS_NUMBER)
    extremes = ("min", "argmin", "max", "argmax")
    return {key: row[key] if has_number else None for key in extremes} | {
        "first_step": row["first_step"],
        "first": told(row["first"]),
        "last_step": row["last_step"],
        "last": told(row["last"]),
    }


@settings(deadline=None)
@given(logged())
def test_rows_are_those_of_a_loop(some: Logged) -> None:
    """Each point is one row, whatever the order of steps; each series, writer and schema has one of statistics."""
    rows = assemble(some.blocks)
    columns = ("run", "metric", "rank", "step", "value")
    found = sorted(
        (*(str(row[column]) for column in columns), round(row["time"].timestamp() * 1e6))
        for row in rows.points.to_pylist()
    )
    assert found == sorted(
        (str(p.writer.run), str(p.metric), str(p.writer.rank), str(p.step), str(p.value), p.time) for p in some.points
    )
    series: dict[tuple[int, int, int], list[Point]] = defaultdict(list)
    for point in some.points:
        series[point.writer.writer, point.schema, point.metric].append(point)
    wanted = [(*key[::2], points[0].writer.rank, summary(points), flags(points)) for key, points in series.items()]
    stats = [
        (row["writer"], row["metric"], row["rank"], row_summary(row), row["flags"]) for row in rows.stats.to_pylist()
    ]
    assert sorted(stats, key=_by_content) == sorted(wanted, key=_by_content)


def _by_content(row: tuple[int, int, int, dict[str, Any], int]) -> str:
    *labels, numbers, flags = row
    return str((labels, sorted(numbers.items()), flags))


@settings(deadline=None)
@given(logged())
def test_points_of_a_series_lie_together(some: Logged) -> None:
    """Within a writer and schema metrics ascend, then steps, then times: the order of the table."""
    for block in some.blocks:
        rows = assemble([one for one in some.blocks if one.schema is block.schema]).points
        order = list(zip(*(rows[column].to_pylist() for column in ("metric", "step", "time")), strict=True))
        assert order == sorted(order)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A database for all examples; each has a run of its own."""
    with opened(EmbeddedStore(tmp_path_factory.mktemp("assemble") / "data")) as engine:
        migrate(engine)
        yield engine


STATS = """SELECT
    s.metric AS metric, s.rank AS rank, s.writer AS writer, groupBitOr(s.flags) AS flags,
    min(s.first_step) AS first_step, max(s.last_step) AS last_step,
    min(s.first).3 AS first, max(s.last).3 AS last,
    min(s.least).1 AS min, min(s.least).2 AS argmin, max(s.greatest).1 AS max, -max(s.greatest).2 AS argmax
FROM series_stats AS s WHERE s.run = {run:UInt64} GROUP BY metric, rank, writer"""


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(logged(), st.randoms(use_true_random=False))
def test_the_engine_keeps_the_same_in_any_order(engine: Engine, some: Logged, random: Any) -> None:
    """Batches that come in any order, some of them twice, leave the statistics and the points of one delivery."""
    deliveries = [[block] for block in some.blocks] + [[replace(block, resent=True)] for block in some.blocks]
    random.shuffle(deliveries)
    deliveries.append(some.blocks)
    for blocks in deliveries:
        rows = assemble(blocks)
        engine.insert("points", rows.points)
        engine.insert("series_stats_feed", rows.stats)
    where = {"run": some.points[0].writer.run}
    series: dict[tuple[int, int], list[Point]] = defaultdict(list)
    for point in some.points:
        series[point.writer.writer, point.metric].append(point)
    found = {(row["writer"], row["metric"]): row for row in engine.query(STATS, where).to_pylist()}
    assert {key: row_summary(row) for key, row in found.items()} == {k: summary(v) for k, v in series.items()}
    latest: dict[tuple[int, int, float], Point] = {}
    for point in sorted(some.points, key=lambda point: point.time):
        latest[point.metric, point.writer.rank, point.step] = point
    rows = engine.query("SELECT metric, rank, step, value FROM points FINAL WHERE run = {run:UInt64}", where)
    assert sorted((row["metric"], row["rank"], row["step"], str(row["value"])) for row in rows.to_pylist()) == sorted(
        (*key, str(point.value)) for key, point in latest.items()
    )
