"""Deletes runs and brings them back. What is deleted is hidden at once, and keeps its data until it is purged.

Forks see the points of what they continue. So a deleted run whose forks live keeps its data until they are gone: who
deletes a run does not mean its forks, whose history would have a hole, and who means them says `with_descendants`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Final

from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import NotFoundError, RejectedError
from thalweg_tracker.model import limits
from thalweg_tracker.runs.deletions import (
    WHOLE_PROJECT,
    Deletion,
    deletions_of,
    list_deletions,
    write_deletions,
)
from thalweg_tracker.sql import load

KEEP_S: Final = 7 * 86_400
"""A deleted run can be brought back for so long, if nothing else is said."""
_NAMED: Final = 20
"""Runs that a message names."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was deleted. `waits_for`: runs that live and see points of it, until which are gone its data are kept."""

    runs: list[Deletion]
    waits_for: list[str]


@dataclass(frozen=True, slots=True)
class Wish:
    """How to delete. `keep_s`: so long it can be brought back; None: it is purged at once, if nobody else sees it."""

    keep_s: float | None = KEEP_S
    with_descendants: bool = False
    reason: str = "asked"


def delete_run(engine: Engine, project: str, run_id: str, wish: Wish, now: datetime) -> Deleted:
    """Deletes a run. One that is deleted already gets the new time. Raises NotFoundError, RejectedError."""
    before = deletions_of(engine, project, [run_id])
    if run_id not in before and not _exist(engine, project, [run_id]):
        raise NotFoundError("run_not_found", f"there is no run {run_id!r} in project {project!r}")
    if run_id in before and before[run_id].state != "deleted":
        raise RejectedError("purged", f"run {run_id!r} was purged already: nothing is left to delete")
    return _delete(engine, project, [run_id], wish, now)


def delete_project(engine: Engine, project: str, wish: Wish, now: datetime) -> Deleted:
    """Deletes all runs of a project; when they are purged, so is what belongs to the project. Raises NotFoundError."""
    rows = engine.query(load("run_ids"), {"project": project}, limits.QUERY_TIMEOUT_S)
    waiting = [one.run_id for one in list_deletions(engine, project, ["deleted"]) if one.run_id != WHOLE_PROJECT]
    run_ids = [*rows["run_id"].to_pylist(), *(waiting if wish.keep_s is None else [])]
    if not run_ids:
        raise NotFoundError("project_not_found", f"there are no runs in project {project!r}")
    deleted = _write(engine, project, run_ids, wish, now)
    of_project = [Deletion(project, WHOLE_PROJECT, "deleted", wish.reason, now, _purge_at(wish, now))]
    write_deletions(engine, of_project, "deleted", _micros(now))
    return deleted


def _delete(engine: Engine, project: str, run_ids: Sequence[str], wish: Wish, now: datetime) -> Deleted:
    living = living_descendants(engine, project, run_ids)
    chosen = list(run_ids)
    if wish.with_descendants:
        chosen += living
        living = []
    if living and wish.keep_s is None:
        raise RejectedError(
            "has_descendants",
            f"cannot purge {named(run_ids)} of project {project!r} now: what they logged is seen from {named(living)}",
            "Delete these first, or all together with --with-descendants; or leave out --now: then the data are kept "
            "until these runs are gone.",
        )
    return replace(_write(engine, project, chosen, wish, now), waits_for=living)


def _write(engine: Engine, project: str, run_ids: Sequence[str], wish: Wish, now: datetime) -> Deleted:
    rows = [Deletion(project, run_id, "deleted", wish.reason, now, _purge_at(wish, now)) for run_id in run_ids]
    write_deletions(engine, rows, "deleted", _micros(now))
    return Deleted(rows, [])


def undelete_run(engine: Engine, project: str, run_id: str, now: datetime) -> Deletion:
    """Brings a run back. Of one that is purged its id becomes free. Raises NotFoundError, RejectedError."""
    found = deletions_of(engine, project, [run_id]).get(run_id)
    if found is None:
        raise NotFoundError("not_deleted", f"there is no deleted run {run_id!r} in project {project!r}")
    if found.state == "purging":
        raise RejectedError(
            "purging", f"cannot bring run {run_id!r} back: its data are being removed right now", "Try again later."
        )
    of_project = list(deletions_of(engine, project, [WHOLE_PROJECT]).values())  # which is not deleted whole any more
    write_deletions(engine, [found, *of_project], "", _micros(now))
    return found


def living_descendants(engine: Engine, project: str, run_ids: Sequence[str]) -> list[str]:
    """Runs that were not deleted, and see points of some runs, beside these themselves."""
    found = list(dict.fromkeys(run_id for run_id, _ in descendants(engine, project, run_ids)))
    gone = deletions_of(engine, project, found) if found else {}
    return [run_id for run_id in found if run_id not in gone]


def descendants(engine: Engine, project: str, run_ids: Sequence[str]) -> list[tuple[str, str]]:
    """Runs that continue some runs, however far, beside these themselves: each with each of these that it sees."""
    where = {"project": project, "run_ids": list(run_ids)}
    rows = engine.query(load("descendants"), where, limits.QUERY_TIMEOUT_S).to_pylist()
    return [(row["run_id"], row["of"]) for row in rows]


def named(run_ids: Iterable[str]) -> str:
    """Runs in a message: the first ones by name."""
    every = list(dict.fromkeys(run_ids))
    more = f" and {len(every) - _NAMED:,} more" if len(every) > _NAMED else ""
    return ", ".join(every[:_NAMED]) + more


def _exist(engine: Engine, project: str, run_ids: Sequence[str]) -> bool:
    where = {"project": project, "run_ids": list(run_ids)}
    return bool(engine.query(load("branch_keys"), where, limits.QUERY_TIMEOUT_S).num_rows)


def _purge_at(wish: Wish, now: datetime) -> datetime:
    return now + timedelta(seconds=wish.keep_s or 0)


def utc_now() -> datetime:
    """The present time."""
    return datetime.now(timezone.utc)


def _micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)
