"""Series: points of many runs and metrics at once, exact or in buckets, reduced in the database."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from thalweg_tracker.engine.contract import Engine, Parameters
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.expressions.tree import MEAN
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import metric_key
from thalweg_tracker.query.computed import NOTHING_COMPUTED, Computed, computed_rows
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.query.points import EVERY, Part, plan_points
from thalweg_tracker.sql import filled

_BUCKETS: Final = """SELECT
    {labels},
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
GROUP BY {keys}
ORDER BY {keys}"""
_OVER_GROUP: Final = """SELECT
    toUInt64(transform(run, {grouped:Array(UInt64)}, {groups:Array(UInt64)}, 0)) AS run, metric, min(p.x) AS x,
    ifNull(avg(number), nan) AS mean, ifNull(stddevPopStable(number), nan) AS std,
    ifNull(min(number), nan) AS min, ifNull(max(number), nan) AS max, count() AS n
FROM (SELECT *, if(isNaN({value}), NULL, {value}) AS number FROM ({series})) AS p
GROUP BY run, metric, p.{place}
ORDER BY run, metric, x"""


@dataclass(frozen=True, slots=True)
class Form:
    """How series are answered: exact (`points` None), or in so many buckets between `low` and `high`."""

    points: int | None
    low: float
    high: float
    by_rank: bool = False
    is_lone: bool = False
    """Whether all rows are of one series: a shorter key of groups."""
    is_in_order: bool = False
    """Whether rows of each rank lie in this order, so that they come without being sorted."""

    def sql(self, rows: str) -> str:
        """The query of an answer from that of its rows: run, metric, [rank], x, value, time."""
        rank = ", rank" if self.by_rank else ""
        if self.points is None:
            order = f"run, metric{', rank' if self.is_in_order else rank}, x"
            return f"SELECT run, metric{rank}, x, value, time FROM ({rows}) ORDER BY {order}"
        keys = f"run, metric{rank}, bucket" if not self.is_lone else "bucket"
        labels = f"run, metric{rank}" if not self.is_lone else "any(p.run) AS run, any(p.metric) AS metric"
        return filled(_BUCKETS, keys=keys, labels=labels, series=rows)

    @property
    def parameters(self) -> dict[str, float]:
        """What `sql` needs beside the parameters of the rows."""
        if self.points is None:
            return {}
        return {
            "half_low": self.low / 2,
            "half_span": max(self.high / 2 - self.low / 2, 0.0) or 1.0,  # halves: a difference of doubles may overflow
            "buckets": float(self.points),
        }


@dataclass(frozen=True, slots=True)
class SeriesRequest:
    """What is asked for. `low` and `high`: of the axis, both included; None: unbounded. `points` None: exact."""

    views: Sequence[RunView]  # in the order of the answer
    metrics: Sequence[str]  # logged ones
    low: float | None = None
    high: float | None = None
    points: int | None = None
    by_rank: bool = False
    computed: Computed = NOTHING_COMPUTED
    groups: Mapping[int, int] | None = None  # number of the group of each view, by key

    @property
    def names(self) -> list[str]:
        """What the series are called, in the order of the answer."""
        return [*self.metrics, *self.computed.items]

    @property
    def ranks(self) -> str:
        """The form over ranks."""
        return EVERY if self.by_rank else MEAN

    @property
    def bounds(self) -> tuple[float, float]:
        """`low` and `high`, infinite where there is none."""
        return -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high


def read_series(engine: Engine, request: SeriesRequest) -> pa.Table | None:
    """The whole answer in long form, as `stream_series` gives it. Raises RejectedError past EXACT_POINTS_MAX."""
    limit = limits.EXACT_POINTS_MAX + 1
    tables = []
    for sql, parameters, max_rows in _queries(engine, request, is_streamed=False):
        answer = engine.query(f"{sql}\nLIMIT {limit}", parameters, limits.QUERY_TIMEOUT_S, max_rows)
        tables.append(answer)
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

    Ordered by series, then x, within each part; a series lies in one part. What has to be sorted comes in pieces:
    memory is bounded, but for expressions, of which a run's points lie side by side.
    """
    for sql, parameters, max_rows in _queries(engine, request, is_streamed=True):
        yield from engine.stream(sql, parameters, max_rows_to_read=max_rows)


def _queries(
    engine: Engine, request: SeriesRequest, *, is_streamed: bool
) -> Iterator[tuple[str, Parameters, int | None]]:
    """Queries with their parameters, and the stored rows that each may read."""
    asked = len(request.views) * len(request.names)
    if asked > limits.SERIES_MAX_PER_REQUEST:
        raise RejectedError(
            "too_many_series", f"{asked} series asked for; at most {limits.SERIES_MAX_PER_REQUEST} at once"
        )
    is_lone = asked == 1 and not request.by_rank
    for rows in _rows(engine, request, is_streamed=is_streamed):
        form = Form(request.points, rows.low, rows.high, request.by_rank, is_lone, rows.are_in_order)
        sql = form.sql(rows.sql)
        given = {**rows.parameters, **form.parameters}
        if request.groups is not None:
            sql = _OVER_GROUP.replace("{value}", "value" if request.points is None else "mean").replace("{series}", sql)
            sql = sql.replace("{place}", "x" if request.points is None else "bucket")
            given |= {"grouped": list(request.groups), "groups": list(request.groups.values())}
        yield sql, given, rows.max_rows_to_read


@dataclass(frozen=True, slots=True)
class _Rows:
    """A query of rows (run, metric, [rank], x, value, time), and the ends of their axis."""

    sql: str
    parameters: Parameters
    low: float
    high: float
    max_rows_to_read: int | None = None
    are_in_order: bool = False


def _rows(engine: Engine, request: SeriesRequest, *, is_streamed: bool) -> Iterator[_Rows]:
    low, high = request.bounds
    if request.metrics:
        plan = plan_points(engine, [(view.key, view) for view in request.views], request.metrics)
        for part in plan.parts:
            if request.points is not None:
                rows = part.rows(request.ranks, low, high)
                yield _Rows(*rows, max(plan.low, low), min(plan.high, high))
            elif part.is_in_order(request.ranks):
                yield _Rows(*part.rows(EVERY, low, high), low, high, are_in_order=True)
            elif is_streamed:
                yield from _pieces(engine, part, request.ranks, low, high)
            else:
                yield _Rows(*part.rows(request.ranks, low, high), low, high)
    ends = request.points is not None
    for sql, given, first, last in computed_rows(
        engine, request.computed, request.views, low, high, by_rank=request.by_rank, ends=ends
    ):
        yield _Rows(sql, given, first, last, limits.EXPRESSION_ROWS_MAX)


def _pieces(engine: Engine, part: Part, ranks: str, low: float, high: float) -> Iterator[_Rows]:
    """The rows of a part in pieces that are small enough to be sorted in memory, in the order of the answer."""
    stored, parameters = part.rows(EVERY, low, high)
    labels = "run, metric, rank" if ranks == EVERY else "run, metric"
    count = f"SELECT {labels}, count() AS n FROM ({stored}) GROUP BY {labels} ORDER BY {labels}"
    found = engine.query(count, parameters).to_pylist()
    if sum(row["n"] for row in found) <= limits.STREAM_SORT_ROWS:
        yield _Rows(*part.rows(ranks, low, high), low, high)
        return
    for row in found:
        one = part.only(row["run"], row["metric"])
        of_rank = f" WHERE rank = {row['rank']:d}" if ranks == EVERY else ""
        first = low
        for last in [*_cuts(engine, one, of_rank, row["n"], low, high), high]:
            sql, parameters = one.rows(ranks, first, last)
            yield _Rows(f"SELECT * FROM ({sql}){of_rank}", parameters, first, last)
            first = math.nextafter(last, math.inf)


def _cuts(engine: Engine, part: Part, of_rank: str, points: int, low: float, high: float) -> list[float]:
    """Steps at which a series of so many points is cut into pieces."""
    pieces = math.ceil(points / limits.STREAM_SORT_ROWS)
    if pieces == 1:
        return []
    stored, parameters = part.rows(EVERY, low, high)
    levels = ", ".join(repr(piece / pieces) for piece in range(1, pieces))
    sql = f"SELECT arraySort(arrayDistinct(quantiles({levels})(x))) AS cuts FROM (SELECT * FROM ({stored}){of_rank})"
    cuts: list[float] = engine.query(sql, parameters)["cuts"][0].as_py()
    return cuts


def answer_schema(request: SeriesRequest) -> pa.Schema:
    """The columns of an answer with names."""
    text = pa.dictionary(pa.int32(), pa.string())
    labels = [("run_id", text), ("branch", pa.uint32()), ("name", text)]
    if request.groups is not None:
        numbers = [(name, pa.float64()) for name in ("x", "mean", "std", "min", "max")]
        return pa.schema([("group", pa.uint64()), ("name", text), *numbers, ("n", pa.uint64())])
    if request.by_rank:
        labels.append(("rank", pa.uint16()))
    if request.points is None:
        return pa.schema([*labels, ("x", pa.float64()), ("value", pa.float64()), ("time", pa.timestamp("us", "UTC"))])
    numbers = [(name, pa.float64()) for name in ("x", "min", "max", "mean", "first", "last")]
    return pa.schema([*labels, *numbers, ("n", pa.uint64()), ("nans", pa.uint64())])


def with_names(batch: pa.RecordBatch | pa.Table, request: SeriesRequest) -> pa.RecordBatch | pa.Table:
    """The same rows with run_id, branch (or group, its number) and name instead of keys; texts dictionary-encoded."""
    metrics = _indices(batch.column("metric"), [metric_key(name) for name in request.names])
    rest = [name for name in batch.schema.names if name not in ("run", "metric", "bucket")]
    if request.groups is not None:
        labels = [batch.column("run"), _labels(metrics, request.names)]
        return type(batch).from_arrays([*labels, *map(batch.column, rest)], names=["group", "name", *rest])
    views = _indices(batch.column("run"), [view.key for view in request.views])
    columns = [
        _labels(views, [view.run_id for view in request.views]),
        pc.take(pa.array([view.branch for view in request.views], pa.uint32()), views),
        _labels(metrics, request.names),
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
