"""The metrics of a run: names by prefix and regex, with last, min and max, mostly without reading points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from thalweg.wire import limits as wire_limits
from thalweg_tracker.engine.contract import Engine, Parameters
from thalweg_tracker.engine.failures import CANNOT_COMPILE_REGEXP
from thalweg_tracker.errors import EngineError, RejectedError
from thalweg_tracker.lineage.chain import Segment
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import metric_key
from thalweg_tracker.query.facts import facts_sql, marked_sql
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.sql import load


def list_metrics(
    engine: Engine, view: RunView, *, prefix: str, pattern: str, after: str, limit: int
) -> list[dict[str, Any]]:
    """Metrics by name, after `after`. Raises RejectedError for a regular expression that is none.

    Each: name, ranks, first_step, last_step, last_time, last, min, argmin, max, argmax. NaN min: all values are NaN.
    """
    if len(pattern) > limits.REGEX_MAX_CHARS:
        raise RejectedError("bad_regex", f"the regular expression has more than {limits.REGEX_MAX_CHARS} characters")
    found: list[dict[str, Any]] = []
    while len(found) < limit:
        names = _names(engine, view, prefix, pattern, after, limit)
        known = _known(engine, view, names)
        found += [{"name": name, **known[key]} for key, name in names.items() if key in known]
        if len(names) < limit:
            break
        after = list(names.values())[-1]  # of an ancestor's, some may come after the fork
    return found[:limit]


def _names(engine: Engine, view: RunView, prefix: str, pattern: str, after: str, limit: int) -> dict[int, str]:
    """The next names in the branches on the way to a view, by key."""
    where: Parameters = {
        "runs": [segment.run for segment in view.segments],
        "own": view.key,
        "prefix": prefix,
        "pattern": pattern,
        "after": after,
        "limit": limit,
    }
    try:
        page = engine.query(load("metric_page"), where, limits.QUERY_TIMEOUT_S)
    except EngineError as error:
        if error.code == CANNOT_COMPILE_REGEXP:
            raise RejectedError("bad_regex", f"cannot use {pattern!r} as a regular expression (RE2 syntax)") from error
        raise
    return dict(zip(page["metric"].to_pylist(), page["name"].to_pylist(), strict=True))


def _segments(some: Sequence[Segment]) -> dict[str, Any]:
    return {
        "segments": [segment.run for segment in some],
        "segments_after": [segment.after for segment in some],
        "segments_upto": [segment.upto for segment in some],
    }


def _known(engine: Engine, view: RunView, names: dict[int, str]) -> dict[int, dict[str, Any]]:
    """What is known of some metrics. Statistics are of all points of a run: where not all are seen, points are read."""
    if not names:
        return {}
    segments = {segment.run: segment for segment in view.segments}
    where: dict[str, Any] = {"runs": list(segments), "metrics": list(names)}
    whole: list[tuple[int, int]] = []
    from_points: list[tuple[int, int]] = []
    of_host_from_points: list[tuple[int, int]] = []  # those of the host are the branch's own, also before its fork step
    for row in engine.query(load("series_plan"), where, limits.QUERY_TIMEOUT_S).to_pylist():
        segment, pair = segments[row["run"]], (row["run"], row["metric"])
        of_host = names[row["metric"]].startswith(wire_limits.SYSTEM_PREFIX)
        is_seen = segment.after < row["last_step"] and row["first_step"] <= segment.upto
        if (row["run"] != view.key) if of_host else not is_seen:
            continue
        is_stale = row["is_relogged"] or row["last_step"] > segment.upto
        (whole if not is_stale else of_host_from_points if of_host else from_points).append(pair)
    rows = _read(engine, whole, from_points, _segments(view.segments), by_run=False)
    if of_host_from_points:
        rows += _read(engine, [], of_host_from_points, _all_of([view.key]), by_run=False)
    return {row.pop("metric"): row for row in rows}


def metric_of_branches(engine: Engine, project: str, metric: str) -> dict[int, dict[str, Any]]:
    """What is known of one metric in each branch of a project, of its own points: by the branch's key."""
    key = metric_key(metric)
    where: dict[str, Any] = {"project": project, "metrics": [key], "host": []}
    marked = engine.query(marked_sql(None), {**where, "over_ranks": []}, limits.QUERY_TIMEOUT_S)["view"].to_pylist()
    asked = {**where, "marked_views": marked, "marked_metrics": [int(key)] * len(marked)}
    known_sql = facts_sql(("last", "min", "max", "argmin", "argmax"), None, has_marked=bool(marked))
    facts = engine.query(known_sql, asked, limits.QUERY_TIMEOUT_S)
    known = {row["run"]: row for row in facts.to_pylist()}
    from_points = _read(engine, [], [(run, int(key)) for run in marked], _all_of(marked), by_run=True) if marked else []
    return known | {row["run"]: row for row in from_points}


def _all_of(runs: list[int]) -> dict[str, Any]:
    """All points of some branches as segments."""
    some = len(runs)
    return {"segments": runs, "segments_after": [-math.inf] * some, "segments_upto": [math.inf] * some}


def _read(
    engine: Engine,
    whole: list[tuple[int, int]],
    from_points: list[tuple[int, int]],
    bounds: dict[str, Any],
    *,
    by_run: bool,
) -> list[dict[str, Any]]:
    """What is known of pairs of run and metric: of the first from their statistics, of the others from points."""
    where: dict[str, Any] = {
        "runs": [run for run, _ in whole],
        "metrics": [metric for _, metric in whole],
        "points_runs": [run for run, _ in from_points],
        "points_metrics": [metric for _, metric in from_points],
        "by_run": by_run,
        **bounds,
    }
    rows: list[dict[str, Any]] = engine.query(load("metrics"), where, limits.QUERY_TIMEOUT_S).to_pylist()
    return rows
