"""A database that hangs or goes away, as operators see it: alive, not ready, and metrics that say which."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import wire
from tests.support.clickhouse_server import RunningServer, start
from tests.support.operators import Running, serving
from tests.support.scrape import scrape
from tests.support.waiting import wait_until

ANY = "127.0.0.1:0"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[RunningServer]:
    """A ClickHouse server of its own."""
    with start(tmp_path / "clickhouse") as server:
        yield server


@pytest.fixture
def ingest(database: RunningServer, tmp_path: Path) -> Iterator[Running]:
    """The ingest role on it, with an address for operators."""
    store = f"clickhouse://default@127.0.0.1:{database.ports[0]}/away"
    command = [sys.executable, "-m", "thalweg.cli.main", "migrate", "--store", store]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    with serving(tmp_path / "log", "ingest", "--store", store, f"--grpc={ANY}", f"--ops={ANY}") as running:
        yield running


def not_ready(ops: str) -> httpx.Response | None:
    """The answer of /readyz where it is no."""
    answer = httpx.get(f"{ops}/readyz", timeout=60)
    return answer if answer.status_code == 503 else None


def test_a_database_that_hangs(database: RunningServer, ingest: Running) -> None:
    """Not ready while it hangs, ready when it goes on; what was sent meanwhile is seen to wait, and committed then."""
    ops = ingest.ready["ops"]
    with wire.writing(ingest.ready["grpc"], wire.hello("r")) as stream:
        stream.commit(wire.batch(1, ["a"], [1], [[1]]))
        os.kill(database.pid, signal.SIGSTOP)
        try:
            stream.send(wire.batch(2, ["a"], [2], [[2]], [wire.START_US + 9]))
            answer = wait_until(lambda: not_ready(ops))
            assert answer is not None
            assert "did not answer within" in answer.json()["checks"]["engine"]
            assert httpx.get(f"{ops}/healthz").status_code == 200
            now = scrape(ops)
            assert (now.value("thalweg_engine_up"), now.value("thalweg_ready")) == (0, 0)
            assert now.value("thalweg_ingest_points_total") == 1
            assert now.value("thalweg_ingest_queue_bytes") > 0
            waited_s = now.value("thalweg_ingest_oldest_batch_age_seconds")
            assert waited_s > 0
            assert scrape(ops).value("thalweg_ingest_oldest_batch_age_seconds") > waited_s
        finally:
            os.kill(database.pid, signal.SIGCONT)
        stream.answer()
        wait_until(lambda: httpx.get(f"{ops}/readyz", timeout=60).status_code == 200)
        now = scrape(ops)
        assert (now.value("thalweg_engine_up"), now.value("thalweg_ready")) == (1, 1)
        assert now.value("thalweg_ingest_points_total") == 2
        assert now.value("thalweg_ingest_oldest_batch_age_seconds") == 0


def test_a_database_that_is_gone(database: RunningServer, ingest: Running) -> None:
    """Writers are told, and the failures counted; the reason is in the log, not in what everybody can ask for."""
    ops = ingest.ready["ops"]
    with wire.writing(ingest.ready["grpc"], wire.hello("r")) as stream:
        stream.commit(wire.batch(1, ["a"], [1], [[1]]))
        database.close_listener(database.ports[0])
        stream.send(wire.batch(2, ["a"], [2], [[2]], [wire.START_US + 9]))
        stream.ending()
    answer = wait_until(lambda: not_ready(ops))
    assert answer is not None
    assert str(database.ports[0]) not in answer.text
    now = scrape(ops)
    assert now.value("thalweg_ingest_commit_failures_total") == 1
    assert now.labelled("thalweg_ingest_stream_ends_total", "reason")["database"] == 1
    assert now.value("thalweg_ingest_points_total") == 1
    assert "not ready" in ingest.log.read_text()
