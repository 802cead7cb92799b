"""The metrics of a run: names by prefix and regex, with last, min and max, mostly without reading points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from thalweg.wire import limits as wire_limits
from thalweg_tracker.engine.answers import rows_of
from thalweg_tracker.engine.contract import Engine, Parameters
from thalweg_tracker.engine.failures import CANNOT_COMPILE_REGEXP
from thalweg_tracker.errors import EngineError, RejectedError
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import metric_key
from thalweg_tracker.query.facts import facts_sql, find_marked, find_suspects, own_facts_sql
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.query.points import looked_at_closer
from thalweg_tracker.sql import load

OF_BRANCH: Final = ("last", "last_step", "min", "argmin", "max", "argmax")
"""What the tree tells of a metric of each branch."""


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


def _known(engine: Engine, view: RunView, names: dict[int, str]) -> dict[int, dict[str, Any]]:
    """What is known of some metrics. Statistics are of all points of a run: where not all are seen, points are read."""
    if not names:
        return {}
    segments = {segment.run: segment for segment in view.segments}
    where: Parameters = {"runs": list(segments), "metrics": list(names)}
    rows: list[dict[str, Any]] = []
    in_part: list[tuple[int, int]] = []
    of_host_in_part: list[tuple[int, int]] = []  # those of the host are the branch's own, also before its fork step
    found = rows_of(engine.query(load("known_series"), where, limits.QUERY_TIMEOUT_S))
    for row in looked_at_closer(engine, found, "shared_known_series"):
        segment, pair = segments[row["run"]], (row["run"], row["metric"])
        of_host = names[row["metric"]].startswith(wire_limits.SYSTEM_PREFIX)
        is_seen = segment.after < row["last_step"] and row["first_step"] <= segment.upto
        if (row["run"] != view.key) if of_host else not is_seen:
            continue
        if row["is_relogged"] or row["last_step"] > segment.upto:
            (of_host_in_part if of_host else in_part).append(pair)
        else:
            rows.append(row)
    rows += _from_points(engine, in_part, [(one.run, one.after, one.upto) for one in view.segments])
    rows += _from_points(engine, of_host_in_part, [(view.key, -math.inf, math.inf)])
    together: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        together.setdefault(row["metric"], []).append(row)
    return {metric: _over_segments(some) for metric, some in together.items()}


def metric_of_branches(engine: Engine, project: str, metric: str) -> dict[int, dict[str, Any]]:
    """OF_BRANCH of one metric in each branch of a project, of its own points: by the branch's key."""
    key = metric_key(metric)
    where: dict[str, Any] = {"project": project, "metrics": [key], "host": []}
    suspects = find_suspects(engine, project, [key])
    if not suspects:
        own = own_facts_sql([(fact, "{key:UInt64}") for fact in OF_BRANCH])
        found = engine.query(own, {**where, "key": key}, limits.QUERY_TIMEOUT_S).rename_columns(["run", *OF_BRANCH])
        return {row.pop("run"): row for row in rows_of(found)}
    marked = [view for view, _ in find_marked(engine, {**where, "over_ranks": []}, suspects, None)]
    asked = {**where, "marked_views": marked, "marked_metrics": [int(key)] * len(marked)}
    known_sql = facts_sql(("last", "min", "max", "argmin", "argmax"), None, has_marked=bool(marked))
    facts = engine.query(known_sql, asked, limits.QUERY_TIMEOUT_S)
    known = {row["run"]: row for row in rows_of(facts)}
    whole = [(run, -math.inf, math.inf) for run in marked]
    stale = _from_points(engine, [(run, int(key)) for run in marked], whole)
    known |= {row["run"]: _over_segments([row]) for row in stale}
    return {run: {name: row[name] for name in OF_BRANCH} for run, row in known.items()}


def _from_points(
    engine: Engine, pairs: Sequence[tuple[int, int]], segments: Sequence[tuple[int, float, float]]
) -> list[dict[str, Any]]:
    """What is known of pairs of run and metric by the points of the runs' segments: (run, after, upto)."""
    if not pairs:
        return []
    where: dict[str, Any] = {
        "runs": [run for run, _ in pairs],
        "metrics": [metric for _, metric in pairs],
        "segments": [run for run, _, _ in segments],
        "segments_after": [after for _, after, _ in segments],
        "segments_upto": [upto for _, _, upto in segments],
    }
    rows: list[dict[str, Any]] = rows_of(engine.query(load("points_known"), where, limits.QUERY_TIMEOUT_S))
    return rows


def _over_segments(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is known of a metric, from what is known in each segment. Min and max are over all ranks."""
    latest = max(rows, key=lambda row: row["last_step"])
    numbers = [row for row in rows if row["has_number"]]
    least = min(((row["min"], row["argmin"]) for row in numbers), default=(math.nan, math.nan))
    greatest = max(((row["max"], -row["argmax"]) for row in numbers), default=(math.nan, math.nan))
    return {
        "ranks": len({rank for row in rows for rank in row["ranks"]}),
        "first_step": min(row["first_step"] for row in rows),
        "last_step": latest["last_step"],
        "last_time": max(row["last_time"] for row in rows),
        "last": latest["last"],
        "min": least[0],
        "max": greatest[0],
        "argmin": least[1],
        "argmax": -greatest[1],
    }
