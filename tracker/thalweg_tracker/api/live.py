"""The live stream: new points of chosen series and changes of status, as server-sent events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from thalweg_tracker.api.errors import RESPONSES, busy_answer
from thalweg_tracker.api.live_events import EVENT_STREAM, dropped_event
from thalweg_tracker.api.live_hub import Listener, LiveHub, Place
from thalweg_tracker.api.models import MetricName, RunId
from thalweg_tracker.api.parameters import ProjectName
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.model import limits
from thalweg_tracker.query.lineage import RunRef, find_views
from thalweg_tracker.query.live_marks import Marks, read_marks

log = logging.getLogger(__name__)

_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the latter: nginx passes events on at once
_STOP_S: Final = 0.5
_ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {EVENT_STREAM: {}}, "description": "Events `status`, `points`, `dropped`; see docs/http-api.md"}
}


def make_live_router(engine: Engine, hub: LiveHub) -> APIRouter:
    """The route of live streams."""
    router = APIRouter(prefix="/api/v1", responses=RESPONSES)

    @router.get("/projects/{project}/live", response_class=Response, responses=_ANSWER)
    async def live(
        project: ProjectName,
        runs: Annotated[list[RunId], Query(min_length=1, max_length=limits.LIVE_RUNS_MAX)],
        metrics: Annotated[list[MetricName] | None, Query(max_length=limits.LIVE_SERIES_MAX)] = None,
        from_now: Annotated[bool, Query(description="only what comes from now on, else all there is first")] = True,
        after_time: Annotated[
            int | None, Query(ge=0, lt=2**63, description="only points with a later time, in microseconds")
        ] = None,
        last_event_id: Annotated[
            str | None, Header(description="the id of an event: goes on after it, whatever else is asked")
        ] = None,
    ) -> Response:
        """Tells new points of logged metrics, and changes of status, as they come."""
        names = list(dict.fromkeys(metrics or ()))
        run_ids = list(dict.fromkeys(runs))
        asked = len(run_ids) * len(names)
        if asked > limits.LIVE_SERIES_MAX:
            raise RejectedError(
                "too_many_series", f"{asked} series asked for; at most {limits.LIVE_SERIES_MAX} in one stream"
            )
        marks = None if from_now else Marks()
        if after_time is not None:
            marks = Marks(after_time)
        if last_event_id:
            marks = read_marks(last_event_id)

        def begin() -> Listener:
            views = find_views(engine, project, [RunRef(run_id) for run_id in run_ids])
            return Listener(hub.answers, views, names, marks)

        if refusal := hub.refusal(project):
            return busy_answer("too_many_listeners", refusal, "Close some, or ask for several runs in one stream.")
        place = hub.take_place(project)
        try:
            listener = await asyncio.to_thread(begin)
        except BaseException:
            hub.give_back(place)
            raise
        return EventStream(hub, listener, place)

    return router


class EventStream(StreamingResponse):
    """The events of a listener. One that takes none for LIVE_STALL_S is dropped, and told so when it takes again."""

    def __init__(self, hub: LiveHub, listener: Listener, place: Place) -> None:
        """It gives the place back."""
        self._hub = hub
        self._listener = listener
        self._place = place
        super().__init__(self._events(), media_type=EVENT_STREAM, headers=_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See Starlette."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()

    async def _events(self) -> AsyncGenerator[bytes, None]:
        self._hub.add(self._listener)
        async for event in self._listener.events(self._hub.stopped):
            yield event

    def _leave(self) -> None:
        self._hub.remove(self._listener)
        self._hub.give_back(self._place)

    async def stream_response(self, send: Send) -> None:
        """Sends the events; a send waits while the client's buffers are full."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        events = self._events()
        try:
            async for event in events:
                if not await self._give(send, event):
                    return
        finally:
            await events.aclose()
        await send(_body(b"", more=False))

    async def _give(self, send: Send, event: bytes) -> bool:
        """Whether the client took it in time. If not, it was told so, or the connection is given up."""
        sending = asyncio.ensure_future(send(_body(event)))
        try:
            if await self._is_taken(sending, limits.LIVE_STALL_S):
                return True
            log.warning("dropped a listener that took nothing for %g s", limits.LIVE_STALL_S)
            self._leave()
            if await self._is_taken(sending, limits.LIVE_FAREWELL_S):
                reason = f"no event was taken for {limits.LIVE_STALL_S:g} s; come back with Last-Event-ID"
                await send(_body(dropped_event(reason), more=False))
            return False
        finally:
            sending.cancel()

    async def _is_taken(self, sending: asyncio.Future[None], within_s: float) -> bool:
        """Waits for it, a moment only once the server stops."""
        stopping = asyncio.ensure_future(self._hub.stopped.wait())
        both: set[asyncio.Future[Any]] = {sending, stopping}
        await asyncio.wait(both, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not sending.done() and self._hub.stopped.is_set():
            await asyncio.wait({sending}, timeout=_STOP_S)
        if sending.done():
            sending.result()
        return sending.done()


def _body(data: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}
