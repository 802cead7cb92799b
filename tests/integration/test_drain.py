"""The end of a server: what was acknowledged is there, and it ends by its deadline, whoever holds it up."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.test_backup import Load
from tests.support import wire
from tests.support.waiting import wait_until
from thalweg.testing import ServerProcess, running_server
from thalweg_tracker.care.drain import CUT_OFF

POINTS = 400_000
"""Of one answer: more than the buffers between server and client take."""
SLACK_S = 20.0
"""For a machine that is busy."""


def fill(grpc: str) -> None:
    """A run with one long series, over the ingest there."""
    with wire.writing(grpc, wire.hello("long", 99)) as stream:
        for number in range(POINTS // 40_000):
            steps = [float(step) for step in range(number * 40_000, (number + 1) * 40_000)]
            times = [wire.START_US + int(step) for step in steps]
            batch = wire.batch(number + 1, ["loss"] if not number else [])
            batch.frames.append(wire.group(1, steps, [[step] for step in steps], times))
            stream.commit(batch)


@contextmanager
def untaken_answer(url: str) -> Iterator[socket.socket]:
    """A client that asks the API there for a large answer, and takes only its begin."""
    body = json.dumps({"runs": ["long"], "metrics": ["loss"], "points": None}).encode()
    address = urlsplit(url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port or 80)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        path = f"/api/v1/projects/{wire.PROJECT}/series"
        length = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n"
        client.sendall(head.encode() + body)
        assert client.recv(12) == b"HTTP/1.1 200"
        yield client


def test_what_was_acknowledged_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM under load: each writer gets the acks of what was taken in, and nothing that was acknowledged is gone."""
    monkeypatch.setenv("THALWEG_DRAIN_S", "30")
    server = ServerProcess(tmp_path / "data")
    load = Load(server.grpc, until_broken=True)
    with load:
        assert server.stop() == 0
    with running_server(tmp_path / "data") as again:
        for number, acked in enumerate(load.acked):
            body = {"runs": [f"run-{number}"], "metrics": ["loss"], "points": None}
            (series,) = again.client.post(f"/projects/{wire.PROJECT}/series", body)["series"]
            assert len(series["x"]) >= acked > 0
            assert series["x"] == series["value"] == [float(step) for step in range(len(series["x"]))]


def test_nobody_holds_it_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a stream that never ends and takes no ack, nor an answer that is not taken."""
    monkeypatch.setenv("THALWEG_DRAIN_S", "3")
    server = ServerProcess(tmp_path / "data")
    fill(server.grpc)
    with untaken_answer(server.url), wire.writing(server.grpc, wire.hello("quiet", 1)) as stream:
        stream.commit(wire.batch(1, ["loss"], [1.0], [[1.0]]))
        begun_s = time.monotonic()
        status = server.stop()
        assert time.monotonic() - begun_s < 3 + SLACK_S
    assert status in (0, CUT_OFF), server.log.read_text()
    with running_server(tmp_path / "data") as again:
        assert again.client.get(f"/projects/{wire.PROJECT}/runs/quiet")["last_step"] == 1


def test_a_second_signal_ends_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the deadline is."""
    monkeypatch.setenv("THALWEG_DRAIN_S", "3000")
    server = ServerProcess(tmp_path / "data")
    fill(server.grpc)
    with untaken_answer(server.url):
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "taking in what is under way" in server.log.read_text())
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 128 + signal.SIGTERM
    server.stop()
    assert "ended by a second signal" in server.log.read_text()


def test_a_process_that_hangs_is_ended_at_its_deadline(tmp_path: Path) -> None:
    """The deadline holds also where the event loop is what hangs."""
    script = """
import asyncio, os, signal, threading
from thalweg_tracker.care.drain import Drain
async def main():
    drain = Drain(0.5)
    drain.watch_signals()
    os.kill(os.getpid(), signal.SIGTERM)
    await drain.begun.wait()
    assert 0 < drain.streams_s <= 0.375, drain.streams_s
    threading.Event().wait()
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == CUT_OFF, done.stderr


@pytest.mark.parametrize("text", ["-1", "soon", "1e9"])
def test_a_deadline_that_is_none(text: str) -> None:
    """It is refused with what is wanted."""
    line = [sys.executable, "-m", "thalweg.cli.main", "up", "--drain-s", text]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--drain-s" in done.stderr
