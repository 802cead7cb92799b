"""What is said of each request: its id, its place in the metrics and traces, and one line in the log.

The outermost part of the API, so that it sees the answers to defects too. Of an address only the route's template is
told, and of headers only the request's id: no line, label or span can hold a token or what somebody named a run.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thalweg_tracker.telemetry.logs import facts, request_id, take_request_id
from thalweg_tracker.telemetry.telemetry import Telemetry
from thalweg_tracker.telemetry.traces import Span

log = logging.getLogger(__name__)

OTHER_ROUTE: Final = "(other)"
"""What is no route of the API: paths that are not there, and the pages of its documentation."""
CLIENT_LEFT: Final = 499
"""Status of a request whose client went away before its answer began, as nginx has it."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ID: Final = "X-Request-ID"


@dataclass(slots=True)
class _Seen:
    """What was seen of an answer."""

    status: int = 0
    is_live: bool = False
    is_whole: bool = False
    first_byte_s: float = 0.0


class Requests:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._metrics = telemetry.metrics.http
        self._traces = telemetry.traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, and tells of it when it is over."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = take_request_id(headers.get(_ID))
        request_id.set(
            given
        )  # never reset: the task of this request ends with it, and what fails there is logged by it
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        seen, begun_s = _Seen(), time.perf_counter()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                seen.first_byte_s = time.perf_counter() - begun_s
                seen.is_live = Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")
                message = {**message, "headers": [*message["headers"], (_ID.lower().encode(), given.encode())]}
            elif message["type"] == "http.response.body":
                seen.is_whole = not message.get("more_body", False)
            await send(message)

        self._metrics.in_progress.inc()
        with self._traces.request(method, headers) as span:
            try:
                await self._app(scope, receive, watched)
            except Exception:
                seen.status = seen.status or 500
                raise
            finally:
                self._metrics.in_progress.dec()
                self._tell(method, _route(scope), seen, time.perf_counter() - begun_s, span)

    def _tell(self, method: str, route: str, seen: _Seen, took_s: float, span: Span) -> None:
        status = seen.status or CLIENT_LEFT
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.duration_s.labels(method, route).observe(seen.first_byte_s if seen.is_live else took_s)
        span.rename(f"{method} {route}")
        span.set(http__route=route, http__response__status_code=status)
        took_ms = round(1e3 * took_s, 1)
        cut = "" if seen.is_whole else ", not taken to its end"
        log.info(
            "%s %s %d %s ms%s",
            method,
            route,
            status,
            took_ms,
            cut,
            extra=facts(method=method, route=route, status=status, duration_ms=took_ms, whole=seen.is_whole),
        )


def _route(scope: Scope) -> str:
    """The template of the route that the request was for."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else OTHER_ROUTE
