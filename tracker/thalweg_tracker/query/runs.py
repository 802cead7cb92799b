"""Projects and runs: lists with cursors, one run with its attributes and health."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from thalweg.wire import policy
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import NotFoundError
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import RunKey
from thalweg_tracker.sql import load

END_OF_TIME_US: Final = 2**62


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
    status: str  # running, finished, failed, killed, lost
    created_at: datetime
    last_seen_at: datetime | None
    ended_at: datetime | None
    tags: list[str]


@dataclass(frozen=True, slots=True)
class RunDetails:
    """One run whole."""

    summary: RunSummary
    attributes: Mapping[str, Any]  # nested: config, env, run
    writers: list[dict[str, Any]]
    last_step: float | None


def list_projects(engine: Engine, after: str, limit: int) -> list[dict[str, Any]]:
    """Projects by name: project, runs, last_created_at."""
    found = engine.query(load("projects"), {"after": after, "limit": limit}, limits.QUERY_TIMEOUT_S)
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def list_runs(engine: Engine, project: str, place: RunPlace, limit: int) -> list[RunSummary]:
    """Runs of a project, newest first, after a place in that order."""
    return _summaries(engine, project, "", place, limit)


def get_run(engine: Engine, project: str, run_id: str) -> RunDetails:
    """One run. Raises NotFoundError."""
    found = _summaries(engine, project, run_id, START, 1)
    if not found:
        raise NotFoundError(
            "run_not_found",
            f"there is no run {run_id!r} in project {project!r}",
            "GET /api/v1/projects/{project}/runs lists the runs.",
        )
    where: dict[str, str | int] = {"project": project, "run": found[0].key}
    attributes = engine.query(load("run_attributes"), where, limits.QUERY_TIMEOUT_S)
    writers = engine.query(load("run_writers"), where, limits.QUERY_TIMEOUT_S).to_pylist()
    steps = engine.query(load("run_last_step"), where, limits.QUERY_TIMEOUT_S).to_pylist()[0]
    pairs = zip(attributes["path"].to_pylist(), attributes["json"].to_pylist(), strict=True)
    return RunDetails(
        found[0], nest(pairs), [_writer(row) for row in writers], steps["last_step"] if steps["series"] else None
    )


def _summaries(engine: Engine, project: str, run_id: str, place: RunPlace, limit: int) -> list[RunSummary]:
    lost_before_us = int((time.time() - policy.LOST_AFTER_S) * 1e6)
    rows = engine.query(
        load("runs"),
        {
            "project": project,
            "run_id": run_id,
            "created_before": place.created_us,
            "id_before": place.run_id,
            "limit": limit,
            "lost_before": lost_before_us,
        },
        limits.QUERY_TIMEOUT_S,
    ).to_pylist()
    return [_summary(row) for row in rows]


def _summary(row: dict[str, Any]) -> RunSummary:
    return RunSummary(
        run_id=row["run_id"],
        key=RunKey(row["key"]),
        name=_as_text(row["name"]),
        status=row["status"],
        created_at=row["created_at"],
        last_seen_at=_known(row["last_seen_at"]),
        ended_at=datetime.fromtimestamp(row["ended_us"] / 1e6, timezone.utc) if row["ended_us"] else None,
        tags=sorted(row["tags"]),
    )


def _writer(row: dict[str, Any]) -> dict[str, Any]:
    """A writer as the API shows it; its last word is spread over outcome, exit_code, signal, exception, traceback."""
    word = json.loads(row.pop("ended") or "{}")
    ended_us = int(word.pop("time_us", 0))
    empty = {"outcome": None, "exit_code": None, "signal": None, "exception": "", "traceback": ""}
    return {
        **row,
        "writer": f"{row['writer']:016x}",
        "primary": bool(row["primary"]),
        "started_at": _known(row["started_at"]),
        "last_seen_at": _known(row["last_seen_at"]),
        "ended_at": datetime.fromtimestamp(ended_us / 1e6, timezone.utc) if ended_us else None,
        "counters": dict(row["counters"]),
        **empty,
        **word,
    }


def _known(moment: datetime | None) -> datetime | None:
    """None for the start of the epoch, which stands for a time that nobody told."""
    return moment if moment is not None and moment.timestamp() > 0 else None


def nest(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Dotted paths with JSON texts as nested mappings. Where a path is both a leaf and a branch, the leaf is at ""."""
    tree: dict[str, Any] = {}
    for path, text in pairs:
        *branches, leaf = path.split(".")
        node = tree
        for branch in branches:
            inner = node.setdefault(branch, {})
            if not isinstance(inner, dict):
                inner = node[branch] = {"": inner}
            node = inner
        value = read_json(text)
        if isinstance(node.get(leaf), dict) and not isinstance(value, dict):
            node[leaf][""] = value
        else:
            node[leaf] = value
    return tree


def read_json(text: str) -> Any:
    """A stored JSON value such that an answer can hold it: infinities as texts, halves of surrogate pairs replaced."""
    value = json.loads(text, parse_float=_finite)
    return _encodable(value) if "\\u" in text else value


def _finite(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else "Infinity" if number > 0 else "-Infinity"


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_encodable(inner) for inner in value]
    if isinstance(value, dict):
        return {_encodable(key): _encodable(inner) for key, inner in value.items()}
    return value


def _as_text(stored: str) -> str:
    """The text that a stored JSON value is; of any other value, its JSON."""
    value = read_json(stored) if stored else ""
    return value if isinstance(value, str) else stored


def existing_keys(engine: Engine, project: str, run_ids: list[str]) -> dict[str, RunKey]:
    """Keys of those runs that are there, by run_id."""
    where = {"project": project, "run_ids": run_ids}
    rows = engine.query(load("existing_runs"), where, limits.QUERY_TIMEOUT_S).to_pylist()
    return {row["run_id"]: RunKey(row["run"]) for row in rows}
