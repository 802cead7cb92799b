"""How failures of the database look over HTTP: the one shape, before the first byte of an answer."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import httpx
import pyarrow as pa
import pytest

from tests.support.scripted_engine import ScriptedEngine
from tests.support.tracker import answering
from thalweg_tracker.api.encode import ARROW_STREAM
from thalweg_tracker.errors import EngineBusyError, EngineError
from thalweg_tracker.model.keys import metric_key, run_key

BUSY = EngineBusyError("Code: 241. out of memory at 10.0.0.1", 241)
BROKEN = EngineError("Code: 47. unknown identifier `secret`", 47)
BODY = {"runs": ["r"], "metrics": ["m"], "points": None}
ANSWER = pa.table(
    {
        "run_id": ["r"],
        "branch": pa.array([0], pa.uint32()),
        "kind": [""],
        "created_at": pa.array([0], pa.timestamp("us", "UTC")),
        "has_origin": pa.array([0], pa.uint8()),
        "lineage_run_id": pa.array([[]], pa.list_(pa.string())),
        "lineage_branch": pa.array([[]], pa.list_(pa.uint32())),
        "lineage_upto": pa.array([[]], pa.list_(pa.float64())),
        "version": pa.array([0], pa.uint64()),
        "run": pa.array([run_key("p", "r")], pa.uint64()),
        "metric": pa.array([metric_key("m")], pa.uint64()),
        "ranks": pa.array([1], pa.uint64()),
        "is_shared": pa.array([0], pa.uint8()),
        "has_copies": pa.array([0], pa.uint8()),
        "first_step": [0.0],
        "last_step": [1.0],
    }
)
"""Fits the other questions that come before the points."""
NO_CUSTOM_METRICS = {"FROM custom_metrics": pa.table({"name": pa.array([], pa.string())})}
BATCH = pa.record_batch(
    {
        "run": pa.array([run_key("p", "r")], pa.uint64()),
        "metric": pa.array([metric_key("m")], pa.uint64()),
        "x": [1.0],
        "value": [2.0],
        "time": pa.array([0], pa.timestamp("us", "UTC")),
    }
)


@pytest.fixture
def engine() -> ScriptedEngine:
    """The database whose failures are asked for."""
    return ScriptedEngine(answer=ANSWER, answers=NO_CUSTOM_METRICS)


@pytest.fixture
def http(engine: ScriptedEngine) -> Iterator[httpx.Client]:
    """A client of its API."""
    with answering(engine) as client:
        yield client


@pytest.mark.parametrize(("error", "status", "code"), [(BUSY, 503, "database_busy"), (BROKEN, 500, "database_error")])
@pytest.mark.parametrize("path", ["/projects", "/projects/p/runs", "/projects/p/runs/r", "/projects/p/runs/r/metrics"])
def test_a_failing_database(
    engine: ScriptedEngine, http: httpx.Client, error: EngineError, status: int, code: str, path: str
) -> None:
    """503 with Retry-After where trying again makes sense, else 500; nothing of the database's words is told."""
    engine.error = error
    answer = http.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert "10.0.0.1" not in answer.text
    assert "secret" not in answer.text


@pytest.mark.parametrize(("error", "status"), [(BUSY, 503), (BROKEN, 500)])
def test_an_arrow_answer_that_cannot_begin_is_an_error(
    engine: ScriptedEngine, http: httpx.Client, error: EngineError, status: int
) -> None:
    """Not a 200 that breaks off."""
    engine.fails_after_batches = error
    answer = http.post("/projects/p/series", json=BODY, headers={"Accept": ARROW_STREAM})
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message", "hint"} | ({"request_id"} if status == 500 else set())


def test_an_arrow_answer_that_cannot_go_on_breaks_off(
    engine: ScriptedEngine, http: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """After the first byte the client sees a broken transfer, never a shorter answer."""
    engine.batches = [BATCH] * 3
    engine.fails_after_batches = BROKEN
    with caplog.at_level(logging.CRITICAL), pytest.raises(httpx.RemoteProtocolError):
        http.post("/projects/p/series", json=BODY, headers={"Accept": ARROW_STREAM})


def test_a_defect_is_told_as_one(engine: ScriptedEngine, http: httpx.Client) -> None:
    """An exception that nobody foresaw: 500 in the one shape; the server goes on."""
    engine.answer = pa.table({"unexpected": [1]})
    answer = http.get("/projects")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert http.get("/health").status_code == 200


def test_health_answers_while_the_database_does_not(engine: ScriptedEngine, http: httpx.Client) -> None:
    """Senders learn the gRPC address from it: it asks nothing of the database."""
    engine.error = BUSY
    assert http.get("/health").json()["engine"] == "scripted"
    assert engine.queries == []
