"""The ingest loads: clients that log, each a process with an SDK of its own, as trainings do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from thalweg.api_client import ApiClient
from thalweg.bench.client import Done, Order
from thalweg.bench.frames import Frames
from thalweg.bench.read_back import verify
from thalweg.errors import ThalwegError
from thalweg.settings import read_token


class ClientError(ThalwegError):
    """A client of the load ended before its time."""


@dataclass(frozen=True, slots=True)
class IngestLoad:
    """`steps_per_s` 0: as fast as the server takes it; `backlog_points`: how far clients may then be ahead of it."""

    clients: int
    metrics: int
    steps_per_s: float = 0.0
    seconds: float = 60.0
    backlog_points: int = 4_000_000


LOADS: Final = {
    "wide": IngestLoad(clients=2, metrics=1000),
    "very-wide": IngestLoad(clients=1, metrics=100_000),
    "single": IngestLoad(clients=1, metrics=1),
}
"""By name."""


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What came of a load. If they were checked, all points were read back and are right.

    `points_per_s`: acknowledged, and so queryable, while clients were logging. `drained_s`: from the end of the logging
    until all were acknowledged. `log_*_us`: of the slowest client. `by_tenth`: points/s acknowledged in each tenth of
    the time.
    """

    load: IngestLoad
    points: int
    points_per_s: float
    drained_s: float
    log_p50_us: float
    log_p99_us: float
    client_resident_mb: float
    runs: tuple[str, ...]
    by_tenth: tuple[float, ...]


def run_ingest(
    url: str, project: str, load: IngestLoad, *, check: bool = True, began: threading.Event | None = None
) -> IngestResult:
    """Puts the load on a server, waits until all is acknowledged, reads all back if asked to. Raises ThalwegError.

    `began` is set when all clients are there and begin.
    """
    with (
        tempfile.TemporaryDirectory(prefix="thalweg-bench-", ignore_cleanup_errors=True) as folder,
        _clients(url, project, load, folder) as started,
    ):
        for process in started:
            _say(process, "go")
        if began is not None:
            began.set()
        done = [Done(**_word(process)) for process in started]
        for process in started:
            if process.wait() != 0:
                raise ClientError(f"a client ended with exit status {process.returncode}")
    if check:
        client = ApiClient(url, read_token(os.environ.get("THALWEG_TOKEN")))
        for seed, one in enumerate(done):
            verify(client, project, one.run_id, Frames.of(load.metrics, seed), one.steps)
    logged_s = max(one.logged_s for one in done)
    return IngestResult(
        load=load,
        points=sum(one.steps for one in done) * load.metrics,
        points_per_s=sum(one.acked_points for one in done) / logged_s,
        drained_s=max(one.drained_s for one in done) - logged_s,
        log_p50_us=max(one.log_p50_us for one in done),
        log_p99_us=max(one.log_p99_us for one in done),
        client_resident_mb=max(one.max_resident_mb for one in done),
        runs=tuple(one.run_id for one in done),
        by_tenth=_rates([sum(points) for points in zip(*(one.acked_by_tenth for one in done), strict=True)], logged_s),
    )


def _rates(acked: list[int], seconds: float) -> tuple[float, ...]:
    """Points a second in each tenth of the time, from those that were acknowledged after it."""
    return tuple((after - before) / seconds * 10 for before, after in zip([0, *acked], acked, strict=False))


@contextmanager
def _clients(url: str, project: str, load: IngestLoad, folder: str) -> Iterator[list[subprocess.Popen[str]]]:
    """The clients, ready to begin; those that still live at the end are ended."""
    started: list[subprocess.Popen[str]] = []
    try:
        for seed in range(load.clients):
            order = Order(
                url=url,
                project=project,
                spool_dir=str(Path(folder) / f"client-{seed}"),
                metrics=load.metrics,
                seed=seed,
                seconds=load.seconds,
                steps_per_s=load.steps_per_s,
                backlog_points=load.backlog_points // load.clients,
            )
            started.append(
                subprocess.Popen(  # noqa: S603  # our own interpreter and module
                    [sys.executable, "-m", "thalweg.bench.client", json.dumps(asdict(order))],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        for process in started:
            _word(process)
        yield started
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()


def _word(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next line of a client."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise ClientError(f"a client ended with exit status {process.wait()} before its time; see its messages")
    document = json.loads(line)
    assert isinstance(document, dict), line
    return document


def _say(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()
