"""Series: points of many runs and metrics at once, exact or in buckets, reduced in the database.

A plan comes first (from `series_stats`): which series are there, over which steps, how many ranks, and
whether rows may be there twice. Only series that need it pay for FINAL or for the mean over ranks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from thalweg_tracker.engine.contract import Engine, Parameters
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import RunKey, metric_key
from thalweg_tracker.sql import load

_EVERY_RANK: Final = "SELECT run, metric, rank, step AS x, value, time FROM ({points}) ORDER BY run, metric, rank, x"
_MEAN_OF_RANKS: Final = """SELECT run, metric, step AS x, avg(value) AS value, max(p.time) AS time
FROM ({points}) AS p GROUP BY run, metric, step ORDER BY run, metric, x"""
_ONE_RANK: Final = "SELECT run, metric, step AS x, value, time FROM ({points}) ORDER BY run, metric, x"
_BUCKETS: Final = """SELECT
    run, metric{rank},
    toUInt32(greatest(0, least({buckets:Float64} - 1,
        floor((p.x / 2 - {half_low:Float64}) / {half_span:Float64} * {buckets:Float64})))) AS bucket,
    min(p.x) AS x,
    if(n = nans, nan, minIf(p.value, NOT isNaN(p.value))) AS min,
    if(n = nans, nan, maxIf(p.value, NOT isNaN(p.value))) AS max,
    if(n = nans, nan, avgIf(p.value, NOT isNaN(p.value))) AS mean,
    argMin(p.value, p.x) AS first,
    argMax(p.value, p.x) AS last,
    count() AS n,
    countIf(isNaN(p.value)) AS nans
FROM ({series}) AS p
GROUP BY run, metric{rank}, bucket
ORDER BY run, metric{rank}, bucket"""


@dataclass(frozen=True, slots=True)
class SeriesRequest:
    """What is asked for. Steps are included at both ends; None: unbounded. `points` None: exact."""

    runs: Mapping[RunKey, str]  # key -> run_id, in the order of the answer
    metrics: Sequence[str]
    from_step: float | None = None
    to_step: float | None = None
    points: int | None = None
    by_rank: bool = False


@dataclass(frozen=True, slots=True)
class _Part:
    """Series that are read by one query."""

    runs: list[int]
    metrics: list[int]
    has_copies: bool
    has_ranks: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    parts: list[_Part]
    low: float
    high: float


def read_series(engine: Engine, request: SeriesRequest) -> pa.Table | None:
    """The whole answer in long form, as `stream_series` gives it. Raises RejectedError past EXACT_POINTS_MAX."""
    limit = limits.EXACT_POINTS_MAX + 1
    tables = []
    for sql, parameters in _queries(engine, request):
        tables.append(engine.query(f"{sql}\nLIMIT {limit}", parameters, limits.QUERY_TIMEOUT_S))
        limit -= tables[-1].num_rows
        if limit <= 0:
            raise RejectedError(
                "too_many_points",
                f"the answer has more than {limits.EXACT_POINTS_MAX} points",
                "Ask for `points` buckets, for fewer series, for a part with `from` and `to`, or for an Arrow stream.",
            )
    return pa.concat_tables(tables) if tables else None


def stream_series(engine: Engine, request: SeriesRequest) -> Iterator[pa.RecordBatch]:
    """The answer in batches: run, metric (keys), [rank], x, then value and time, or the columns of buckets.

    Ordered by series, then x, within each part; a series lies in one part.
    """
    for sql, parameters in _queries(engine, request):
        yield from engine.stream(sql, parameters)


def _queries(engine: Engine, request: SeriesRequest) -> Iterator[tuple[str, Parameters]]:
    plan = _plan(engine, request)
    low = plan.low if request.from_step is None else max(plan.low, request.from_step)
    high = plan.high if request.to_step is None else min(plan.high, request.to_step)
    for part in plan.parts:
        parameters: dict[str, Any] = {
            "runs": part.runs,
            "metrics": part.metrics,
            "from_step": -math.inf if request.from_step is None else request.from_step,
            "to_step": math.inf if request.to_step is None else request.to_step,
        }
        points = load("points").replace("{final}", "FINAL" if part.has_copies else "")
        form = _EVERY_RANK if request.by_rank else _MEAN_OF_RANKS if part.has_ranks else _ONE_RANK
        sql = form.replace("{points}", points)
        if request.points is not None:
            rank = ", rank" if request.by_rank else ""
            sql = _BUCKETS.replace("{rank}", rank).replace("{series}", sql)
            parameters |= {
                "half_low": low / 2,
                "half_span": max(high / 2 - low / 2, 0.0) or 1.0,  # halves: a difference of doubles may overflow
                "buckets": float(request.points),
            }
        yield sql, parameters


def _plan(engine: Engine, request: SeriesRequest) -> _Plan:
    """Sorts the series that are there by how they must be read. Raises RejectedError past SERIES_MAX_PER_REQUEST."""
    asked = len(request.runs) * len(request.metrics)
    if asked > limits.SERIES_MAX_PER_REQUEST:
        raise RejectedError(
            "too_many_series", f"{asked} series asked for; at most {limits.SERIES_MAX_PER_REQUEST} at once"
        )
    keys = [metric_key(name) for name in request.metrics]
    where: Parameters = {"runs": list(request.runs), "metrics": keys}
    rows = engine.query(load("series_plan"), where, limits.QUERY_TIMEOUT_S).to_pylist()
    parts: dict[tuple[bool, bool], _Part] = {}
    for row in rows:
        kind = bool(row["has_copies"]), row["ranks"] > 1
        part = parts.setdefault(kind, _Part([], [], *kind))
        part.runs.append(row["run"])
        part.metrics.append(row["metric"])
    low = min((row["first_step"] for row in rows), default=0.0)
    high = max((row["last_step"] for row in rows), default=0.0)
    return _Plan(list(parts.values()), low, high)


def answer_schema(request: SeriesRequest) -> pa.Schema:
    """The columns of an answer with names."""
    labels = [("run_id", pa.dictionary(pa.int32(), pa.string())), ("name", pa.dictionary(pa.int32(), pa.string()))]
    if request.by_rank:
        labels.append(("rank", pa.uint16()))
    if request.points is None:
        return pa.schema([*labels, ("x", pa.float64()), ("value", pa.float64()), ("time", pa.timestamp("us", "UTC"))])
    numbers = [(name, pa.float64()) for name in ("x", "min", "max", "mean", "first", "last")]
    return pa.schema([*labels, *numbers, ("n", pa.uint64()), ("nans", pa.uint64())])


def with_names(batch: pa.RecordBatch | pa.Table, request: SeriesRequest) -> pa.RecordBatch | pa.Table:
    """The same rows with run_id and name (dictionary-encoded) instead of keys."""
    run_ids = _decode(batch.column("run"), list(request.runs), list(request.runs.values()))
    names = _decode(batch.column("metric"), [metric_key(name) for name in request.metrics], list(request.metrics))
    rest = [name for name in batch.schema.names if name not in ("run", "metric", "bucket")]
    columns = [run_ids, names, *(batch.column(name) for name in rest)]
    return type(batch).from_arrays(columns, names=["run_id", "name", *rest])


def _decode(keys: Any, known: list[int], labels: list[str]) -> Any:
    indices = pc.index_in(keys, value_set=pa.array(known, pa.uint64()))
    if isinstance(indices, pa.ChunkedArray):
        chunks = [pa.DictionaryArray.from_arrays(chunk, pa.array(labels)) for chunk in indices.chunks]
        return pa.chunked_array(chunks, pa.dictionary(pa.int32(), pa.string()))
    return pa.DictionaryArray.from_arrays(indices, pa.array(labels))
