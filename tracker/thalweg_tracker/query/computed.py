"""Series that nobody logged: expressions over the points of runs, computed in the database."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.expressions.binding import Binder
from thalweg_tracker.expressions.compile import Frame, has_windows, needs_times, series_rows, time_of
from thalweg_tracker.expressions.tree import Node, sources
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import metric_key
from thalweg_tracker.query.frames import make_frame
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.query.seen_attributes import attribute_nodes, attributes_sql, lineage_of_views, typed

Axis = Literal["step", "time", "relative_time"]


@dataclass(frozen=True, slots=True)
class Computed:
    """Expressions by the names that they have in an answer, and what stands at their x axis; a Node: another series."""

    project: str = ""
    items: Mapping[str, Node] = field(default_factory=dict)
    x: Axis | Node = "step"
    bound: Mapping[str, RunView] = field(default_factory=dict)
    """The runs that expressions name themselves, by run_id."""


NOTHING_COMPUTED: Final = Computed()


def computed_rows(
    engine: Engine,
    computed: Computed,
    views: Sequence[RunView],
    low: float,
    high: float,
    *,
    by_rank: bool,
    ends: bool,
) -> Iterator[tuple[str, dict[str, Any], float, float]]:
    """A query of rows (run, metric, [rank], x, value, time) for each expression, its parameters, the ends of its axis.

    `ends`: whether those are wanted, for buckets: they may take a query of their own. Else the times are.
    """
    for name, node in computed.items.items():
        binder = Binder()
        found = _rows(engine, computed, views, name, node, binder, low, high, by_rank=by_rank, with_times=not ends)
        if found is None:
            continue
        sql, first, last = found
        if ends and computed.x != "step":
            asked = f"SELECT min(x) AS first, max(x) AS last FROM ({sql})"
            row = engine.query(
                asked, binder.parameters, limits.QUERY_TIMEOUT_S, limits.EXPRESSION_ROWS_MAX
            ).to_pylist()[0]
            first, last = row["first"], row["last"]
        yield sql, binder.parameters, max(first, low), min(last, high)


def _rows(
    engine: Engine,
    computed: Computed,
    views: Sequence[RunView],
    name: str,
    node: Node,
    binder: Binder,
    low: float,
    high: float,
    *,
    by_rank: bool,
    with_times: bool,
) -> tuple[str, float, float] | None:
    """The query of one expression, and the steps between which its points lie; None where there are none."""
    axis = computed.x if isinstance(computed.x, Node) else None
    trees = [node] if axis is None else [node, axis]
    some = list(dict.fromkeys(source for tree in trees for source in sources(tree)))
    is_local = computed.x == "step" and not has_windows(node)  # else points outside of the bounds count too
    span = (low, high) if is_local else (-math.inf, math.inf)
    has_times = with_times or computed.x in ("time", "relative_time") or needs_times(trees)
    framed = make_frame(
        engine, binder, views, some, computed.bound, by_rank=by_rank, has_times=has_times, low=span[0], high=span[1]
    )
    if framed is None:
        return None
    frame = with_attributes(framed.frame, computed.project, views, trees, binder)
    rows = series_rows(trees, frame, binder)
    time = time_of(sources(node), frame)
    if axis is not None:
        x = rows.values[axis]
    elif computed.x == "step":
        x = "step"
    elif computed.x == "time":
        x = f"{time} / 1000000"
    else:
        x = f"({time} - min({time}) OVER (PARTITION BY {frame.partition})) / 1000000"
    metric = binder.bind(metric_key(name), "UInt64")
    inner = f"SELECT {frame.partition}, {x} AS x_, {rows.values[node]} AS value_, {time} AS time_ FROM ({rows.sql})"
    bounds = f"x_ >= {binder.number(low)} AND x_ <= {binder.number(high)}"
    columns = frame.partition.replace("run", f"run, {metric} AS metric")
    return (
        f"SELECT {columns}, assumeNotNull(x_) AS x, assumeNotNull(value_) AS value,"
        f" fromUnixTimestamp64Micro(toInt64(time_), 'UTC') AS time"
        f" FROM ({inner}) WHERE isNotNull(value_) AND isNotNull(x_) AND {bounds}",
        framed.low,
        framed.high,
    )


def with_attributes(
    frame: Frame, project: str, views: Sequence[RunView], trees: Sequence[Node], binder: Binder
) -> Frame:
    """The frame with a column for each attribute that the trees name."""
    nodes = attribute_nodes(trees)
    if not nodes:
        return frame
    paths = list(dict.fromkeys(nodes.values()))
    lineage = lineage_of_views([(view.key, view) for view in views], binder)
    attributes = attributes_sql(project, paths, lineage, binder)
    columns = {node: f"at{place}" for place, node in enumerate(nodes)}
    values = ", ".join(f"{typed(f'a.j{paths.index(nodes[node])}', node.kind)} AS {columns[node]}" for node in nodes)
    sql = f"SELECT f.*, {values} FROM ({frame.sql}) AS f LEFT JOIN ({attributes}) AS a ON f.run = a.run"
    return replace(frame, sql=sql, others=columns)
