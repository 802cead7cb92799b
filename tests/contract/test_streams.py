"""Exact series as a stream, on both engines: the same rows in pieces as in one answer."""

from __future__ import annotations

import httpx
import pyarrow as pa
import pytest

from tests.support import wire
from tests.support.engines import on_clusters_too
from tests.support.tracker import Tracker
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.model import limits
from thalweg_tracker.query.lineage import RunRef, find_views
from thalweg_tracker.query.series import SeriesRequest, read_series, stream_series

pytestmark = on_clusters_too


@pytest.fixture
def tracker(engine: Engine) -> Tracker:
    """Two ranks of a run, its fork, and a run beside them; metrics `a` and `b`, some steps uneven."""
    migrate(engine)
    tracker = Tracker(engine, httpx.Client())
    for rank in (0, 1):
        log(tracker, wire.hello("base", 1 + rank, rank), [float(step**2) for step in range(30)], rank)
    fork = pb.Origin(kind=pb.Origin.FORK, parent_run_id="base", step=100.0)
    greeting = wire.hello("kid", 5)
    greeting.origin.CopyFrom(fork)
    log(tracker, greeting, [float(step) for step in range(101, 130)], 7)
    log(tracker, wire.hello("plain", 6), [float(step) for step in range(25)], 9)
    return tracker


def log(tracker: Tracker, greeting: pb.Hello, steps: list[float], salt: int) -> None:
    rows = [[step + salt, -step - salt] for step in steps]
    tracker.take(greeting, wire.batch(1, ["a", "b"], steps, rows))


@pytest.mark.parametrize("by_rank", [False, True])
@pytest.mark.parametrize("runs", [["kid"], ["base"], ["kid", "base", "plain"]])
@pytest.mark.parametrize("bounds", [(None, None), (3.0, 110.0)])
def test_pieces(
    tracker: Tracker,
    runs: list[str],
    by_rank: bool,
    bounds: tuple[float | None, float | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    views = find_views(tracker.engine, wire.PROJECT, [RunRef(run_id) for run_id in runs])
    request = SeriesRequest(views, ["a", "b"], *bounds, by_rank=by_rank)
    whole = read_series(tracker.engine, request)
    assert whole is not None
    labels = ["run", "metric", "rank"] if by_rank else ["run", "metric"]
    monkeypatch.setattr(limits, "STREAM_SORT_ROWS", 8)
    batches = [batch for batch in stream_series(tracker.engine, request) if batch.num_rows]
    lies_in_order = by_rank and runs == ["base"]
    assert (len(batches) > len(runs)) != lies_in_order
    streamed = pa.Table.from_batches(batches)
    sorted_rows = [(*labels, "x")]
    assert sorted_by(streamed, *sorted_rows) == sorted_by(whole, *sorted_rows)
    seen: dict[tuple[int, ...], list[float]] = {}
    order: list[tuple[int, ...]] = []
    for row in streamed.to_pylist():
        key = tuple(row[name] for name in labels)
        seen.setdefault(key, []).append(row["x"])
        if not order or order[-1] != key:
            order.append(key)
    assert len(order) == len(seen), "a series came in parts"
    assert all(steps == sorted(set(steps)) for steps in seen.values())


def sorted_by(table: pa.Table, columns: tuple[str, ...]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = table.sort_by([(name, "ascending") for name in columns]).to_pylist()
    return rows
