"""Frames: the points of several metrics side by side, a row for each step of any of them (expressions/compile.py).

Points of several metrics are joined by arrays: a run's steps and values of each metric are gathered, and where all have
the same steps, which is what one training loop logs, the arrays are laid side by side. Measured on 20 million points of
two metrics in 10,000 runs: 1.3 s; GROUP BY run, step 3.8 s; a sorted join 4.3 s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.expressions.binding import Binder
from thalweg_tracker.expressions.compile import Frame
from thalweg_tracker.expressions.tree import Source
from thalweg_tracker.model.keys import metric_key
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.query.points import EVERY, plan_points

_NULL: Final = "CAST(NULL, 'Nullable(Float64)')"
# The values of a series at the steps of the frame: both are laid into one array by step, where a step of the frame
# follows on the point at that step, if there is one.
_SPREAD: Final = """arrayFilter(
    (value, one) -> one.2 = 1,
    arrayMap(
        (before, one) -> if(before.2 = 0 AND before.1 = one.1, before.3, {null}),
        arrayConcat([(nan, 1, {null})], arrayPopBack({both})),
        {both}),
    {both})"""
_BOTH: Final = """arraySort(one -> (one.1, one.2), arrayConcat(
    arrayMap((step, value) -> (step, 0, toNullable(value)), {steps}, {values}),
    arrayMap(step -> (step, 1, {null}), steps)))"""


@dataclass(frozen=True, slots=True)
class Framed:
    """A frame, and the steps between which its points lie."""

    frame: Frame
    low: float
    high: float


def make_frame(
    engine: Engine,
    binder: Binder,
    views: Sequence[RunView],
    some: Sequence[Source],
    bound: Mapping[str, RunView],
    *,
    by_rank: bool = False,
    has_times: bool = True,
    low: float = -math.inf,
    high: float = math.inf,
) -> Framed | None:
    """The frame of some metrics in some views, between two steps; None where none has a point.

    `bound`: the runs that sources name.
    """
    rows = []
    first, last = math.inf, -math.inf
    groups: dict[tuple[str | None, str | int], list[Source]] = {}
    for one in some:
        groups.setdefault((one.run, one.ranks), []).append(one)
    for place, ((run, ranks), group) in enumerate(groups.items()):
        pairs = [(view.key, view if run is None else bound[run]) for view in views]
        plan = plan_points(engine, pairs, [one.name for one in group])
        first, last = min(first, plan.low), max(last, plan.high)
        for part in plan.parts:
            sql, parameters = part.rows(EVERY if by_rank else ranks, low, high)
            embedded = binder.embed(sql, dict(parameters))
            rows.append(f"SELECT *, materialize({place}) AS source FROM ({embedded})" if len(groups) > 1 else embedded)
    if not rows:
        return None
    partition = "run, rank" if by_rank else "run"
    points = " UNION ALL ".join(rows)
    if len(some) == 1:
        values = "toNullable(value) AS v0, toNullable(toUnixTimestamp64Micro(time)) AS t0"
        sql = f"SELECT {partition}, x AS step, {values} FROM ({points})"
    else:
        places = {source: place for place, group in enumerate(groups.values()) for source in group}
        conditions = [
            f"metric = {binder.bind(metric_key(one.name), 'UInt64')}"
            + (f" AND source = {places[one]}" if len(groups) > 1 else "")
            for one in some
        ]
        sql = _side_by_side(points, conditions, partition, has_times=has_times)
    return Framed(Frame(sql, tuple(some), by_rank, has_times), max(first, low), min(last, high))


def _side_by_side(points: str, conditions: Sequence[str], partition: str, *, has_times: bool) -> str:
    """The frame of several metrics: those of the rows that each condition takes. Times cost a third more."""
    numbers = range(len(conditions))
    columns = {"value": "value"}
    if has_times:
        columns["time"] = "toFloat64(toUnixTimestamp64Micro(time))"
    gathered = [
        f"groupArrayIf({read}, {taken}) AS {name}s_read{n}"
        for n, taken in enumerate(conditions)
        for name, read in {"step": "x", **columns}.items()
    ]
    by_step = [f"arraySort(steps_read{n}) AS steps{n}" for n in numbers] + [
        f"arraySort((value, step) -> step, {name}s_read{n}, steps_read{n}) AS {name}s{n}"
        for n in numbers
        for name in columns
    ]
    same = " AND ".join(f"steps0 = steps{n}" for n in numbers[1:])
    every = ", ".join(f"steps{n}" for n in numbers)
    steps = f"if(same, steps0, arraySort(arrayDistinct(arrayConcat({every}))))"
    spread = [_spread(f"steps{n}", f"{name}s{n}") + f" AS {name}s_of{n}" for n in numbers for name in columns]
    arrays = [f"{name}s_of{n} AS {name}{n}" for n in numbers for name in columns]
    values = [f"value{n} AS v{n}" for n in numbers] + [f"toInt64(time{n}) AS t{n}" for n in numbers if has_times]
    sql = f"SELECT {partition}, {', '.join(gathered)} FROM ({points}) GROUP BY {partition}"
    sql = f"SELECT {partition}, {', '.join(by_step)} FROM ({sql})"
    sql = f"SELECT *, {same} AS same, {steps} AS steps FROM ({sql})"
    sql = f"SELECT {partition}, steps, {', '.join(spread)} FROM ({sql})"
    return f"SELECT {partition}, step, {', '.join(values)} FROM ({sql}) ARRAY JOIN steps AS step, {', '.join(arrays)}"


def _spread(steps: str, values: str) -> str:
    """Values at their own steps as values at the steps of the frame."""
    both = _BOTH.format(steps=steps, values=values, null=_NULL)
    return f"if(same, CAST({values}, 'Array(Nullable(Float64))'), {_SPREAD.format(both=both, null=_NULL)})"
