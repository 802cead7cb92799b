"""What became of branches, and how their runs are labelled: for lists of runs, and for the tree."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from thalweg.wire import policy
from thalweg_tracker.engine.answers import rows_of
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.model import limits
from thalweg_tracker.query.texts import as_text
from thalweg_tracker.sql import load

_MANY: Final = 1000
"""From so many branches on, those of the whole project are read: a list of their keys would take longer."""
_TAGS: Final = "tags."


@dataclass(frozen=True, slots=True)
class BranchState:
    """Times are None where they are not known."""

    status: str
    last_seen_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Labels:
    """What a run is called."""

    name: str
    tags: list[str]


NO_LABELS: Final = Labels("", [])


class States:
    """What writers said of some branches of a project."""

    def __init__(self, engine: Engine, project: str, keys: Sequence[int]) -> None:
        self._lost_before_us = int((time.time() - policy.LOST_AFTER_S) * 1e6)
        where = {**_which(project, keys), "lost_before": self._lost_before_us}
        rows = rows_of(engine.query(load("run_states"), where, limits.QUERY_TIMEOUT_S))
        self._rows = {row["run"]: row for row in rows}

    def silent(self, keys: Iterable[int]) -> list[int]:
        """Those of which no training process has said anything."""
        return [key for key in keys if key not in self._rows]

    def of(self, key: int, created_at: datetime, *, is_fork: bool) -> BranchState:
        """Without a word of a training process a branch counts from its creation; a fork is "created"."""
        row = self._rows.get(key)
        if row is None:
            lives = created_at.timestamp() * 1e6 >= self._lost_before_us
            return BranchState("created" if is_fork else "running" if lives else "lost", None, None)
        has_ended = row["ended_us"] and row["status"] not in ("running", "lost")
        ended_at = datetime.fromtimestamp(row["ended_us"] / 1e6, timezone.utc) if has_ended else None
        return BranchState(row["status"], known_time(row["last_seen_at"]), ended_at)


def forks_among(engine: Engine, project: str, keys: Sequence[int]) -> set[int]:
    """Those of some branches that were made as forks."""
    if not keys:
        return set()
    found = engine.query(load("forks_among"), {"project": project, "runs": keys}, limits.QUERY_TIMEOUT_S)
    return set(found["run"].to_pylist())


def read_labels(engine: Engine, project: str, runs: Mapping[int, str]) -> dict[str, Labels]:
    """Names and tags by run_id, from all its branches in `runs` (key -> run_id): what was set last stands."""
    rows = rows_of(engine.query(load("run_labels"), _which(project, list(runs)), limits.QUERY_TIMEOUT_S))
    stands: dict[str, dict[str, tuple[datetime, str]]] = {}
    for row in rows:
        if row["run"] in runs:
            paths = stands.setdefault(runs[row["run"]], {})
            paths[row["path"]] = max(paths.get(row["path"], (row["time"], "")), (row["time"], row["json"]))
    return {run_id: _labels({path: text for path, (_, text) in paths.items()}) for run_id, paths in stands.items()}


def _labels(texts: Mapping[str, str]) -> Labels:
    tags = sorted(path[len(_TAGS) :] for path, text in texts.items() if path.startswith(_TAGS) and text)
    return Labels(as_text(texts.get("run.name", "")), tags)


def _which(project: str, keys: Sequence[int]) -> dict[str, Any]:
    is_many = len(keys) >= _MANY
    return {"project": project, "all": is_many, "runs": [] if is_many else keys}


def known_time(moment: datetime | None) -> datetime | None:
    """None for the start of the epoch, which stands for a time that nobody told."""
    return moment if moment is not None and moment.timestamp() > 0 else None
