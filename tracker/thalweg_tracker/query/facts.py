"""What is known of series without their points. The SQL reads only the facts that are asked.

Which series a run sees is told by a lineage, a query like ways.sql; without one each branch of the project stands for
itself, which saves two joins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from thalweg_tracker.engine.contract import Engine, Parameters
from thalweg_tracker.model import limits
from thalweg_tracker.sql import load, load_with

# Of each rank, then over ranks: the mean of those that have a point at the first or last step.
_OF_RANK: Final = {
    "last": "max(s.last).3 AS last",
    "first": "min(s.first).3 AS first",
    "min": "min(s.least) AS least",
    "max": "max(s.greatest) AS greatest",
    "argmin": "min(s.least) AS least",
    "argmax": "max(s.greatest) AS greatest",
}
_AT_STEP: Final = (
    "toNullable(arrayAvg(arrayMap(p -> p.2, arrayFilter(p -> p.1 = {0}, groupArray((r.{0}, r.{1})))))) AS {1}"
)
_NUMBER: Final = "if(max(r.has_number), toNullable({0}), nan) AS {1}"
_OVER_RANKS: Final = {
    "last": _AT_STEP.format("last_step", "last"),
    "first": _AT_STEP.format("first_step", "first"),
    "min": _NUMBER.format("min(r.least).1", "min"),
    "max": _NUMBER.format("max(r.greatest).1", "max"),
    "argmin": _NUMBER.format("min(r.least).2", "argmin"),
    "argmax": _NUMBER.format("-max(r.greatest).2", "argmax"),
}
_OF_ONE_WRITER: Final = {
    "last_step": "maxIf(s.last_step, {0})",
    "last": "argMaxIf(s.last.3, s.last_step, {0})",  # one writer: what is there twice for a step is the same
    "first": "argMinIf(s.first.3, s.first_step, {0})",
    "min": "if(bitTest(groupBitOrIf(s.flags, {0}), 0), minIf(s.least.1, {0}), nan)",
    "max": "if(bitTest(groupBitOrIf(s.flags, {0}), 0), maxIf(s.greatest.1, {0}), nan)",
    "argmin": "if(bitTest(groupBitOrIf(s.flags, {0}), 0), minIf(s.least, {0}).2, nan)",
    "argmax": "if(bitTest(groupBitOrIf(s.flags, {0}), 0), -maxIf(s.greatest, {0}).2, nan)",
}
_SEEN: Final = (
    """if(has({host:Array(UInt64)}, s.metric), l.key = l.view, s.first_step <= l.upto AND s.last_step > l.after)"""
)
_IN_PART: Final = "(NOT has({host:Array(UInt64)}, s.metric) AND (s.last_step > l.upto OR s.first_step <= l.after))"
_FEW: Final = 2000
_OF_PROJECT: Final = "s.run IN (SELECT run FROM branches WHERE project = {project:String})"
_UNMARKED: Final = """(view, s.metric) NOT IN (SELECT pair.1, pair.2 FROM (SELECT arrayJoin(arrayZip(
    {marked_views:Array(UInt64)}, {marked_metrics:Array(UInt64)})) AS pair))"""


def facts_sql(facts: Iterable[str], lineage: str | None, *, has_marked: bool) -> str:
    """The query of run, metric, last_step, first_step, and some of last, first, min, max, argmin, argmax.

    `has_marked`: whether some are left out (marked_views, marked_metrics): they will be read from points.
    """
    asked = list(dict.fromkeys(facts))
    of_rank = ", ".join(dict.fromkeys(_OF_RANK[fact] for fact in asked)) or "0 AS nothing"
    over_ranks = ", ".join(_OVER_RANKS[fact] for fact in asked) or "0 AS nothing"
    view, joined, seen = _seen(lineage)
    condition = f"{seen} AND {_UNMARKED}" if has_marked else seen
    return load_with(
        "series_facts", of_rank=of_rank, over_ranks=over_ranks, view=view, lineage=joined, condition=condition
    )


def own_facts_sql(facts: Sequence[tuple[str, str]]) -> str:
    """The query of run, and f0, f1, ...: facts of metrics, as (fact, SQL of the metric's key), where each branch of the
    project stands for itself, and no two writers wrote one series.
    """
    values = [
        f"if(countIf({taken}) = 0, NULL, toNullable({_OF_ONE_WRITER[fact].format(taken)})) AS f{place}"
        for place, (fact, key) in enumerate(facts)
        for taken in (f"s.metric = {key}",)
    ]
    return load_with("own_facts", values=",\n    ".join(values), condition=_OF_PROJECT)


def find_suspects(engine: Engine, project: str, metrics: Sequence[int]) -> list[int]:
    """The branches in which the statistics of some metrics may not tell all: others need no closer look."""
    where: Parameters = {"project": project, "metrics": metrics}
    found: list[int] = engine.query(load("suspect_series"), where, limits.QUERY_TIMEOUT_S)["run"].to_pylist()
    return found


def find_marked(
    engine: Engine, where: Mapping[str, Any], suspects: Sequence[int], lineage: str | None
) -> list[tuple[int, int]]:
    """The series, view and metric, whose facts have to be read from points.

    `where`: project, metrics, host, and over_ranks: those of which that is so where several ranks wrote them.
    """
    view, joined, seen = _seen(lineage)
    is_few = lineage is None and len(suspects) <= _FEW  # with a lineage, what is whole may be seen in part
    sql = load_with(
        "marked_series",
        view=view,
        lineage=joined,
        condition=seen,
        in_part="false" if lineage is None else _IN_PART,
        among="run IN {among:Array(UInt64)}" if is_few else "true",
    )
    asked = {**where, "among": suspects} if is_few else where
    found = engine.query(sql, asked, limits.QUERY_TIMEOUT_S)
    return list(zip(found["view"].to_pylist(), found["metric"].to_pylist(), strict=True))


def uneven_sql(at: Literal["first", "last"], lineage: str | None) -> str:
    """The query of runs in which some metrics do not all begin, or end, at one step: `run`."""
    facts = facts_sql((), lineage, has_marked=False)
    return load_with("uneven_series", facts=facts, step=f"{at}_step")


def _seen(lineage: str | None) -> tuple[str, str, str]:
    """Who sees a series, the join that tells, and the condition that it is seen."""
    if lineage is None:
        return "s.run", "", _OF_PROJECT
    return "l.view", f"INNER JOIN ({lineage}) AS l ON s.run = l.key", _SEEN
