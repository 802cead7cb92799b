"""How long a committed point takes to the readers that follow a run."""

from __future__ import annotations

import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

import thalweg
from thalweg.bench.live import read_events
from thalweg.testing import ServerProcess

PROJECT: Final = "live"
AT_MOST: Final = "live, commit to event at most"


def live_ms(server: ServerProcess, points: int) -> Iterator[tuple[str, float]]:
    """Medians over some points; nothing where the server has no /live.

    A point is committed between the begin of `log()` and its ack, so the first of these is more than what it takes
    from commit to event, and the second less.
    """
    schema = server.client.get("/openapi.json")
    if not any(path.endswith("/live") for path in schema["paths"]):
        return
    with tempfile.TemporaryDirectory() as spool:
        run = thalweg.init(project=PROJECT, url=server.url, spool_dir=Path(spool), system_interval_s=0)
        try:
            since_log, since_ack = _wait_for_events(server, run, points)
        finally:
            run.finish()
            _wait_for_sender(Path(spool))
    yield AT_MOST, statistics.median(since_log)
    yield "live, commit to event at least", statistics.median(since_ack)


def _wait_for_events(server: ServerProcess, run: thalweg.Run, points: int) -> tuple[list[float], list[float]]:
    """Milliseconds from `log()`, and from the ack, to the event of each point."""
    run.log({"loss": 0.0}, step=0)
    assert run.flush(timeout=60)
    since_log, since_ack = [], []
    with _followed(server, run.run_id) as events:
        events.get("status")
        for step in range(1, points + 1):
            logged = time.perf_counter()
            run.log({"loss": step + 0.5}, step=step)
            assert run.flush(timeout=60)
            acked = time.perf_counter()
            came, data = events.get("points")
            (series,) = data["series"]
            assert (series["x"], series["value"]) == ([step], [step + 0.5]), series
            since_log.append((came - logged) * 1e3)
            since_ack.append(max(0.0, (came - acked) * 1e3))
    return since_log, since_ack


def _wait_for_sender(spool: Path, timeout_s: float = 10) -> None:
    """Until the sender has removed what was delivered: without its folder it would not end."""
    deadline = time.monotonic() + timeout_s
    while any(spool.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)


@contextmanager
def _followed(server: ServerProcess, run_id: str) -> Iterator[_Followed]:
    query: dict[str, str | bool] = {"runs": run_id, "metrics": "loss", "from_now": True}
    address = f"{server.url}/api/v1/projects/{PROJECT}/live"
    with httpx.stream("GET", address, params=query, timeout=60, trust_env=False) as response:
        assert response.is_success, response.read()
        yield _Followed(response)


class _Followed:
    """The events of a run, read in a thread, each with the time at which it came."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._events: queue.Queue[tuple[str, float, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def get(self, kind: str) -> tuple[float, Any]:
        """When the next event of a kind came, and what it says."""
        while True:
            found, came, data = self._events.get(timeout=60)
            if found == kind:
                return came, data

    def _read(self) -> None:
        try:
            for kind, data in read_events(self._response.iter_lines()):
                self._events.put((kind, time.perf_counter(), data))
        except httpx.HTTPError:  # the stream was closed
            return
