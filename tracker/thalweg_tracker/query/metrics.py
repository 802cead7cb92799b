"""The metrics of a run: names by prefix and regex, with last, min and max without reading points."""

from __future__ import annotations

from typing import Any

from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import EngineError, RejectedError
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import RunKey
from thalweg_tracker.sql import load

_CANNOT_COMPILE_REGEXP = 427


def list_metrics(
    engine: Engine, project: str, run: RunKey, *, prefix: str, pattern: str, after: str, limit: int
) -> list[dict[str, Any]]:
    """Metrics by name, after `after`. Raises RejectedError for a regular expression that is none.

    Each: name, ranks, first_step, last_step, last_time, last, min, argmin, max, argmax. NaN min: all values are NaN.
    """
    if len(pattern) > limits.REGEX_MAX_CHARS:
        raise RejectedError("bad_regex", f"the regular expression has more than {limits.REGEX_MAX_CHARS} characters")
    where: dict[str, str | int] = {
        "project": project,
        "run": run,
        "prefix": prefix,
        "pattern": pattern,
        "after": after,
        "limit": limit,
    }
    try:
        rows: list[dict[str, Any]] = engine.query(load("metrics"), where, limits.QUERY_TIMEOUT_S).to_pylist()
    except EngineError as error:
        if error.code == _CANNOT_COMPILE_REGEXP:
            raise RejectedError("bad_regex", f"cannot use {pattern!r} as a regular expression (RE2 syntax)") from error
        raise
    relogged = [row["metric"] for row in rows if row["relogged"]]
    if relogged:
        found = engine.query(
            load("metric_extremes"), {"run": run, "metrics": relogged}, limits.QUERY_TIMEOUT_S
        ).to_pylist()
        extremes = {row["metric"]: row for row in found}
        rows = [{**row, **extremes.get(row["metric"], {})} for row in rows]
    for row in rows:
        del row["metric"], row["relogged"]
    return rows
