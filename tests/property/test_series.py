"""Series read from the engine are those of a loop over points: exact, in buckets, by rank, between any steps."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import wire
from tests.support.engines import opened
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.ingest.assemble import assemble
from thalweg_tracker.ingest.decode import StreamDecoder
from thalweg_tracker.lineage.chain import Branch, root
from thalweg_tracker.model import limits
from thalweg_tracker.model.settings import EmbeddedStore
from thalweg_tracker.query.lineage import view_of
from thalweg_tracker.query.series import SeriesRequest, answer_schema, read_series, stream_series, with_names

STEPS = st.one_of(st.integers(-5, 20).map(float), st.sampled_from([0.5, -2.25, 1e9, -1e9, 7.125]))
VALUES = st.sampled_from([0.0, 1.0, -1.0, 1000.0, -1000.0, 0.25, math.nan, math.inf, -math.inf])
_runs = itertools.count(1)


@dataclass(frozen=True)
class Case:
    """What one writer after the other logged, frame by frame, and what is asked."""

    writers: list[tuple[int, list[tuple[float, float]]]]  # rank, (step, value)
    points: int
    from_step: float | None
    to_step: float | None
    by_rank: bool


CASES = st.builds(
    Case,
    writers=st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.tuples(STEPS, VALUES), min_size=1, max_size=30)),
        min_size=1,
        max_size=4,
    ),
    points=st.sampled_from([1, 2, 3, 10, 1000]),
    from_step=st.none() | STEPS,
    to_step=st.none() | STEPS,
    by_rank=st.booleans(),
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A database for all examples; each has a run of its own. What is streamed comes in small pieces."""
    with (
        opened(EmbeddedStore(tmp_path_factory.mktemp("series") / "data")) as engine,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(limits, "STREAM_SORT_ROWS", 5)
        migrate(engine)
        yield engine


def mean(values: list[float]) -> float:
    """NaN of opposite infinities, as floating-point addition has it."""
    total = 0.0
    for value in values:
        total += value
    return total / len(values)


def same(value: float) -> Any:
    """Equal to it but for rounding; NaN to NaN."""
    return pytest.approx(value, rel=1e-12, abs=1e-9, nan_ok=True)


def log(engine: Engine, case: Case) -> tuple[SeriesRequest, dict[int, dict[float, float]]]:
    """Stores it. Returns the question, and the points that stand: by rank and step, the latest time."""
    run_id = f"r{next(_runs)}"
    standing: dict[int, dict[float, float]] = defaultdict(dict)
    times = itertools.count(wire.START_US)
    for number, (rank, frames) in enumerate(case.writers):
        writer = wire.writer(wire.hello(run_id, number + 1, rank))
        seen: set[float] = set()
        batches = []
        for step, value in frames:
            time_us = [next(times)]
            batches.append(wire.batch(1, ["m"], [step], [[value]], time_us, relogged=step in seen))
            seen.add(step)
            standing[rank][step] = value
        decoder = StreamDecoder(writer)
        rows = assemble([block for batch in batches for block in decoder.decode(batch).blocks])
        engine.insert("points", rows.points)
        engine.insert("series_stats_feed", rows.stats)
    request = SeriesRequest(
        [view_of(wire.PROJECT, root(Branch(run_id)))], ["m"], case.from_step, case.to_step, case.points, case.by_rank
    )
    return request, standing


def expected(case: Case, standing: dict[int, dict[float, float]]) -> dict[int, list[tuple[float, float]]]:
    """The exact series by rank, or the mean over ranks as that of rank 0, between the steps asked for."""
    series: dict[int, list[tuple[float, float]]] = {}
    if case.by_rank:
        series = {rank: sorted(points.items()) for rank, points in standing.items()}
    else:
        steps = sorted({step for points in standing.values() for step in points})
        values = [[points[step] for points in standing.values() if step in points] for step in steps]
        series = {0: [(step, mean(told)) for step, told in zip(steps, values, strict=True)]}
    low = -math.inf if case.from_step is None else case.from_step
    high = math.inf if case.to_step is None else case.to_step
    parts = {rank: [pair for pair in pairs if low <= pair[0] <= high] for rank, pairs in series.items()}
    return {rank: pairs for rank, pairs in parts.items() if pairs}


def rows_by_rank(engine: Engine, request: SeriesRequest) -> dict[int, list[dict[str, Any]]]:
    """The answer, read at once; asserts that the stream says the same in the same types."""
    table = read_series(engine, request)
    rows: list[dict[str, Any]] = [] if table is None else with_names(table, request).to_pylist()
    streamed = [with_names(batch, request) for batch in stream_series(engine, request)]
    assert repr([row for batch in streamed for row in batch.to_pylist()]) == repr(rows)
    assert all(batch.schema == answer_schema(request) for batch in streamed)
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row.get("rank", 0)].append(row)
    return dict(found)


SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(CASES)
def test_exact_series(engine: Engine, case: Case) -> None:
    """Each step once, ascending, with the value whose time is latest; the mean over ranks, or each rank."""
    request, standing = log(engine, case)
    asked = SeriesRequest(request.views, ["m"], case.from_step, case.to_step, None, case.by_rank)
    found = {rank: [(row["x"], row["value"]) for row in rows] for rank, rows in rows_by_rank(engine, asked).items()}
    wanted = expected(case, standing)
    assert {rank: [step for step, _ in pairs] for rank, pairs in found.items()} == {
        rank: [step for step, _ in pairs] for rank, pairs in wanted.items()
    }
    for rank, pairs in wanted.items():
        assert [value for _, value in found[rank]] == [same(value) for _, value in pairs]


@SETTINGS
@given(CASES)
def test_buckets_lose_nothing(engine: Engine, case: Case) -> None:
    """Each point is in one bucket, each bucket says of its points what a loop says: no spike disappears."""
    request, standing = log(engine, case)
    found = rows_by_rank(engine, request)
    wanted = expected(case, standing)
    assert set(found) == set(wanted)
    steps = [step for pairs in wanted.values() for step, _ in pairs]
    width = (max(steps) - min(steps)) / case.points if steps else 0.0
    for rank, rows in found.items():
        begins = [row["x"] for row in rows]
        assert begins == sorted(set(begins))
        assert len(rows) <= case.points
        left = iter(wanted[rank])
        pair = next(left, None)
        for row, end in zip(rows, [*begins[1:], math.inf], strict=True):
            inside = []
            while pair is not None and pair[0] < end:
                inside.append(pair)
                pair = next(left, None)
            check_bucket(row, inside, width if case.from_step is None and case.to_step is None else math.inf)
        assert pair is None


def check_bucket(row: dict[str, Any], inside: list[tuple[float, float]], width: float) -> None:
    """One bucket against its points."""
    numbers = [value for _, value in inside if not math.isnan(value)]
    assert row["x"] == inside[0][0]
    assert inside[-1][0] - inside[0][0] <= width * (1 + 1e-9)
    assert (row["n"], row["nans"]) == (len(inside), len(inside) - len(numbers))
    assert row["min"] == same(min(numbers, default=math.nan))
    assert row["max"] == same(max(numbers, default=math.nan))
    assert row["mean"] == same(mean(numbers) if numbers else math.nan)
    assert (row["first"], row["last"]) == (same(inside[0][1]), same(inside[-1][1]))
