"""Routes of backups. They are for administrators: a backup is written where they say, by the server's process."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from thalweg_tracker.api.errors import RESPONSES
from thalweg_tracker.care.backup_jobs import BackupJobs, BackupState, State
from thalweg_tracker.care.manifest import Manifest


class BackupOrder(BaseModel):
    """A backup that is to be made."""

    to: Annotated[str, Field(min_length=1, max_length=4096)]
    """An absolute path of the server's host, where nothing is yet, or s3://bucket/prefix."""


class BackupResult(BaseModel):
    """What a backup holds."""

    created_at: datetime
    schema_number: int
    rows: int
    points: int
    bytes: int
    files: int


class Backup(BaseModel):
    """A backup, under way or ended. Rows are of all tables."""

    id: str
    to: str
    state: State
    started_at: datetime
    stage: str
    rows_done: int
    rows_total: int
    result: BackupResult | None
    error: str


def make_backup_router(jobs: BackupJobs) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/api/v1/admin/backups", responses=RESPONSES)

    @router.post("", status_code=202)
    def begin(order: BackupOrder) -> Backup:
        """Begins a backup of the whole database, while everything goes on. `last` tells how far it is."""
        return _backup(jobs.start(order.to))

    @router.get("/last")
    def last() -> Backup:
        """The backup that is under way, or the last one that this server process made."""
        return _backup(jobs.last())

    @router.delete("/{backup_id}", status_code=202)
    def cancel(backup_id: str) -> Backup:
        """Calls a backup off: it ends at its next step, as `last` tells, and is none. One that has ended stays."""
        return _backup(jobs.cancel(backup_id))

    return router


def _backup(state: BackupState) -> Backup:
    return Backup(
        id=state.id,
        to=state.to,
        state=state.state,
        started_at=_moment(state.started_us),
        stage=state.progress.stage,
        rows_done=state.progress.rows,
        rows_total=state.progress.total_rows,
        result=_result(state.manifest) if state.manifest else None,
        error=state.error,
    )


def _result(manifest: Manifest) -> BackupResult:
    return BackupResult(
        created_at=_moment(manifest.created_us),
        schema_number=manifest.schema,
        rows=manifest.rows,
        points=manifest.rows_of("points"),
        bytes=manifest.size_bytes,
        files=sum(len(table.files) for table in manifest.tables),
    )


def _moment(time_us: int) -> datetime:
    return datetime.fromtimestamp(time_us / 1e6, timezone.utc)
