"""Routes that delete runs and bring them back, and say for how long projects keep theirs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from thalweg_tracker.api.errors import RESPONSES
from thalweg_tracker.api.parameters import ProjectName, RunName
from thalweg_tracker.care.deletion import KEEP_S, Deleted, Wish, delete_project, delete_run, undelete_run, utc_now
from thalweg_tracker.care.retention import read_retention, set_retention, silent_runs
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.runs.deletions import WHOLE_PROJECT, Deletion, list_deletions

_TEN_YEARS_S = 10 * 366 * 86_400
Keep = Annotated[
    float, Query(ge=0, le=_TEN_YEARS_S, allow_inf_nan=False, description="seconds in which it can be brought back")
]
Now = Annotated[bool, Query(description="purge it as soon as possible: it cannot be brought back")]
WithDescendants = Annotated[
    bool, Query(description="also the runs that continue it, and see its points; else these keep its data")
]


class DeletedRun(BaseModel):
    """A run that was deleted. After `purge_at` it cannot be brought back."""

    run_id: str
    state: Literal["deleted", "purging", "purged"]
    reason: Literal["asked", "retention"]
    deleted_at: datetime
    purge_at: datetime


class DeletedRuns(BaseModel):
    """What was deleted. `waits_for`: runs that see its points; its data are kept until they are gone too."""

    runs: list[DeletedRun]
    waits_for: list[str]


class DeletedList(BaseModel):
    """The deleted runs of a project."""

    runs: list[DeletedRun]


class Undeleted(BaseModel):
    """A run that was brought back; of one that was purged only the id is free again."""

    run_id: str
    is_empty: bool


class Retention(BaseModel):
    """For how many seconds a project keeps a run after its last word; null: for ever."""

    keep_s: int | None = Field(None, ge=60, le=100 * _TEN_YEARS_S)


class RetentionAnswer(Retention):
    """`runs_due`: that are older already, and will be deleted within a minute."""

    runs_due: int


def make_deletion_router(engine: Engine) -> APIRouter:
    """The routes over one engine."""
    router = APIRouter(prefix="/api/v1", responses=RESPONSES)
    _add_deletion(router, engine)
    _add_retention(router, engine)
    return router


def _add_deletion(router: APIRouter, engine: Engine) -> None:
    @router.delete("/projects/{project}/runs/{run_id}")
    def delete(
        project: ProjectName,
        run_id: RunName,
        keep_s: Keep = KEEP_S,
        now: Now = False,
        with_descendants: WithDescendants = False,
    ) -> DeletedRuns:
        """Deletes a run: it is hidden at once, and purged later."""
        wish = Wish(None if now else keep_s, with_descendants)
        return _deleted(delete_run(engine, project, run_id, wish, utc_now()))

    @router.delete("/projects/{project}")
    def delete_all(project: ProjectName, keep_s: Keep = KEEP_S, now: Now = False) -> DeletedRuns:
        """Deletes all runs of a project, and when they are purged its custom metrics and names."""
        return _deleted(delete_project(engine, project, Wish(None if now else keep_s), utc_now()))

    @router.post("/projects/{project}/runs/{run_id}/undelete")
    def undelete(project: ProjectName, run_id: RunName) -> Undeleted:
        """Brings a deleted run back, with all that it had. Of one that was purged, only its id is free again."""
        found = undelete_run(engine, project, run_id, utc_now())
        return Undeleted(run_id=run_id, is_empty=found.state == "purged")

    @router.get("/projects/{project}/deleted")
    def deleted(project: ProjectName) -> DeletedList:
        """Lists the deleted runs of a project that were not purged yet, by id."""
        found = list_deletions(engine, project, ["deleted", "purging"])
        return DeletedList(runs=[_line(one) for one in found if one.run_id != WHOLE_PROJECT])


def _add_retention(router: APIRouter, engine: Engine) -> None:
    @router.get("/admin/projects/{project}/retention")
    def show(project: ProjectName) -> RetentionAnswer:
        """Tells for how long a project keeps its runs."""
        return _retention(engine, project)

    @router.put("/admin/projects/{project}/retention")
    def change(project: ProjectName, order: Retention, dry_run: bool = False) -> RetentionAnswer:
        """Says for how long a project keeps its runs; with `dry_run` only tells which that concerns."""
        if dry_run:
            return _answer(engine, project, order.keep_s)
        set_retention(engine, project, order.keep_s, utc_now())
        return _retention(engine, project)


def _retention(engine: Engine, project: str) -> RetentionAnswer:
    return _answer(engine, project, read_retention(engine, project))


def _answer(engine: Engine, project: str, keep_s: int | None) -> RetentionAnswer:
    due = [] if keep_s is None else silent_runs(engine, project, keep_s, utc_now())
    return RetentionAnswer(keep_s=keep_s, runs_due=len(due))


def _deleted(found: Deleted) -> DeletedRuns:
    return DeletedRuns(runs=[_line(one) for one in found.runs], waits_for=found.waits_for)


def _line(one: Deletion) -> DeletedRun:
    return DeletedRun(
        run_id=one.run_id,
        state=one.state or "deleted",
        reason="retention" if one.reason == "retention" else "asked",
        deleted_at=one.deleted_at,
        purge_at=one.purge_at,
    )
