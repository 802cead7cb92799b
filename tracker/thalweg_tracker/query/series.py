"""Series: points of many runs and metrics at once, exact or in buckets, reduced in the database.

A plan comes first (from `series_stats`): which series are there, over which steps, how many ranks, and
whether rows may be there twice. Only series that need it pay for FINAL, for the mean over ranks, or for a lineage.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from thalweg.wire import limits as wire_limits
from thalweg_tracker.engine.contract import Engine, Parameters
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import metric_key
from thalweg_tracker.query.lineage import RunView
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

    views: Sequence[RunView]  # in the order of the answer
    metrics: Sequence[str]
    from_step: float | None = None
    to_step: float | None = None
    points: int | None = None
    by_rank: bool = False


@dataclass(slots=True)
class _Part:
    """Series that are read by one query.

    Of views with more than one segment these lie in (segments[i], after[i], upto[i]) for each of `views`; a view is in
    one part with all its metrics but those of the host, which are read like those of a plain run.
    """

    has_copies: bool
    has_ranks: bool
    pairs: dict[tuple[int, int], None] = field(default_factory=dict)  # of run and metric
    views: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    upto: list[float] = field(default_factory=list)

    @property
    def parameters(self) -> dict[str, Any]:
        """What the query of its points is given."""
        pairs: dict[str, Any] = {"runs": [run for run, _ in self.pairs], "metrics": [name for _, name in self.pairs]}
        if not self.views:
            return pairs
        return pairs | {"views": self.views, "segments": self.segments, "after": self.after, "upto": self.upto}


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
            **part.parameters,
            "from_step": -math.inf if request.from_step is None else request.from_step,
            "to_step": math.inf if request.to_step is None else request.to_step,
        }
        points = load("points_of_lineage" if part.views else "points").replace(
            "{final}", "FINAL" if part.has_copies else ""
        )
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
    asked = len(request.views) * len(request.metrics)
    if asked > limits.SERIES_MAX_PER_REQUEST:
        raise RejectedError(
            "too_many_series", f"{asked} series asked for; at most {limits.SERIES_MAX_PER_REQUEST} at once"
        )
    names = {metric_key(name): name for name in request.metrics}
    runs = list({segment.run for view in request.views for segment in view.segments})
    where: Parameters = {"runs": runs, "metrics": list(names)}
    rows = engine.query(load("series_plan"), where, limits.QUERY_TIMEOUT_S).to_pylist()
    stored: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        stored.setdefault(row["run"], []).append(row)
    of_host = {key for key, name in names.items() if name.startswith(wire_limits.SYSTEM_PREFIX)}
    parts: dict[tuple[bool, bool, bool], _Part] = {}
    low, high = math.inf, -math.inf
    for view in request.views:
        for row in stored.get(view.key, ()):
            if view.is_plain or row["metric"] in of_host:
                _part(parts, [row], has_lineage=False)
                low, high = min(low, row["first_step"]), max(high, row["last_step"])
        if view.is_plain:
            continue
        found = [
            (segment, row)
            for segment in view.segments
            for row in stored.get(segment.run, ())
            if row["metric"] not in of_host and row["first_step"] <= segment.upto and row["last_step"] > segment.after
        ]
        part = _part(parts, [row for _, row in found], has_lineage=True)
        for segment in dict.fromkeys(segment for segment, _ in found):
            part.views.append(view.key)
            part.segments.append(segment.run)
            part.after.append(segment.after)
            part.upto.append(segment.upto)
        low = min([low, *(row["first_step"] for _, row in found)])
        high = max([high, *(min(row["last_step"], segment.upto) for segment, row in found)])
    return _Plan([part for part in parts.values() if part.pairs], low, high)


def _part(parts: dict[tuple[bool, bool, bool], _Part], rows: list[dict[str, Any]], *, has_lineage: bool) -> _Part:
    """The part for some series of one view, with them added."""
    has_copies, has_ranks = any(row["has_copies"] for row in rows), any(row["ranks"] > 1 for row in rows)
    part = parts.setdefault((has_lineage, has_copies, has_ranks), _Part(has_copies, has_ranks))
    part.pairs.update(((row["run"], row["metric"]), None) for row in rows)
    return part


def answer_schema(request: SeriesRequest) -> pa.Schema:
    """The columns of an answer with names."""
    text = pa.dictionary(pa.int32(), pa.string())
    labels = [("run_id", text), ("branch", pa.uint32()), ("name", text)]
    if request.by_rank:
        labels.append(("rank", pa.uint16()))
    if request.points is None:
        return pa.schema([*labels, ("x", pa.float64()), ("value", pa.float64()), ("time", pa.timestamp("us", "UTC"))])
    numbers = [(name, pa.float64()) for name in ("x", "min", "max", "mean", "first", "last")]
    return pa.schema([*labels, *numbers, ("n", pa.uint64()), ("nans", pa.uint64())])


def with_names(batch: pa.RecordBatch | pa.Table, request: SeriesRequest) -> pa.RecordBatch | pa.Table:
    """The same rows with run_id (dictionary-encoded), branch and name (dictionary-encoded) instead of keys."""
    views = _indices(batch.column("run"), [view.key for view in request.views])
    metrics = _indices(batch.column("metric"), [metric_key(name) for name in request.metrics])
    rest = [name for name in batch.schema.names if name not in ("run", "metric", "bucket")]
    columns = [
        _labels(views, [view.run_id for view in request.views]),
        pc.take(pa.array([view.branch for view in request.views], pa.uint32()), views),
        _labels(metrics, list(request.metrics)),
        *(batch.column(name) for name in rest),
    ]
    return type(batch).from_arrays(columns, names=["run_id", "branch", "name", *rest])


def _indices(keys: Any, known: list[int]) -> Any:
    return pc.index_in(keys, value_set=pa.array(known, pa.uint64()))


def _labels(indices: Any, labels: list[str]) -> Any:
    if isinstance(indices, pa.ChunkedArray):
        chunks = [pa.DictionaryArray.from_arrays(chunk, pa.array(labels)) for chunk in indices.chunks]
        return pa.chunked_array(chunks, pa.dictionary(pa.int32(), pa.string()))
    return pa.DictionaryArray.from_arrays(indices, pa.array(labels))
