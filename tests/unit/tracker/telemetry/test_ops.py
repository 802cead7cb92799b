"""The three addresses for operators: what each says, in which shape, and to whom the rest goes."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse

from thalweg_tracker.errors import EngineError
from thalweg_tracker.telemetry.metrics import Metrics
from thalweg_tracker.telemetry.ops import PATHS, Ops
from thalweg_tracker.telemetry.probe import Probe, Rows
from thalweg_tracker.telemetry.readiness import Readiness
from thalweg_tracker.telemetry.telemetry import Telemetry


def ask(app: Ops, path: str, method: str = "GET") -> httpx.Response:
    """The answer of an application, without a socket."""

    async def answer() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            return await client.request(method, path)

    return asyncio.run(answer())


def broken(sql: str) -> Rows:
    """A database that is away."""
    raise EngineError("away, at 10.0.0.1")


def test_alive_whatever_is_wrong() -> None:
    """A database that is away is no reason to start this process again."""
    app = Ops(Telemetry(readiness=Readiness(Probe(broken))))
    answer = ask(app, "/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["cache-control"] == "no-store"


def test_ready() -> None:
    """With the checks that were made."""
    answer = ask(Ops(Telemetry()), "/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    assert answer.json()["checks"] == {"engine": "ok", "draining": "ok"}


def test_not_ready_in_the_one_shape_of_errors() -> None:
    """503, with the checks beside it; nothing of the database's words."""
    answer = ask(Ops(Telemetry(readiness=Readiness(Probe(broken)))), "/readyz")
    assert answer.status_code == 503
    document = answer.json()
    assert set(document["error"]) == {"code", "message", "hint"}
    assert document["error"]["code"] == "not_ready"
    assert document["checks"]["draining"] == "ok"
    assert document["checks"]["engine"] != "ok"
    assert "10.0.0.1" not in answer.text


def test_metrics_are_those_of_the_process() -> None:
    """What was counted is told."""
    metrics = Metrics("1.2", "embedded")
    metrics.ingest.points.inc(42)
    text = ask(Ops(Telemetry(metrics)), "/metrics").text
    assert "thalweg_ingest_points_total 42.0" in text
    assert 'thalweg_build_info{engine="embedded"' in text


@pytest.mark.parametrize("path", PATHS)
def test_methods(path: str) -> None:
    """They are read, and nothing else."""
    assert ask(Ops(Telemetry()), path, "HEAD").status_code == 200
    answer = ask(Ops(Telemetry()), path, "POST")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_alone_there_is_nothing_else() -> None:
    """An answer in the one shape, which names what there is."""
    answer = ask(Ops(Telemetry()), "/api/v1/projects")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert "/readyz" in answer.json()["error"]["hint"]


def test_before_an_application_it_takes_its_own_alone() -> None:
    """Everything else goes on, paths that only look alike too."""
    app = Ops(Telemetry(), PlainTextResponse("inner"))
    assert ask(app, "/healthz").json() == {"status": "ok"}
    for path in ("/", "/healthz/x", "/api/v1/health", "/Metrics"):
        assert ask(app, path).text == "inner"
