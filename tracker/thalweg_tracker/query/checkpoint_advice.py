"""What is known of a run's saves and of the failures of its project, for the advice on how often to save."""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import median
from typing import Any, Final

from thalweg.wire import policy
from thalweg_tracker.checkpoints.interval import Observed
from thalweg_tracker.engine.answers import rows_of
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import run_key
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.sql import load

SAVES: Final = 100
"""The latest saves, over which costs and gaps are taken."""


def observe(engine: Engine, view: RunView) -> Observed:
    """Costs are those of the run, or of its project while the run has told none."""
    own = _saves(engine, view, own=True)
    costs = [save["blocked_s"] for save in own if save["blocked_s"] > 0]
    if not costs:
        costs = [save["blocked_s"] for save in _saves(engine, view, own=False) if save["blocked_s"] > 0]
    gaps = _gaps([save for save in own if save["run"] == view.key])
    paces = [seconds / steps for seconds, steps in gaps]
    where: dict[str, Any] = {
        "project": view.project,
        "lost_before": int((time.time() - policy.LOST_AFTER_S) * 1e6),
    }
    (failures,) = rows_of(engine.query(load("project_failures"), where, limits.QUERY_TIMEOUT_S))
    return Observed(
        save_costs_s=costs,
        failures=failures["failures"],
        observed_s=failures["observed_s"],
        gaps_s=[seconds for seconds, _ in gaps],
        seconds_per_step=median(paces) if paces else _pace(engine, view),
    )


def _saves(engine: Engine, view: RunView, *, own: bool) -> list[dict[str, Any]]:
    runs = list({view.key, *(run_key(view.project, view.run_id, one.branch) for one in view.branches)})
    where: dict[str, Any] = {"project": view.project, "all": not own, "runs": runs if own else [], "limit": SAVES}
    rows: list[dict[str, Any]] = rows_of(engine.query(load("checkpoint_saves"), where, limits.QUERY_TIMEOUT_S))
    return rows


def _gaps(saves: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Seconds and steps between saves of one branch that follow each other."""
    ordered = sorted((save["step"], save["told_us"] / 1e6) for save in saves)
    found = [(after[1] - before[1], after[0] - before[0]) for before, after in pairwise(ordered)]
    return [(seconds, steps) for seconds, steps in found if seconds > 0]


def _pace(engine: Engine, view: RunView) -> float | None:
    """Seconds per step of the latest points of the branch."""
    where: dict[str, Any] = {"project": view.project, "run": view.key}
    rows = rows_of(engine.query(load("run_pace"), where, limits.QUERY_TIMEOUT_S))
    return float(rows[0]["seconds_per_step"]) if rows else None
