"""Ids of requests: given or made, in answers, in errors, and in the log of all that is done for a request."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pyarrow as pa
import pytest

from tests.support.scripted_engine import ScriptedEngine
from tests.support.tracker import answering
from tests.support.waiting import wait_until
from tests.unit.tracker.api.test_errors import ANSWER, BODY, NO_CUSTOM_METRICS
from thalweg_tracker.engine.together import together
from thalweg_tracker.errors import EngineError
from thalweg_tracker.model import limits
from thalweg_tracker.telemetry.logs import JsonFormatter, request_id

log = logging.getLogger("thalweg_tracker.test")
ID = "X-Request-ID"
MADE = re.compile("[0-9a-f]{16}")


class Lines:
    """What was logged, as JSON."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    def of(self, logger: str) -> list[dict[str, Any]]:
        """The lines of one logger so far."""
        lines = [json.loads(line) for line in self._stream.getvalue().splitlines()]
        return [line for line in lines if line["logger"] == logger]

    def requests(self, count: int) -> list[dict[str, Any]]:
        """The first `count` lines about requests, once they are there: a line comes after its answer."""
        return wait_until(lambda: found if len(found := self.of("thalweg_tracker.api.requests")) >= count else [])


@pytest.fixture
def lines() -> Iterator[Lines]:
    """The log of this process from now on."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield Lines(stream)
    root.removeHandler(handler)
    root.setLevel(level)


class TalkingEngine(ScriptedEngine):
    """Its queries log a line, from the thread that runs them, and from those beside it."""

    def query(self, *arguments: Any, **more: Any) -> pa.Table:
        """The answer."""
        together(lambda: log.info("beside"), lambda: log.info("query"))
        return super().query(*arguments, **more)


@pytest.fixture
def engine() -> TalkingEngine:
    """A database whose failures are asked for."""
    return TalkingEngine(answer=ANSWER, answers=NO_CUSTOM_METRICS)


@pytest.fixture
def http(engine: TalkingEngine, lines: Lines) -> Iterator[httpx.Client]:
    """A client of its API."""
    with answering(engine) as client:
        yield client


def test_an_id_goes_through(engine: TalkingEngine, http: httpx.Client, lines: Lines) -> None:
    """From the header to the answer, and to every line: of the handler's thread, and of those that it asks for help."""
    answer = http.get("/projects/p/runs/r", headers={ID: "mine-1"})
    assert answer.headers.get_list(ID) == ["mine-1"]
    (request,) = lines.requests(1)
    assert request["request_id"] == "mine-1"
    told = lines.of("thalweg_tracker.test")
    assert {line["message"] for line in told} == {"beside", "query"}
    assert {line["request_id"] for line in told} == {"mine-1"}
    assert request_id.get() == "", "nothing of it stays"


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 200, "<script>"])
def test_an_id_that_is_none(http: httpx.Client, lines: Lines, given: str | None) -> None:
    """Another one is made."""
    answer = http.get("/health", headers={} if given is None else {ID: given})
    assert MADE.fullmatch(answer.headers[ID])
    assert lines.requests(1)[0]["request_id"] == answer.headers[ID]


def test_each_request_has_its_own(http: httpx.Client, lines: Lines) -> None:
    """Also on one connection."""
    ids = [http.get("/health").headers[ID] for _ in range(3)]
    assert len(set(ids)) == 3
    assert [line["request_id"] for line in lines.requests(3)] == ids


def test_an_error_of_the_database(engine: TalkingEngine, http: httpx.Client, lines: Lines) -> None:
    """The answer 500 names the id, and the log has the database's words under it."""
    engine.error = EngineError("Code: 47. unknown identifier", 47)
    answer = http.get("/projects", headers={ID: "mine-2"})
    assert answer.status_code == 500
    assert answer.json()["error"]["request_id"] == answer.headers[ID] == "mine-2"
    assert "mine-2" in answer.json()["error"]["hint"]
    (failure,) = lines.of("thalweg_tracker.api.errors")
    assert failure["request_id"] == "mine-2"
    assert "unknown identifier" in failure["exception"]


def test_a_defect(engine: TalkingEngine, http: httpx.Client, lines: Lines) -> None:
    """An exception that nobody foresaw: the same, and its traceback has the id too."""
    engine.answer = pa.table({"unexpected": [1]})
    answer = http.get("/projects", headers={ID: "mine-3"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert answer.json()["error"]["request_id"] == answer.headers[ID] == "mine-3"
    (request,) = lines.requests(1)
    assert (request["status"], request["request_id"]) == (500, "mine-3")
    (failure,) = wait_until(lambda: [line for line in lines.of("uvicorn.error") if line["level"] == "ERROR"])
    assert failure["request_id"] == "mine-3"
    assert "Traceback" in failure["exception"]


def test_errors_of_the_client_have_the_header(http: httpx.Client) -> None:
    """404, 405, 413 and 422: in the header alone."""
    answers = [
        http.get("/nothing"),
        http.delete("/projects"),
        http.post("/projects/p/series", content=bytes(limits.BODY_MAX_BYTES + 1)),
        http.get("/projects", params={"limit": "x"}),
    ]
    assert [answer.status_code for answer in answers] == [404, 405, 413, 422]
    for answer in answers:
        assert MADE.fullmatch(answer.headers[ID])
        assert "request_id" not in answer.json()["error"]


def test_one_line_a_request(http: httpx.Client, lines: Lines) -> None:
    """Method, route, status, time; nothing of what was asked for, and of headers and bodies nothing."""
    secret = {"Authorization": "Bearer s3cr3t", "Cookie": "s3cr3t"}
    http.get("/projects/some-project/runs/some-run?x=s3cr3t", headers=secret)
    http.post("/projects/some-project/series", json={**BODY, "metrics": ["s3cr3t"]}, headers=secret)
    http.get("/nothing/s3cr3t", headers=secret)
    found = lines.requests(3)
    assert [(line["method"], line["route"]) for line in found] == [
        ("GET", "/api/v1/projects/{project}/runs/{run_id}"),
        ("POST", "/api/v1/projects/{project}/series"),
        ("GET", "(other)"),
    ]
    for line in found:
        assert line["duration_ms"] > 0
        assert line["whole"] is True
        assert line["message"].startswith(f"{line['method']} {line['route']} {line['status']} ")
        assert not re.search("s3cr3t|some-", json.dumps(line))
