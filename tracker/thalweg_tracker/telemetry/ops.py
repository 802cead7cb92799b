"""`/healthz`, `/readyz` and `/metrics`: for the API beside its routes, and on an address of their own.

They tell nothing of runs, projects or users, and are neither counted nor logged. Probes need no token; nor do
metrics, but with the API of a server that asks for tokens, where others than the operator come by.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import uvicorn
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from thalweg_tracker.errors import TrackerError
from thalweg_tracker.model.settings import Address
from thalweg_tracker.telemetry.readiness import OK, Verdict
from thalweg_tracker.telemetry.telemetry import Telemetry

Admits = Callable[[str | None], Awaitable[bool]]
PATHS: Final = ("/healthz", "/readyz", "/metrics")
_STOP_S: Final = 5
_NEVER_KEPT: Final = {"Cache-Control": "no-store"}


class Ops:
    """ASGI application: answers the three, and hands all else to `inner`, without which there is nothing else."""

    def __init__(self, telemetry: Telemetry, inner: ASGIApp | None = None, admits: Admits | None = None) -> None:
        """`admits`: whether an `Authorization` header is good enough for the metrics; None: any is."""
        self._metrics = telemetry.metrics
        self._readiness = telemetry.readiness
        self._inner = inner
        self._admits = admits
        self._threads = ThreadPoolExecutor(2, "ops")  # a scrape may wait for the engine; requests need not wait for it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers."""
        if scope["type"] == "http" and scope["path"] in PATHS:
            answer = await self._answer(scope)
        elif self._inner is not None:
            await self._inner(scope, receive, send)
            return
        else:
            answer = _error(404, "not_found", "there is nothing here", f"Ask for {', '.join(PATHS)}.")
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response:
        path = scope["path"]
        if scope["method"] not in ("GET", "HEAD"):
            answer = _error(405, "http_error", f"{path} takes no such method", "Use GET.")
            answer.headers["Allow"] = "GET, HEAD"
            return answer
        if path == "/healthz":
            return JSONResponse({"status": "ok"}, headers=_NEVER_KEPT)
        loop = asyncio.get_running_loop()
        if path == "/readyz":
            return _readiness_answer(await loop.run_in_executor(self._threads, self._readiness.look))
        headers = Headers(scope=scope)
        try:
            is_admitted = self._admits is None or await self._admits(headers.get("authorization"))
        except TrackerError:
            return _error(
                503, "database_busy", "the tokens cannot be read from the database for now", "See --ops, too."
            )
        if not is_admitted:
            answer = _error(
                401, "unauthenticated", "metrics need a token that is good for all projects", "See --ops, too."
            )
            answer.headers["WWW-Authenticate"] = 'Bearer realm="thalweg"'
            return answer
        accept = headers.get("accept", "")
        text, content_type = await loop.run_in_executor(self._threads, self._metrics.text, accept)
        return Response(text, headers={"Content-Type": content_type, **_NEVER_KEPT})


def _readiness_answer(verdict: Verdict) -> Response:
    if verdict.is_ready:
        return JSONResponse({"status": "ready", "checks": verdict.checks}, headers=_NEVER_KEPT)
    wrong = "; ".join(word for word in verdict.checks.values() if word != OK)
    return _error(503, "not_ready", f"not ready: {wrong}", "Ask another server, or again later.", checks=verdict.checks)


def _error(status: int, code: str, message: str, hint: str, **more: object) -> Response:
    """The one shape of errors, as the API has it."""
    document = {"error": {"code": code, "message": message, "hint": hint}, **more}
    return JSONResponse(document, status, headers=_NEVER_KEPT)


class OpsThread:
    """The three on an address of their own: uvicorn in a thread. It ends at once when it is told to."""

    def __init__(self, listener: socket.socket, telemetry: Telemetry) -> None:
        """Answers on a socket that listens."""
        self._socket = listener
        host, port = listener.getsockname()[:2]
        self.address = Address(host, port)
        config = uvicorn.Config(
            Ops(telemetry), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=_STOP_S
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="ops")
        self._thread.start()

    def stop(self) -> None:
        """Answers what was asked, then stops."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
