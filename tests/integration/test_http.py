"""What holds for all requests: their time limit, clients that go away, compression, validators."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from tests.support import wire
from tests.support.scripted_engine import ScriptedEngine
from tests.support.tracker import Tracker, answering, tracking
from tests.unit.tracker.api.test_errors import ANSWER, BATCH, BODY, NO_CUSTOM_METRICS
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.api.caching import not_modified, tagged, validator
from thalweg_tracker.api.encode import ARROW_STREAM
from thalweg_tracker.engine.contract import NO_PARAMETERS, Parameters
from thalweg_tracker.errors import EngineBusyError
from thalweg_tracker.model import limits
from thalweg_tracker.query.lineage import RunRef, find_views

SERIES = "/projects/p/series"
ARROW = {"Accept": ARROW_STREAM}


@pytest.fixture
def engine() -> ScriptedEngine:
    """A database that says how long it was given."""
    return ScriptedEngine(answer=ANSWER, answers=NO_CUSTOM_METRICS, batches=[BATCH])


@pytest.fixture
def http(engine: ScriptedEngine) -> Iterator[httpx.Client]:
    """A client of its API."""
    with answering(engine) as client:
        yield client


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[Tracker]:
    """An empty tracker."""
    with tracking(tmp_path / "data") as tracker:
        yield tracker


# -- time limits


@pytest.mark.parametrize(
    ("query", "headers", "most_s"),
    [
        ({}, {}, limits.QUERY_TIMEOUT_S),
        ({"timeout_s": 5}, {}, 5),
        ({}, {"X-Request-Timeout-S": "2.5"}, 2.5),
        ({"timeout_s": 7}, {"X-Request-Timeout-S": "3"}, 3),
    ],
)
def test_the_time_of_a_request(
    engine: ScriptedEngine, http: httpx.Client, query: dict[str, int], headers: dict[str, str], most_s: float
) -> None:
    """Every query gets what is left of the time that the request was given, also those that run side by side."""
    answer = http.post(SERIES, json=BODY, params=query, headers={**headers, **ARROW})
    assert answer.status_code == 200
    *queries, stream = engine.timeouts_s
    assert len(queries) > 2
    assert all(given is not None and most_s - 1 < given <= most_s for given in queries)
    assert stream is not None
    assert stream <= (most_s if query or headers else limits.STREAM_TIMEOUT_S)


def test_a_time_is_of_one_request(engine: ScriptedEngine, http: httpx.Client) -> None:
    """The next request on the same connection has its own."""
    http.post(SERIES, json=BODY, params={"timeout_s": 1}, headers=ARROW)
    engine.timeouts_s.clear()
    http.post(SERIES, json=BODY, headers=ARROW)
    assert engine.timeouts_s[0] == limits.QUERY_TIMEOUT_S


@pytest.mark.parametrize("text", ["0", "0.5", "61", "nan", "inf", "-1", "soon", ""])
def test_times_that_cannot_be_given(http: httpx.Client, text: str) -> None:
    """From one second to as long as any query may take, as a parameter and as a header."""
    for answer in (
        http.get("/projects", params={"timeout_s": text}),
        http.get("/projects", headers={"X-Request-Timeout-S": text}),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


def test_a_question_that_takes_too_long(engine: ScriptedEngine, http: httpx.Client) -> None:
    """It has a code of its own, and says what to do; trying again at once is not it."""
    engine.error = EngineBusyError("Code: 159. Timeout exceeded", 159)
    answer = http.get("/projects")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "query_timeout")
    assert "timeout_s" in answer.json()["error"]["hint"]
    assert "retry-after" not in answer.headers


# -- clients that go away


@dataclass
class EndlessEngine(ScriptedEngine):
    """Its streams end when they are closed."""

    is_open: threading.Event = field(default_factory=threading.Event)
    is_closed: threading.Event = field(default_factory=threading.Event)

    def stream(
        self,
        sql: str,
        parameters: Parameters = NO_PARAMETERS,
        timeout_s: float | None = None,
        max_rows_to_read: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The batch for ever."""
        self.is_open.set()
        try:
            while True:
                yield BATCH
        finally:
            self.is_closed.set()


def test_a_client_that_goes_away_ends_its_stream() -> None:
    """A client that leaves in the middle of an Arrow answer ends the query behind it."""
    engine = EndlessEngine(answer=ANSWER, answers=NO_CUSTOM_METRICS)
    with answering(engine) as http:
        with http.stream("POST", SERIES, json=BODY, headers=ARROW) as answer:
            assert next(answer.iter_raw())
            assert engine.is_open.is_set()
        assert engine.is_closed.wait(30)


# -- compression


def test_answers_are_compressed_for_those_who_take_it(tracker: Tracker) -> None:
    """A long answer in JSON is; an Arrow stream is not, and neither is what nobody asked to be."""
    tracker.log("r", "loss", {float(step): 0.5 for step in range(5000)})
    body = {"runs": ["r"], "metrics": ["loss"], "points": None}
    answers = {
        accepted: tracker.http.post(SERIES, json=body, headers={"Accept-Encoding": accepted})
        for accepted in ("gzip", "identity")
    }
    assert answers["gzip"].headers["content-encoding"] == "gzip"
    assert "content-encoding" not in answers["identity"].headers
    assert answers["gzip"].json() == answers["identity"].json()
    assert int(answers["gzip"].headers["content-length"]) < int(answers["identity"].headers["content-length"]) / 4
    arrow = tracker.http.post(SERIES, json=body, headers={"Accept-Encoding": "gzip", **ARROW})
    assert "content-encoding" not in arrow.headers


# -- validators


def an_app(tracker: Tracker) -> FastAPI:
    """A route as those that have validators."""
    app = FastAPI()

    @app.get("/runs")
    def runs(request: Request, ids: str) -> Response:
        views = find_views(tracker.engine, wire.PROJECT, [RunRef(one) for one in ids.split(",")])
        tag = validator(tracker.engine, request, wire.PROJECT, views)
        return not_modified(request, tag) or tagged(JSONResponse(ids), tag)

    return app


def ask(tracker: Tracker, ids: str, known: str | None = None, accept: str = "*/*") -> httpx.Response:
    """The answer about some runs to a client that has one with the tag `known`."""

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(an_app(tracker))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            headers = {"Accept": accept, **({} if known is None else {"If-None-Match": known})}
            return await client.get("/runs", params={"ids": ids}, headers=headers)

    return asyncio.run(answer())


def end(tracker: Tracker, run_id: str, writer: int) -> None:
    """A run that ended long ago."""
    events = [wire.started(), wire.ended(pb.WriterEnded.Outcome.FINISHED)]
    tracker.take(wire.hello(run_id, writer=writer), wire.batch(1, events=events), seen_us=wire.START_US)


def test_what_did_not_change_is_not_sent_again(tracker: Tracker) -> None:
    """A client that names the tag of its answer gets 304 while that holds, and the answer with another tag after."""
    end(tracker, "r", 1)
    first = ask(tracker, "r")
    tag = first.headers["etag"]
    assert tag.startswith('W/"')
    assert first.headers["cache-control"] == "private, no-cache"
    again = ask(tracker, "r", f'"other", {tag}')
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert ask(tracker, "r", tag, accept=ARROW_STREAM).status_code == 200, "another form is another answer"
    tracker.take(wire.hello("r"), wire.batch(2, ["late"], [1], [[1]]), seen_us=wire.START_US + 1)
    changed = ask(tracker, "r", tag)
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def test_several_runs_have_a_tag_for_those_who_want_it(tracker: Tracker) -> None:
    """Who sends If-None-Match, be it empty, gets one."""
    end(tracker, "r", 1)
    end(tracker, "s", 2)
    assert "etag" not in ask(tracker, "r,s").headers
    tag = ask(tracker, "r,s", "").headers["etag"]
    assert ask(tracker, "r,s", tag).status_code == 304
    assert ask(tracker, "s,r", tag).status_code == 200


def test_a_run_that_goes_on_has_no_tag(tracker: Tracker) -> None:
    """Nor has an answer about several of which one goes on."""
    end(tracker, "r", 1)
    tracker.take(wire.hello("going", writer=2), wire.batch(1, events=[wire.started()]))
    assert "etag" not in ask(tracker, "going", "").headers
    assert "etag" not in ask(tracker, "r,going", "").headers
