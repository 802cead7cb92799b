"""Makes the FastAPI application."""

from __future__ import annotations

from fastapi import FastAPI

from thalweg_tracker.api.bodies import BodyLimit
from thalweg_tracker.api.errors import add_handlers
from thalweg_tracker.api.routes import make_router
from thalweg_tracker.engine.contract import Engine


def make_api(engine: Engine, version: str, grpc_address: str | None) -> FastAPI:
    """The application over one engine. `grpc_address`: what senders are told; None where there is no ingest."""
    app = FastAPI(
        title="Thalweg",
        version=version,
        summary="Query API of the experiment tracker",
        openapi_url="/api/v1/openapi.json",
    )
    app.include_router(make_router(engine, version, grpc_address))
    add_handlers(app)
    app.add_middleware(BodyLimit)
    return app
