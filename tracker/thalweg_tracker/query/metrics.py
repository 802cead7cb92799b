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
        page = engine.query(load("metric_page"), where, limits.QUERY_TIMEOUT_S)
    except EngineError as error:
        if error.code == _CANNOT_COMPILE_REGEXP:
            raise RejectedError("bad_regex", f"cannot use {pattern!r} as a regular expression (RE2 syntax)") from error
        raise
    keys: list[int] = page["metric"].to_pylist()
    known = _by_metric(engine, "metrics", run, keys)
    relogged = [key for key, row in known.items() if row.pop("relogged")]
    for key, extremes in _by_metric(engine, "metric_extremes", run, relogged).items():
        known[key] |= extremes
    return [{"name": name, **known[key]} for key, name in zip(keys, page["name"].to_pylist(), strict=True)]


def _by_metric(engine: Engine, query: str, run: RunKey, metrics: list[int]) -> dict[int, dict[str, Any]]:
    """The rows of a query over some metrics of a run, by metric. Nothing is asked where there are none."""
    if not metrics:
        return {}
    rows = engine.query(load(query), {"run": run, "metrics": metrics}, limits.QUERY_TIMEOUT_S).to_pylist()
    return {row.pop("metric"): row for row in rows}
