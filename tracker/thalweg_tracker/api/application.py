"""Makes the FastAPI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI

from thalweg_tracker.api.backups import make_backup_router
from thalweg_tracker.api.bodies import BodyLimit
from thalweg_tracker.api.compression import Compression
from thalweg_tracker.api.deadlines import StreamEnds, TimedEngine, time_limit
from thalweg_tracker.api.deletion import make_deletion_router
from thalweg_tracker.api.errors import add_handlers
from thalweg_tracker.api.live import make_live_router
from thalweg_tracker.api.live_hub import LiveHub
from thalweg_tracker.api.objects import make_object_router
from thalweg_tracker.api.routes import make_router
from thalweg_tracker.care.backup_jobs import BackupJobs
from thalweg_tracker.care.keeper import Keeper
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import TrackerError
from thalweg_tracker.objects.contract import ObjectStore
from thalweg_tracker.objects.files import FileStore

log = logging.getLogger(__name__)


def make_api(engine: Engine, objects: ObjectStore | None, version: str, grpc_address: str | None) -> FastAPI:
    """The application over one engine and the store of checkpoints, if there is one.

    `grpc_address`: what senders are told; None where there is no ingest.
    """

    backups = BackupJobs(engine)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        keeper = Keeper(engine)
        keeper.start()
        try:
            async with open_objects():
                yield
        finally:
            for stop in (backups.stop, keeper.stop):
                await asyncio.to_thread(stop)

    @asynccontextmanager
    async def open_objects() -> AsyncIterator[None]:
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

    app = FastAPI(
        title="Thalweg",
        version=version,
        summary="Query API of the experiment tracker",
        openapi_url="/api/v1/openapi.json",
        lifespan=lifespan,
    )
    timed = TimedEngine(engine)
    app.include_router(make_router(timed, objects, version, grpc_address), dependencies=[Depends(time_limit)])
    hub = LiveHub(engine)
    app.include_router(make_live_router(engine, hub))
    app.include_router(make_backup_router(backups))
    app.include_router(make_deletion_router(timed), dependencies=[Depends(time_limit)])
    app.state.live = hub
    if isinstance(objects, FileStore):
        app.include_router(make_object_router(objects))
    add_handlers(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(Compression)
    app.add_middleware(StreamEnds)
    return app
