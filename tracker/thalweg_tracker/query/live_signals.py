"""Whether anything is new in some runs: the cheap questions that are asked all the time, for all listeners at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from thalweg_tracker.engine.contract import Engine, Parameters
from thalweg_tracker.model import limits
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.query.states import States
from thalweg_tracker.sql import load


@dataclass(frozen=True, slots=True)
class Watched:
    """A branch whose status somebody wants to know."""

    project: str
    created_at: datetime
    is_fork: bool


@dataclass(frozen=True, slots=True)
class Signal:
    """What is known of the writers of a branch. Unequal to the one before: something was committed, or merged."""

    by_writer: frozenset[tuple[int, int, int]]  # writer, and numbers that change
    started_us: Mapping[int, int]  # by writer; 0: not told

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signal) and self.by_writer == other.by_writer

    def __hash__(self) -> int:
        return hash(self.by_writer)


NO_SIGNAL = Signal(frozenset(), {})


def watched(view: RunView) -> Watched:
    """The branch of a view."""
    (own,) = (one for one in view.branches if one.branch == view.branch)
    return Watched(view.project, min(one.created_at for one in view.branches), own.kind == "fork")


def read_signals(engine: Engine, projects: Iterable[str], runs: Iterable[int]) -> dict[int, Signal]:
    """The signals of branches that somebody has written to."""
    where: Parameters = {"projects": list(projects), "runs": list(runs)}
    rows: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in engine.query(load("live_signals"), where, limits.LIVE_QUERY_TIMEOUT_S).to_pylist():
        rows[row["run"]].append(row)
    return {
        run: Signal(
            frozenset((row["writer"], row["rows"], row["seen_us"]) for row in some),
            {row["writer"]: row["started_us"] for row in some},
        )
        for run, some in rows.items()
    }


def read_origins(engine: Engine, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, int]]:
    """Numbers that change when the branches of runs do, by project and run; runs that never forked have none."""
    projects, run_ids = {project for project, _ in names}, {run_id for _, run_id in names}
    where: Parameters = {"projects": list(projects), "run_ids": list(run_ids)}
    rows = engine.query(load("live_origins"), where, limits.LIVE_QUERY_TIMEOUT_S).to_pylist()
    return {(row["project"], row["run_id"]): (row["rows"], row["version"]) for row in rows}


def read_statuses(engine: Engine, branches: Mapping[int, Watched]) -> dict[int, str]:
    """The status of each of some branches."""
    by_project: dict[str, list[int]] = defaultdict(list)
    for key, one in branches.items():
        by_project[one.project].append(key)
    found = {}
    for project, keys in by_project.items():
        states = States(engine, project, keys)
        found.update(
            {key: states.of(key, branches[key].created_at, is_fork=branches[key].is_fork).status for key in keys}
        )
    return found
