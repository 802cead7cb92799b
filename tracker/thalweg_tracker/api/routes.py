"""The routes of /api/v1. Handlers that ask the database are plain functions: FastAPI runs them in threads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from itertools import chain
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

from thalweg.wire import limits as wire_limits
from thalweg_tracker.api import models
from thalweg_tracker.api.caching import NOT_MODIFIED, not_modified, tagged, validator
from thalweg_tracker.api.checkpoints import add_checkpoints, latest_checkpoint
from thalweg_tracker.api.encode import ARROW_STREAM, arrow_bytes, from_cursor, series_json, to_cursor
from thalweg_tracker.api.errors import RESPONSES
from thalweg_tracker.api.expressions import add_expressions
from thalweg_tracker.api.guard import grant_of
from thalweg_tracker.api.lineage import add_lineage, branch_line, lineage_steps
from thalweg_tracker.api.parameters import Branch, Cursor, Limit, ProjectName, RunName
from thalweg_tracker.api.questions import ask_series
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.model import limits
from thalweg_tracker.query import metrics as metric_queries
from thalweg_tracker.query import runs as run_queries
from thalweg_tracker.query import series as series_queries
from thalweg_tracker.query.lineage import RunRef, RunView, find_views
from thalweg_tracker.upkeep.reach import Reach


def make_router(engine: Engine, reach: Reach, version: str, grpc_address: str | None) -> APIRouter:
    """The routes over one engine."""
    router = APIRouter(prefix="/api/v1", responses=RESPONSES)

    @router.get("/health")
    async def health(request: Request) -> models.Health:  # needs no thread: it answers while all of them are busy
        """Tells that the server is there, and the address of its gRPC ingest. Where tokens are asked for, no more."""
        grpc = grpc_address and reachable(grpc_address, request.url.hostname)
        told = "" if reach.is_narrow else engine.describe()
        return models.Health(status="ok", version=version, grpc=grpc, engine=told)

    _add_lists(router, engine)
    _add_one_run(router, engine)
    _add_series(router, engine)
    add_expressions(router, engine)
    add_lineage(router, engine, latest_checkpoint(engine, reach))
    add_checkpoints(router, engine, reach)
    return router


def reachable(address: str, host: str | None) -> str:
    """An address that the ingest listens on, as one may connect to it: of all interfaces, the one that was asked."""
    scheme, _, place = address.rpartition("://")
    name, _, port = place.rpartition(":")
    if name in ("0.0.0.0", "[::]") and host:  # noqa: S104  # nothing is bound here
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"{scheme}://{place}" if scheme else place


def _add_lists(router: APIRouter, engine: Engine) -> None:
    """Projects, and the runs of one."""

    @router.get("/projects")
    def projects(request: Request, limit: Limit = limits.PAGE_DEFAULT, cursor: Cursor = None) -> models.ProjectPage:
        """Lists projects by name, as far as the token is good for them."""
        after = from_cursor(cursor, (str,))[0] if cursor else ""
        rows = run_queries.list_projects(engine, after, limit + 1, only=grant_of(request).project)
        page, more = rows[:limit], len(rows) > limit
        following = to_cursor(page[-1]["project"]) if more else None
        return models.ProjectPage(projects=[models.Project(**row) for row in page], next_cursor=following)

    @router.get("/projects/{project}/runs")
    def runs(project: ProjectName, limit: Limit = limits.PAGE_DEFAULT, cursor: Cursor = None) -> models.RunPage:
        """Lists the runs of a project, newest first. A project without runs has an empty list."""
        place = run_queries.RunPlace(*from_cursor(cursor, (int, str))) if cursor else run_queries.START
        found = run_queries.list_runs(engine, project, place, limit + 1)
        page, more = found[:limit], len(found) > limit
        following = to_cursor(_micros(page[-1].created_at), page[-1].run_id) if more else None
        return models.RunPage(runs=[_run_line(run) for run in page], next_cursor=following)


def _add_one_run(router: APIRouter, engine: Engine) -> None:
    """A run, and its metrics."""

    @router.get("/projects/{project}/runs/{run_id}", response_model=models.Run, responses=NOT_MODIFIED)
    def run(project: ProjectName, run_id: RunName, request: Request, branch: Branch = None) -> models.Run | Response:
        """One run: attributes, lineage, and the health of its writers."""
        view = _view(engine, project, run_id, branch)
        tag = validator(engine, request, project, [view])
        unchanged = not_modified(request, tag)
        return unchanged or tagged(_json(_run(run_queries.get_run(engine, view))), tag)

    @router.get("/projects/{project}/runs/{run_id}/metrics", response_model=models.MetricPage, responses=NOT_MODIFIED)
    def metrics(
        project: ProjectName,
        run_id: RunName,
        request: Request,
        branch: Branch = None,
        prefix: Annotated[str, Query(max_length=wire_limits.METRIC_NAME_MAX_BYTES)] = "",
        match: Annotated[str, Query(description="regular expression (RE2), found anywhere in the name")] = "",
        limit: Limit = limits.PAGE_DEFAULT,
        cursor: Cursor = None,
    ) -> models.MetricPage | Response:
        """Lists the metrics of a run by name, with their last, least and greatest values."""
        view = _view(engine, project, run_id, branch)
        tag = validator(engine, request, project, [view])
        unchanged = not_modified(request, tag)
        if unchanged is not None:
            return unchanged
        after = from_cursor(cursor, (str,))[0] if cursor else ""
        rows = metric_queries.list_metrics(engine, view, prefix=prefix, pattern=match, after=after, limit=limit + 1)
        page, more = rows[:limit], len(rows) > limit
        following = to_cursor(page[-1]["name"]) if more else None
        found = models.MetricPage(metrics=[models.Metric(**row) for row in page], next_cursor=following)
        return tagged(_json(found), tag)


def _add_series(router: APIRouter, engine: Engine) -> None:
    """Many series at once."""

    @router.post(
        "/projects/{project}/series",
        response_model=models.SeriesAnswer,
        responses={
            200: {"content": {ARROW_STREAM: {}}, "description": "JSON, or an Arrow IPC stream in long form"},
            **NOT_MODIFIED,
        },
    )
    def series(project: ProjectName, query: models.SeriesQuery, request: Request) -> Response:
        """Reads many series at once: exact points, or buckets with min, max, mean, first and last value."""
        asked, groups = ask_series(engine, project, query)
        wants_arrow = ARROW_STREAM in request.headers.get("accept", "")
        if wants_arrow and groups is not None:
            raise RejectedError("groups_in_json", "groups of runs come as JSON only", "Ask for application/json.")
        tag = None
        if "if-none-match" in request.headers:  # a tag takes 10 ms, which nobody should pay who does not use it
            views = [*asked.views, *asked.computed.bound.values()]
            tag = validator(engine, request, project, views, query, asked.computed.items, groups)
        unchanged = not_modified(request, tag)
        if unchanged is not None:
            return unchanged
        if wants_arrow:
            return tagged(StreamingResponse(_arrow(engine, asked, query.with_time), media_type=ARROW_STREAM), tag)
        table = series_queries.read_series(engine, asked)
        named = None if table is None else series_queries.with_names(table, asked)
        owners = [(view.run_id, view.branch) for view in asked.views] if groups is None else _numbers(groups)
        asked_names = list(dict.fromkeys((*query.metrics, *query.expressions)))
        pairs = [(*owner, name) for owner in owners for name in asked_names]
        order = {pair: place for place, pair in enumerate(pairs)}
        body = series_json(named, order, with_time=query.with_time, groups=groups)
        return tagged(Response(body, media_type="application/json"), tag)


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


def _numbers(groups: list[dict[str, Any]]) -> list[tuple[int]]:
    return [(number,) for number in range(len(groups))]


def _view(engine: Engine, project: str, run_id: str, branch: int | None) -> RunView:
    return find_views(engine, project, [RunRef(run_id, branch)])[0]


def _arrow(engine: Engine, asked: series_queries.SeriesRequest, with_time: bool) -> Iterator[bytes]:
    """The answer piece by piece. Its begin is there on return: what fails until then is not yet answered with 200."""
    schema = series_queries.answer_schema(asked)
    if not with_time and "time" in schema.names:
        schema = schema.remove(schema.get_field_index("time"))
    batches = (series_queries.with_names(batch, asked) for batch in series_queries.stream_series(engine, asked))
    pieces = arrow_bytes((batch.select(schema.names) for batch in batches), schema)
    return chain([next(pieces)], pieces)


def _micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)


def _run_line(run: run_queries.RunSummary) -> models.RunLine:
    return models.RunLine(**{key: value for key, value in asdict(run).items() if key != "key"})


def _run(found: run_queries.RunDetails) -> models.Run:
    counters: dict[str, int] = {}
    for writer in found.writers:
        for reason, points in writer["counters"].items():
            counters[reason] = counters.get(reason, 0) + points
    return models.Run(
        **_run_line(found.summary).model_dump(),
        branch=found.view.branch,
        branches=[branch_line(one) for one in found.view.branches],
        notes=found.notes,
        config=dict(found.config),
        env=dict(found.env),
        lineage=lineage_steps(found.view.lineage),
        last_step=found.last_step,
        health=models.RunHealth(counters=counters, writers=[models.WriterState(**writer) for writer in found.writers]),
    )
