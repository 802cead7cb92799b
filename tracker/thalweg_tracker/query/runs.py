"""Projects and runs: lists with cursors, one run with its attributes and health."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any, Final

from thalweg_tracker.engine.answers import rows_of
from thalweg_tracker.engine.contract import Engine, Lookup, Parameters
from thalweg_tracker.engine.together import together
from thalweg_tracker.lineage.chain import inherit
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import RunKey, run_key
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.query.states import NO_LABELS, Labels, States, forks_among, known_time, read_labels
from thalweg_tracker.query.texts import nest
from thalweg_tracker.runs.store import OWN_STEPS
from thalweg_tracker.sql import load

END_OF_TIME_US: Final = 2**62
_CONFIG: Final = "config."
_ATTRIBUTES: Final = Lookup("attributes", "run", load("run_attributes"))


@dataclass(frozen=True, slots=True)
class RunPlace:
    """A place in the list of runs, which goes from new to old: everything after (created_us, run_id)."""

    created_us: int
    run_id: str


START: Final = RunPlace(END_OF_TIME_US, "")


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A line in the list of runs. Times are None where they are not known."""

    run_id: str
    key: RunKey
    name: str
    status: str  # created, running, finished, failed, killed, lost
    created_at: datetime
    last_seen_at: datetime | None
    ended_at: datetime | None
    tags: list[str]


@dataclass(frozen=True, slots=True)
class RunDetails:
    """One run whole."""

    summary: RunSummary
    view: RunView
    config: Mapping[str, Any]  # nested; inherited values included
    env: Mapping[str, Any]  # nested
    notes: str
    writers: list[dict[str, Any]]
    last_step: float | None


def list_projects(engine: Engine, after: str, limit: int, *, only: str | None = None) -> list[dict[str, Any]]:
    """Projects by name: project, runs, last_created_at. `only`: none but this one."""
    where: Parameters = {"after": after, "limit": limit, "only": only or ""}
    found = engine.query(load("projects"), where, limits.QUERY_TIMEOUT_S)
    rows: list[dict[str, Any]] = rows_of(found)
    return rows


def list_runs(engine: Engine, project: str, place: RunPlace, limit: int) -> list[RunSummary]:
    """Runs of a project, newest first, after a place in that order."""
    where: Parameters = {
        "project": project,
        "created_before": place.created_us,
        "id_before": place.run_id,
        "limit": limit,
    }
    rows = rows_of(engine.query(load("runs"), where, limits.QUERY_TIMEOUT_S))
    return describe_runs(engine, project, rows)


def describe_runs(engine: Engine, project: str, rows: Sequence[Mapping[str, Any]]) -> list[RunSummary]:
    """Runs on branches, in this order: run_id, the branch's key `run`, created_at, and the `keys` of all branches."""
    if not rows:
        return []
    keys = [row["run"] for row in rows]
    named = {key: row["run_id"] for row in rows for key in row["keys"]}
    states, labels = together(partial(States, engine, project, keys), partial(read_labels, engine, project, named))
    forks = forks_among(engine, project, states.silent(keys))
    return [_summary(row, states, row["run"] in forks, labels.get(row["run_id"], NO_LABELS)) for row in rows]


def _summary(row: Mapping[str, Any], states: States, is_fork: bool, labels: Labels) -> RunSummary:
    state = states.of(row["run"], row["created_at"], is_fork=is_fork)
    return RunSummary(
        run_id=row["run_id"],
        key=RunKey(row["run"]),
        name=labels.name,
        status=state.status,
        created_at=row["created_at"],
        last_seen_at=state.last_seen_at,
        ended_at=state.ended_at,
        tags=labels.tags,
    )


def get_run(engine: Engine, view: RunView) -> RunDetails:
    """One branch of a run, whole."""
    row = {
        "run_id": view.run_id,
        "run": view.key,
        "created_at": min(one.known_since for one in view.branches),
        "keys": [run_key(view.project, view.run_id, one.branch) for one in view.branches],
    }
    (summary,) = describe_runs(engine, view.project, [row])
    where: dict[str, str | int] = {"project": view.project, "run": view.key}
    writers = rows_of(engine.query(load("run_writers"), where, limits.QUERY_TIMEOUT_S))
    layers = attributes_of(engine, view)
    own = [layer for one, layer in zip(view.lineage, layers, strict=True) if one.branch.run_id == view.run_id]
    attributes = nest(inherit(own))
    notes = attributes.get("run", {}).get("notes", "")
    return RunDetails(
        summary=summary,
        view=view,
        config=nest(inherit([config_of(layer) for layer in layers])),
        env=attributes.get("env", {}),
        notes=notes if isinstance(notes, str) else json.dumps(notes),
        writers=[_writer(row) for row in writers],
        last_step=last_step(engine, view),
    )


def attributes_of(engine: Engine, view: RunView) -> list[dict[str, str]]:
    """What each on the way from the root to a branch has set: JSON by path, empty where it removed one."""
    keys = view.keys
    found = engine.look_up(_ATTRIBUTES, view.project, keys, limits.QUERY_TIMEOUT_S)
    return [{row["path"]: row["json"] for row in found[key]} for key in keys]


def config_of(layer: Mapping[str, str]) -> dict[str, str]:
    """The config of some attributes, by its path below `config.`."""
    return {path[len(_CONFIG) :]: text for path, text in layer.items() if path.startswith(_CONFIG)}


def last_step(engine: Engine, view: RunView) -> float | None:
    """Highest step visible of a branch, metrics of the host left out; without own points its fork step at most."""
    runs = [segment.run for segment in view.segments]
    found = engine.look_up(OWN_STEPS, view.project, runs, limits.QUERY_TIMEOUT_S)
    for segment in reversed(view.segments):
        for row in found[segment.run]:
            if row["first_step"] <= segment.upto and row["last_step"] > segment.after:
                return min(float(row["last_step"]), segment.upto)
    return None


def _writer(row: dict[str, Any]) -> dict[str, Any]:
    """A writer as the API shows it; its last word is spread over outcome, exit_code, signal, exception, traceback."""
    word = json.loads(row.pop("ended") or "{}")
    ended_us = int(word.pop("time_us", 0))
    empty = {"outcome": None, "exit_code": None, "signal": None, "exception": "", "traceback": ""}
    return {
        **row,
        "writer": f"{row['writer']:016x}",
        "primary": bool(row["primary"]),
        "started_at": known_time(row["started_at"]),
        "last_seen_at": known_time(row["last_seen_at"]),
        "ended_at": datetime.fromtimestamp(ended_us / 1e6, timezone.utc) if ended_us else None,
        "counters": dict(row["counters"]),
        **empty,
        **word,
    }
