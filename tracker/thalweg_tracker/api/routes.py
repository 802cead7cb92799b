"""The routes of /api/v1. Handlers that ask the database are plain functions: FastAPI runs them in threads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from itertools import chain
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response, StreamingResponse

from thalweg.wire import limits as wire_limits
from thalweg_tracker.api import models
from thalweg_tracker.api.encode import ARROW_STREAM, arrow_bytes, from_cursor, series_json, to_cursor
from thalweg_tracker.api.errors import RESPONSES
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import NotFoundError
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import RunKey
from thalweg_tracker.query import metrics as metric_queries
from thalweg_tracker.query import runs as run_queries
from thalweg_tracker.query import series as series_queries

ProjectName = Annotated[str, Path(min_length=1, max_length=wire_limits.PROJECT_MAX_BYTES)]
RunName = Annotated[str, Path(min_length=1, max_length=wire_limits.RUN_ID_MAX_BYTES)]
Limit = Annotated[int, Query(ge=1, le=limits.PAGE_MAX)]
Cursor = Annotated[str | None, Query(max_length=4096, description="next_cursor of the page before")]


def make_router(engine: Engine, version: str, grpc_address: str | None) -> APIRouter:
    """The routes over one engine."""
    router = APIRouter(prefix="/api/v1", responses=RESPONSES)

    @router.get("/health")
    async def health() -> models.Health:  # needs no thread: it answers while all of them are busy
        """Tells that the server is there, and the address of its gRPC ingest."""
        return models.Health(status="ok", version=version, grpc=grpc_address, engine=engine.describe())

    _add_lists(router, engine)
    _add_one_run(router, engine)
    _add_series(router, engine)
    return router


def _add_lists(router: APIRouter, engine: Engine) -> None:
    """Projects, and the runs of one."""

    @router.get("/projects")
    def projects(limit: Limit = limits.PAGE_DEFAULT, cursor: Cursor = None) -> models.ProjectPage:
        """Lists projects by name."""
        after = from_cursor(cursor, (str,))[0] if cursor else ""
        rows = run_queries.list_projects(engine, after, limit + 1)
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

    @router.get("/projects/{project}/runs/{run_id}")
    def run(project: ProjectName, run_id: RunName) -> models.Run:
        """One run: attributes, lineage, and the health of its writers."""
        return _run(run_queries.get_run(engine, project, run_id))

    @router.get("/projects/{project}/runs/{run_id}/metrics")
    def metrics(
        project: ProjectName,
        run_id: RunName,
        prefix: Annotated[str, Query(max_length=wire_limits.METRIC_NAME_MAX_BYTES)] = "",
        match: Annotated[str, Query(description="regular expression (RE2), found anywhere in the name")] = "",
        limit: Limit = limits.PAGE_DEFAULT,
        cursor: Cursor = None,
    ) -> models.MetricPage:
        """Lists the metrics of a run by name, with their last, least and greatest values."""
        key = _existing(engine, project, [run_id])[0]
        after = from_cursor(cursor, (str,))[0] if cursor else ""
        rows = metric_queries.list_metrics(
            engine, project, key, prefix=prefix, pattern=match, after=after, limit=limit + 1
        )
        page, more = rows[:limit], len(rows) > limit
        following = to_cursor(page[-1]["name"]) if more else None
        return models.MetricPage(metrics=[models.Metric(**row) for row in page], next_cursor=following)


def _add_series(router: APIRouter, engine: Engine) -> None:
    """Many series at once."""

    @router.post(
        "/projects/{project}/series",
        response_model=models.SeriesAnswer,
        responses={200: {"content": {ARROW_STREAM: {}}, "description": "JSON, or an Arrow IPC stream in long form"}},
    )
    def series(project: ProjectName, query: models.SeriesQuery, request: Request) -> Response:
        """Reads many series at once: exact points, or buckets with min, max, mean, first and last value."""
        asked = _series_request(engine, project, query)
        if ARROW_STREAM in request.headers.get("accept", ""):
            return StreamingResponse(_arrow(engine, asked, query.with_time), media_type=ARROW_STREAM)
        table = series_queries.read_series(engine, asked)
        named = None if table is None else series_queries.with_names(table, asked)
        pairs = [(run_id, name) for run_id in asked.runs.values() for name in asked.metrics]
        order = {pair: place for place, pair in enumerate(pairs)}
        return Response(series_json(named, order, with_time=query.with_time), media_type="application/json")


def _series_request(engine: Engine, project: str, query: models.SeriesQuery) -> series_queries.SeriesRequest:
    run_ids = list(dict.fromkeys(query.runs))
    keys = _existing(engine, project, run_ids)
    return series_queries.SeriesRequest(
        runs=dict(zip(keys, run_ids, strict=True)),
        metrics=list(dict.fromkeys(query.metrics)),
        from_step=query.from_step,
        to_step=query.to_step,
        points=query.points,
        by_rank=query.by_rank,
    )


def _existing(engine: Engine, project: str, run_ids: list[str]) -> list[RunKey]:
    """Keys of runs, in the same order. Raises NotFoundError naming the first that is missing."""
    keys = run_queries.existing_keys(engine, project, run_ids)
    for run_id in run_ids:
        if run_id not in keys:
            raise NotFoundError("run_not_found", f"there is no run {run_id!r} in project {project!r}")
    return [keys[run_id] for run_id in run_ids]


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
    notes = found.attributes.get("run", {}).get("notes", "")
    counters: dict[str, int] = {}
    for writer in found.writers:
        for reason, points in writer["counters"].items():
            counters[reason] = counters.get(reason, 0) + points
    return models.Run(
        **_run_line(found.summary).model_dump(),
        notes=notes if isinstance(notes, str) else json.dumps(notes),
        config=found.attributes.get("config", {}),
        env=found.attributes.get("env", {}),
        lineage=[models.LineageStep(run_id=found.summary.run_id, branch=0, upto=None)],
        last_step=found.last_step,
        health=models.RunHealth(counters=counters, writers=[models.WriterState(**writer) for writer in found.writers]),
    )
