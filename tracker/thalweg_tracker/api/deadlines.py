"""The time that a request may take: what the client asks for, the engine that keeps to it, and the end of its streams.

Every query of a request gets what is left of its time. A client that goes away ends a stream as soon as its next batch
is there; other queries end by themselves, at the latest at this limit.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Annotated, Final

import pyarrow as pa
from fastapi import Header, Query
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from thalweg_tracker.engine.contract import NO_PARAMETERS, Engine, Key, Lookup, Parameters, Rows
from thalweg_tracker.engine.failures import TIMEOUT_EXCEEDED, engine_error
from thalweg_tracker.model import limits
from thalweg_tracker.telemetry.traces import Traces

_ends_at_s: ContextVar[float | None] = ContextVar("ends_at_s", default=None)
_opened: ContextVar[list[Iterator[pa.RecordBatch]] | None] = ContextVar("opened", default=None)
_WHAT: Final = f"seconds that the request may take; each query at most {limits.QUERY_TIMEOUT_S} if not given"


async def time_limit(
    timeout_s: Annotated[float | None, Query(ge=1, le=limits.QUERY_TIMEOUT_S, description=_WHAT)] = None,
    x_request_timeout_s: Annotated[
        float | None, Header(ge=1, le=limits.QUERY_TIMEOUT_S, description="as timeout_s")
    ] = None,
) -> None:
    """A dependency: sets the time of this request. Asynchronous, so that what is set is set for the handler too."""
    given = [one for one in (timeout_s, x_request_timeout_s) if one is not None]
    _ends_at_s.set(time.monotonic() + min(given) if given else None)


class StreamEnds:
    """ASGI middleware: closes what a request left open, as its client went away; else its query would go on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        opened: list[Iterator[pa.RecordBatch]] = []
        _opened.set(opened)
        try:
            await self._app(scope, receive, send)
        finally:
            for stream in opened:
                await run_in_threadpool(_close, stream)


def _close(stream: Iterator[pa.RecordBatch]) -> None:
    if isinstance(stream, Generator):
        stream.close()


class TimedEngine:
    """An engine for handlers: its reads end when the time of their request does."""

    def __init__(self, engine: Engine, traces: Traces | None = None) -> None:
        self._engine = engine
        self._traces = traces or Traces()

    def insert(self, table: str, rows: pa.Table) -> None:
        """See contract."""
        self._engine.insert(table, rows)

    def query(
        self,
        sql: str,
        parameters: Parameters = NO_PARAMETERS,
        timeout_s: float | None = None,
        max_rows_to_read: int | None = None,
    ) -> pa.Table:
        """See contract."""
        with self._traces.query(sql):
            return self._engine.query(sql, parameters, _left_s(timeout_s), max_rows_to_read)

    def stream(
        self,
        sql: str,
        parameters: Parameters = NO_PARAMETERS,
        timeout_s: float | None = None,
        max_rows_to_read: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """See contract. Without any limit: STREAM_TIMEOUT_S. Closed at the end of the request."""
        given_s = _left_s(timeout_s) or limits.STREAM_TIMEOUT_S
        stream = self._engine.stream(sql, parameters, given_s, max_rows_to_read)
        opened = _opened.get()
        if opened is not None:
            opened.append(stream)
        return stream

    def look_up(
        self, lookup: Lookup, project: str, keys: Sequence[Key], timeout_s: float | None = None
    ) -> Mapping[Key, Rows]:
        """See contract."""
        return self._engine.look_up(lookup, project, keys, _left_s(timeout_s))

    def execute(self, sql: str) -> None:
        """See contract."""
        self._engine.execute(sql)

    def describe(self) -> str:
        """See contract."""
        return self._engine.describe()

    def close(self) -> None:
        """See contract."""
        self._engine.close()


def _left_s(timeout_s: float | None) -> float | None:
    """The limit of a query that begins now. Raises EngineBusyError where the request has no time left."""
    ends_at_s = _ends_at_s.get()
    if ends_at_s is None:
        return timeout_s
    left_s = ends_at_s - time.monotonic()
    if left_s <= 0:
        raise engine_error(TIMEOUT_EXCEEDED, "the request has no time left")
    return left_s if timeout_s is None else min(left_s, timeout_s)
