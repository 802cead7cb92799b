"""Rows of the table `deletions`: which runs were deleted, and what is left of them.

Whoever reads or writes runs asks here; `care/deletion.py` decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final, Literal

import pyarrow as pa

from thalweg_tracker.engine.contract import Engine, Lookup
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.model import limits
from thalweg_tracker.sql import load

DELETIONS: Final = pa.schema(
    [
        ("project", pa.string()),
        ("run_id", pa.string()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("deleted_at", pa.timestamp("us", "UTC")),
        ("purge_at", pa.timestamp("us", "UTC")),
        ("time", pa.timestamp("us", "UTC")),
    ]
)
State = Literal["deleted", "purging", "purged", ""]
WHOLE_PROJECT: Final = ""
"""`run_id` of the row of a project."""
_OF_RUNS: Final = Lookup("deletions", "run_id", load("deletions_of"))


@dataclass(frozen=True, slots=True)
class Deletion:
    """A run that was deleted. `reason`: `asked` or `retention`."""

    project: str
    run_id: str
    state: State
    reason: str
    deleted_at: datetime
    purge_at: datetime


def deletions_of(engine: Engine, project: str, run_ids: Sequence[str]) -> dict[str, Deletion]:
    """Those of some runs that were deleted."""
    found: dict[str, Deletion] = {}
    for run_id, rows in engine.look_up(_OF_RUNS, project, run_ids, limits.QUERY_TIMEOUT_S).items():
        if rows:
            latest = max(rows, key=lambda row: row["time"])
            if latest["state"]:
                found[str(run_id)] = _deletion({"project": project, **latest})
    return found


def list_deletions(engine: Engine, project: str | None, states: Sequence[State]) -> list[Deletion]:
    """What was deleted, of a project or (None) of all, and is in one of these states."""
    rows = engine.query(load("deletions_listed"), {"project": project or "", "states": states}, limits.QUERY_TIMEOUT_S)
    return [_deletion(row) for row in rows.to_pylist()]


def _deletion(row: Mapping[str, Any]) -> Deletion:
    return Deletion(**{name: row[name] for name in Deletion.__dataclass_fields__})


def write_deletions(engine: Engine, deletions: Iterable[Deletion], state: State, now_us: int) -> None:
    """Says what became of some runs. It stands over what was said before, whatever the clocks of others say."""
    told = list(deletions)
    before: dict[tuple[str, str], datetime] = {}
    for project in {one.project for one in told}:
        run_ids = [one.run_id for one in told if one.project == project]
        found = engine.look_up(_OF_RUNS, project, run_ids, limits.QUERY_TIMEOUT_S)
        before |= {(project, str(run_id)): max(row["time"] for row in some) for run_id, some in found.items() if some}
    now = datetime.fromtimestamp(now_us / 1e6, timezone.utc)
    least = timedelta(microseconds=1)
    rows = [
        {
            "project": one.project,
            "run_id": one.run_id,
            "state": state,
            "reason": one.reason,
            "deleted_at": one.deleted_at,
            "purge_at": one.purge_at,
            "time": max(now, before.get((one.project, one.run_id), now - least) + least),
        }
        for one in told
    ]
    if rows:
        engine.insert("deletions", pa.Table.from_pylist(rows, schema=DELETIONS))


def deleted_error(deletion: Deletion) -> RejectedError:
    """What is said to a writer of a deleted run, and to whoever would begin it again."""
    name, when = f"{deletion.project}/{deletion.run_id}", f"{deletion.deleted_at:%Y-%m-%d %H:%M} UTC"
    after = f"`thalweg undelete {name}` brings it back; then `thalweg sync` delivers what waits"
    if deletion.state == "purged":
        after = f"choose another run id, or free this one with `thalweg undelete {name}`"
    return RejectedError("run_deleted", f"cannot write to run {deletion.run_id}: it was deleted at {when}; {after}")


def refuse_deleted(engine: Engine, project: str, run_id: str) -> None:
    """Raises RejectedError if a run was deleted."""
    found = deletions_of(engine, project, [run_id])
    if run_id in found:
        raise deleted_error(found[run_id])
