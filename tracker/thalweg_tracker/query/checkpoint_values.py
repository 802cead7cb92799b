"""The value of a metric at checkpoints: what they tell themselves, else the last that was logged at or before them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from thalweg.wire import limits as wire_limits
from thalweg_tracker.checkpoints.retention import Mode
from thalweg_tracker.checkpoints.state import Checkpoint
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import metric_key
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.query.points import OF_EACH, UPTO_STEP
from thalweg_tracker.sql import load, load_with

_SMALLER_IS_BETTER: Final = ("loss", "error", "perplexity")


def default_mode(metric: str) -> Mode:
    """What is best where nobody says: the least for names that end in loss, error or perplexity, else the greatest."""
    return "min" if metric.lower().endswith(_SMALLER_IS_BETTER) else "max"


def read_values(engine: Engine, view: RunView, checkpoints: Sequence[Checkpoint], metric: str) -> dict[float, float]:
    """The values of checkpoints that the view sees, by step; those without one, or with NaN, are left out."""
    steps = sorted(one.place.step for one in checkpoints)
    if not steps:
        return {}
    values = _logged(engine, view, metric, steps) | _told(engine, view, metric, steps)
    wanted = set(steps)
    return {step: value for step, value in values.items() if step in wanted and not math.isnan(value)}


def _told(engine: Engine, view: RunView, metric: str, steps: Sequence[float]) -> dict[float, float]:
    """By the checkpoints themselves."""
    values: dict[float, float] = {}
    for segment in view.segments:
        inside = [step for step in steps if segment.after < step <= segment.upto]
        if inside:
            where: dict[str, Any] = {"project": view.project, "run": segment.run, "metric": metric}
            where |= {"low": inside[0], "high": inside[-1]}
            for row in engine.query(load("checkpoint_values"), where, limits.QUERY_TIMEOUT_S).to_pylist():
                values[row["step"]] = row["value"]
    return values


def _logged(engine: Engine, view: RunView, metric: str, steps: Sequence[float]) -> dict[float, float]:
    """By the series. Metrics of the host have no steps of the training."""
    if metric.startswith(wire_limits.SYSTEM_PREFIX):
        return {}
    runs = [segment.run for segment in view.segments]
    where: dict[str, Any] = {
        "views": [view.key] * len(runs),
        "segments": runs,
        "after": [segment.after for segment in view.segments],
        "upto": [segment.upto for segment in view.segments],
        "runs": runs,
        "metrics": [metric_key(metric)],
        "to_step": steps[-1],
        "metric": metric_key(metric),
        "steps": list(steps),
    }
    sql = load_with("checkpoint_series", final="FINAL", which=f"{OF_EACH} AND {UPTO_STEP}")
    rows = engine.query(sql, where, limits.QUERY_TIMEOUT_S).to_pylist()
    found = {row["checkpoint"]: row["value"] for row in rows}
    values: dict[float, float] = {}
    last = math.nan
    for step in steps:
        last = values[step] = found.get(step, last)
    return values
