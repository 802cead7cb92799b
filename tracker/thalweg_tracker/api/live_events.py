"""Server-sent events as bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson

from thalweg_tracker.api.encode import json_column
from thalweg_tracker.model import limits
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.query.live import NewPoints

EVENT_STREAM: Final = "text/event-stream"
BEGIN: Final = b"retry: 1000\n\n"
"""A browser whose stream ended tries again after this many milliseconds."""
KEEP_ALIVE: Final = b": keep-alive\n\n"


def event(kind: str, document: dict[str, Any]) -> bytes:
    """One event. JSON has no line ends, so it is one line of data."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))


def with_id(text: str, one: bytes) -> bytes:
    """The event with an id."""
    return b"id: %b\n%b" % (text.encode(), one)


def status_event(view: RunView, status: str) -> bytes:
    """What became of a run."""
    return event("status", {"run_id": view.run_id, "branch": view.branch, "status": status})


def dropped_event(reason: str) -> bytes:
    """The last event of a stream that ends before its time."""
    return event("dropped", {"reason": reason})


def points_events(series: Iterable[NewPoints]) -> list[bytes]:
    """New points in events of at most LIVE_EVENT_POINTS."""
    events: list[bytes] = []
    together: list[dict[str, Any]] = []
    room = limits.LIVE_EVENT_POINTS
    for one, begin, end in _pieces(series):
        if end - begin > room:
            events.append(event("points", {"series": together}))
            together, room = [], limits.LIVE_EVENT_POINTS
        room -= end - begin
        together.append(
            {
                "run_id": one.run_id,
                "branch": one.branch,
                "name": one.name,
                "rank": one.rank,
                "x": json_column(one.steps[begin:end]),
                "value": json_column(one.values[begin:end]),
                "time": json_column(one.times_us[begin:end]),
            }
        )
    return [*events, event("points", {"series": together})] if together else events


def _pieces(series: Iterable[NewPoints]) -> Iterator[tuple[NewPoints, int, int]]:
    for one in series:
        for begin in range(0, len(one.steps), limits.LIVE_EVENT_POINTS):
            yield one, begin, min(begin + limits.LIVE_EVENT_POINTS, len(one.steps))
