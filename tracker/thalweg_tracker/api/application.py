"""Makes the FastAPI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from thalweg_tracker.access.doors import Doors
from thalweg_tracker.api.backups import make_backup_router
from thalweg_tracker.api.bodies import BodyLimit
from thalweg_tracker.api.compression import Compression
from thalweg_tracker.api.deadlines import StreamEnds, TimedEngine, time_limit
from thalweg_tracker.api.deletion import make_deletion_router
from thalweg_tracker.api.errors import add_handlers
from thalweg_tracker.api.guard import Guard, SafetyHeaders
from thalweg_tracker.api.live import make_live_router
from thalweg_tracker.api.live_hub import LiveHub
from thalweg_tracker.api.objects import make_object_router
from thalweg_tracker.api.routes import make_router
from thalweg_tracker.api.tokens import make_token_router
from thalweg_tracker.care.backup_jobs import BackupJobs
from thalweg_tracker.care.keeper import Keeper
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import TrackerError
from thalweg_tracker.objects.contract import ObjectStore
from thalweg_tracker.objects.files import FileStore
from thalweg_tracker.telemetry.telemetry import Telemetry
from thalweg_tracker.upkeep.reach import Reach

log = logging.getLogger(__name__)


def make_api(
    engine: Engine,
    objects: ObjectStore | None,
    version: str,
    grpc_address: str | None,
    doors: Doors,
    telemetry: Telemetry | None = None,
    instance: str = "",
) -> FastAPI:
    """The application over one engine and the store of checkpoints, if there is one.

    `grpc_address`: what senders are told; None where there is no ingest. `instance`: a word for this server alone.
    """
    backups = BackupJobs(engine)
    app = FastAPI(
        title="Thalweg",
        version=version,
        summary="Query API of the experiment tracker",
        openapi_url="/api/v1/openapi.json",
        lifespan=_lifespan(engine, objects, backups),
    )
    telemetry = telemetry or Telemetry()
    timed = TimedEngine(engine, telemetry.traces)
    hub = LiveHub(engine)
    telemetry.metrics.http.listeners.set_function(lambda: hub.listeners)
    routers = [make_live_router(engine, hub), make_token_router(engine, doors, instance), make_backup_router(backups)]
    if isinstance(objects, FileStore):
        routers.append(make_object_router(objects))
    reach = Reach(objects, is_narrow=doors.settings.tokens, places=doors.settings.checkpoint_places)
    timed_routers = [make_router(timed, reach, version, grpc_address), make_deletion_router(timed)]
    # What FastAPI makes of routers that are included does not tell which of their routes it leads to.
    routes = [*app.routes, *(route for router in (*timed_routers, *routers) for route in router.routes)]
    for router in timed_routers:
        app.include_router(router, dependencies=[Depends(time_limit)])
    for router in routers:
        app.include_router(router)
    app.state.live = hub
    add_handlers(app)
    _add_middleware(app, routes, doors, engine)
    return app


def _lifespan(
    engine: Engine, objects: ObjectStore | None, backups: BackupJobs
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """What goes on as long as the application does."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        keeper = Keeper(engine)
        keeper.start()
        try:
            async with _opened(objects):
                yield
        finally:
            for stop in (backups.stop, keeper.stop):
                await asyncio.to_thread(stop)

    return lifespan


@asynccontextmanager
async def _opened(objects: ObjectStore | None) -> AsyncIterator[None]:
    """The store lives in the event loop that uses it."""
    if objects is None:
        yield
        return
    async with objects:
        try:
            await objects.check()
        except TrackerError as error:  # metrics are served all the same, and it may come back
            log.warning("checkpoints cannot be stored for now: %s", error)
        yield


def _add_middleware(app: FastAPI, routes: Sequence[BaseRoute], doors: Doors, engine: Engine) -> None:
    """From the innermost to the outermost."""
    app.add_middleware(BodyLimit)
    app.add_middleware(Compression)
    app.add_middleware(StreamEnds)
    app.add_middleware(Guard, routes=routes, doors=doors, engine=engine)
    if doors.settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=doors.settings.origins,
            allow_methods=["*"],
            allow_headers=["Authorization", "Content-Type", "If-None-Match", "Last-Event-ID"],
            expose_headers=["ETag", "Retry-After"],
        )
    app.add_middleware(SafetyHeaders, is_secure=doors.settings.tls is not None)
