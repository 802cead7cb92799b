"""Where the stored points of series lie, and the queries that read them: each point once, over ranks as asked.

A plan comes first (from `series_stats`): which series are there, over which steps, how many ranks, and whether rows
may be there twice. Only series that need it pay for FINAL, for an aggregate over ranks, or for a lineage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from thalweg.wire import limits as wire_limits
from thalweg_tracker.engine.answers import rows_of
from thalweg_tracker.engine.contract import Engine, Parameters
from thalweg_tracker.expressions.tree import MEAN
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import metric_key
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.sql import load, load_with

EVERY: Final = "every"
"""Instead of a form over ranks: the rows of all of them, with the column `rank`."""
_PAIRS: Final = """(p.run, p.metric) IN (
    SELECT pair.1, pair.2 FROM (SELECT arrayJoin(arrayZip({runs:Array(UInt64)}, {metrics:Array(UInt64)})) AS pair))"""
_IN_RUNS: Final = "p.run IN {runs:Array(UInt64)}"
_IN_METRICS: Final = "p.metric IN {metrics:Array(UInt64)}"
OF_EACH: Final = f"{_IN_RUNS} AND {_IN_METRICS}"
"""Which points: of each of some metrics in each of some runs."""
_OF_EACH_SEGMENT: Final = f"indexHint({_IN_RUNS}) AND {_IN_METRICS}"
"""The same for `points_of_ways`, which finds no segment for any other run."""
_AFTER: Final = "p.step > transform(p.run, {segments:Array(UInt64)}, {after:Array(Float64)}, inf)"
_FROM_STEP: Final = "p.step >= {from_step:Float64}"
UPTO_STEP: Final = "p.step <= {to_step:Float64}"
_NUMBERS: Final = "if(isNaN(p.value), NULL, p.value)"
_OVER_RANKS: Final = {
    MEAN: "avg(p.value)",
    "min": f"ifNull(min({_NUMBERS}), nan)",
    "max": f"ifNull(max({_NUMBERS}), nan)",
    "sum": f"ifNull(sum({_NUMBERS}), 0.)",
    "std": f"ifNull(stddevPopStable({_NUMBERS}) + 0 * max(abs({_NUMBERS})), nan)",
    "count": "toFloat64(count())",
}


@dataclass(slots=True)
class Part:
    """Series that are read by one query.

    Of views with more than one segment these lie in (segments[i], after[i], upto[i]) for each of `views`; a view is in
    one part with all its metrics but those of the host, which are read like those of a plain run. Few segments have
    points of their own at or before `after`, as the ingest refuses them: `has_early` tells, and the others are not
    compared with it.
    """

    has_copies: bool
    has_ranks: bool
    has_early: bool = False
    pairs: dict[tuple[int, int], None] = field(default_factory=dict)  # of run and metric
    views: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    upto: list[float] = field(default_factory=list)

    def rows(self, ranks: str | int, low: float = -math.inf, high: float = math.inf) -> tuple[str, Parameters]:
        """The query of its points between two steps: run, metric, [rank], x, value, time, in no order."""
        runs, metrics = [run for run, _ in self.pairs], [metric for _, metric in self.pairs]
        each_run, each_metric = list(dict.fromkeys(runs)), list(dict.fromkeys(metrics))
        is_every = len(each_run) * len(each_metric) == len(runs)  # of these metrics, in these runs: found faster
        parameters: dict[str, Any] = {
            "runs": each_run if is_every else runs,
            "metrics": each_metric if is_every else metrics,
        }
        query, which = "points", OF_EACH if is_every else _PAIRS
        if self.views:
            parameters |= {"views": self.views, "segments": self.segments, "after": self.after, "upto": self.upto}
            query = "points_of_lineage"
            if len(set(self.segments)) == len(self.segments):  # else several views see the same segment
                query, which = "points_of_ways", _OF_EACH_SEGMENT if is_every else _PAIRS
                which += f" AND {_AFTER}" if self.has_early else ""
        if low != -math.inf:
            parameters["from_step"] = low
            which += f" AND {_FROM_STEP}"
        if high != math.inf:
            parameters["to_step"] = high
            which += f" AND {UPTO_STEP}"
        points = load_with(query, final="FINAL" if self.has_copies else "", which=which)
        return _form(points, ranks, has_ranks=self.has_ranks), parameters

    def is_in_order(self, ranks: str | int) -> bool:
        """Whether the rows of each rank lie in the table in the order of the answer."""
        return not self.views and (ranks == EVERY or (ranks == MEAN and not self.has_ranks))

    def only(self, view: int, metric: int) -> Part:
        """The part for one of its series."""
        own = [place for place, one in enumerate(self.views) if one == view]
        runs = {self.segments[place] for place in own} if self.views else {view}
        return Part(
            self.has_copies,
            self.has_ranks,
            self.has_early,
            {pair: None for pair in self.pairs if pair[0] in runs and pair[1] == metric},
            [view] * len(own),
            [self.segments[place] for place in own],
            [self.after[place] for place in own],
            [self.upto[place] for place in own],
        )

    def add(self, view: int, segment: int, after: float, upto: float) -> None:
        """A segment of a view."""
        self.views.append(view)
        self.segments.append(segment)
        self.after.append(after)
        self.upto.append(upto)


def _form(points: str, ranks: str | int, *, has_ranks: bool) -> str:
    if ranks == EVERY:
        return f"SELECT run, metric, rank, step AS x, value, time FROM ({points})"
    if isinstance(ranks, int):
        return f"SELECT run, metric, step AS x, value, time FROM ({points}) WHERE rank = {ranks:d}"
    if ranks == MEAN and not has_ranks:
        return f"SELECT run, metric, step AS x, value, time FROM ({points})"
    value = _OVER_RANKS[ranks]
    return (
        f"SELECT run, metric, step AS x, {value} AS value, max(p.time) AS time"
        f" FROM ({points}) AS p GROUP BY run, metric, step"
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """How to read some series, and the steps between which they lie; infinite where there are none."""

    parts: list[Part]
    low: float
    high: float


def plan_points(engine: Engine, pairs: Sequence[tuple[int, RunView]], metrics: Sequence[str]) -> Plan:
    """Sorts the series that are there by how they must be read. `pairs`: a key for the answer, and the view to read."""
    names = {metric_key(name): name for name in metrics}
    runs = list({segment.run for _, view in pairs for segment in view.segments})
    stored = _stored(engine, runs, list(names))
    of_host = {key for key, name in names.items() if name.startswith(wire_limits.SYSTEM_PREFIX)}
    parts: dict[tuple[bool, bool, bool, bool], Part] = {}
    low, high = math.inf, -math.inf
    for target, view in pairs:
        is_itself = target == view.key
        for row in stored.get(view.key, ()):
            is_of_host = row["metric"] in of_host
            if view.is_plain or is_of_host:
                part = _part(parts, [row], has_lineage=not is_itself, of_host=is_of_host)
                if not is_itself:
                    part.add(target, view.key, -math.inf, math.inf)
                low, high = min(low, row["first_step"]), max(high, row["last_step"])
        if view.is_plain:
            continue
        found = [
            (segment, row)
            for segment in view.segments
            for row in stored.get(segment.run, ())
            if row["metric"] not in of_host and row["first_step"] <= segment.upto and row["last_step"] > segment.after
        ]
        if not found:
            continue
        part = _part(parts, [row for _, row in found], has_lineage=True, of_host=False)
        part.has_early |= any(row["first_step"] <= segment.after for segment, row in found)
        for segment in dict.fromkeys(segment for segment, _ in found):
            part.add(target, segment.run, segment.after, segment.upto)
        low = min([low, *(row["first_step"] for _, row in found)])
        high = max([high, *(min(row["last_step"], segment.upto) for segment, row in found)])
    return Plan([part for part in parts.values() if part.pairs], low, high)


def _stored(engine: Engine, runs: Sequence[int], metrics: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """The series that are there, by run, with how each must be read."""
    where: Parameters = {"runs": runs, "metrics": metrics}
    found = rows_of(engine.query(load("series_plan"), where, limits.QUERY_TIMEOUT_S))
    stored: dict[int, list[dict[str, Any]]] = {}
    for row in looked_at_closer(engine, found, "shared_series"):
        stored.setdefault(row["run"], []).append(row)
    return stored


def looked_at_closer(engine: Engine, found: Sequence[dict[str, Any]], shared_query: str) -> list[dict[str, Any]]:
    """Rows of series; of those that several writers wrote, from a query that puts them together."""
    shared = {(row["run"], row["metric"]) for row in found if row["is_shared"]}
    rows = [row for row in found if not row["is_shared"]]
    if shared:
        where: Parameters = {"runs": [run for run, _ in shared], "metrics": [metric for _, metric in shared]}
        closer = rows_of(engine.query(load(shared_query), where, limits.QUERY_TIMEOUT_S))
        rows += [row for row in closer if (row["run"], row["metric"]) in shared]
    return rows


def _part(
    parts: dict[tuple[bool, bool, bool, bool], Part], rows: list[dict[str, Any]], *, has_lineage: bool, of_host: bool
) -> Part:
    """The part for some series of one view, with them added."""
    has_copies, has_ranks = any(row["has_copies"] for row in rows), any(row["ranks"] > 1 for row in rows)
    part = parts.setdefault((has_lineage, has_copies, has_ranks, of_host), Part(has_copies, has_ranks))
    part.pairs.update(((row["run"], row["metric"]), None) for row in rows)
    return part
