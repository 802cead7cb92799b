"""`thalweg bench` and the locust users against a real server: they measure, and fail where data is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import thalweg
from thalweg.bench.frames import Frames
from thalweg.bench.ingest import IngestLoad, run_ingest
from thalweg.bench.numbers import quantile
from thalweg.bench.queries import NothingThereError, run_queries
from thalweg.bench.read_back import WrongDataError, verify
from thalweg.errors import ThalwegError
from thalweg.testing import ServerProcess, running_server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for all."""
    with running_server(tmp_path_factory.mktemp("bench") / "data") as server:
        yield server


def bench(*arguments: str, status: int = 0) -> Any:
    """What `thalweg bench ... --json` says, or where it fails its message."""
    done = subprocess.run(
        [sys.executable, "-m", "thalweg.cli.main", "bench", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout) if status == 0 else done.stderr


def test_ingest(server: ServerProcess) -> None:
    """Clients log, and everything is counted, tagged and queryable."""
    found = bench("ingest", "--url", server.url, "--metrics", "7", "--rate", "20", "--seconds", "1", "-p", "small")
    assert found["load"] == {
        "clients": 2, "metrics": 7, "steps_per_s": 20.0, "seconds": 1.0, "backlog_points": 4_000_000
    }  # fmt: skip
    assert found["points"] % 7 == 0
    assert 0 < found["points"] <= 2 * 7 * 21
    assert 0 < found["points_per_s"] <= 2 * 7 * 21
    runs = server.client.get("/projects/small/runs")["runs"]
    assert {run["run_id"] for run in runs} == set(found["runs"])
    assert all(run["tags"] == ["bench"] and run["status"] == "finished" for run in runs)


def test_as_fast_as_it_goes(server: ServerProcess) -> None:
    """Without a rate clients keep within their backlog; what was acknowledged is no more than was logged."""
    load = IngestLoad(clients=1, metrics=50, seconds=0.5, backlog_points=20_000)
    found = run_ingest(server.url, "fast", load)
    assert 0 < found.points_per_s * 0.5 <= found.points
    assert found.log_p50_us <= found.log_p99_us


def test_narrow(server: ServerProcess) -> None:
    """Many writers over a few connections."""
    found = bench(
        "ingest", "--url", server.url, "--load", "narrow", "--clients", "6", "--metrics", "3", "--rate", "5",
        "--seconds", "1", "-p", "narrow",
    )  # fmt: skip
    assert found["points"] == 6 * 3 * 5
    assert 0 < found["visible_p50_ms"] <= found["visible_p99_ms"] <= found["visible_worst_ms"]
    assert len(set(found["runs"])) == 6


def test_queries(server: ServerProcess) -> None:
    """All questions are asked, of a project that has runs."""
    run_ingest(server.url, "asked", IngestLoad(clients=1, metrics=5, steps_per_s=50, seconds=0.2))
    found = bench("query", "--url", server.url, "--users", "7", "--seconds", "1", "-p", "asked")
    assert found["errors"] == 0
    assert all(one["answers"] > 0 for one in found["questions"])
    with pytest.raises(NothingThereError):
        run_queries(server.url, "empty", 1, 0.1)


def test_freshness_and_sdk(server: ServerProcess) -> None:
    """As many as asked for."""
    assert bench("freshness", "--url", server.url, "--points", "3")["points"] == 3
    (found,) = bench("sdk", "--metrics", "4", "--calls", "20")
    assert (found["metrics"], found["calls"]) == (4, 20)


def test_no_server() -> None:
    """A sentence, no traceback."""
    message = bench("query", "--url", "http://127.0.0.1:9", "--seconds", "1", status=1)
    assert message.startswith("Error: ")
    assert "Traceback" not in message


def test_wrong_data_is_told(server: ServerProcess, tmp_path: Path) -> None:
    """A point too few, a value that differs, a step that differs, another rank's: each fails."""
    frames, steps = Frames.of(3, seed=1), 10
    for rank in (0, 1):
        run = thalweg.init(
            project="wrong", run_id="r", url=server.url, spool_dir=tmp_path, rank=rank, system_interval_s=0
        )
        for step in range(steps):
            row = frames.rows[step % len(frames.rows)] if rank == 0 else dict.fromkeys(frames.names, 0.5)
            run.log(row, step=step)
        run.finish()
    assert verify(server.client, "wrong", "r", frames, steps, rank=0) == 3 * steps
    assert verify(server.client, "wrong", "r", frames, 0, rank=0) == 0
    other = Frames(frames.names, frames.values + 1e-9)
    for call in (
        lambda: verify(server.client, "wrong", "r", frames, steps + 1, rank=0),
        lambda: verify(server.client, "wrong", "r", frames, steps - 1, rank=0),
        lambda: verify(server.client, "wrong", "r", other, steps, rank=0),
        lambda: verify(server.client, "wrong", "r", frames, steps, rank=1),
        lambda: verify(server.client, "wrong", "r", frames, steps, first_step=0.5, rank=0),
        lambda: verify(server.client, "wrong", "gone", frames, steps),
    ):
        with pytest.raises(ThalwegError) as caught:
            call()
        assert isinstance(caught.value, WrongDataError) or "gone" in str(caught.value)


def test_quantiles() -> None:
    """The least value that enough do not exceed."""
    assert [quantile([4, 1, 3, 2], share) for share in (0.0, 0.5, 0.51, 0.99, 1.0)] == [1, 2, 3, 4, 4]


def test_locust(server: ServerProcess, tmp_path: Path) -> None:
    """All users together, with several widths and ranks: nothing fails, every kind of request was made."""
    done = subprocess.run(
        [
            sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests" / "locustfile.py"), "--headless",
            "--host", server.url, "-u", "6", "-r", "6", "-t", "15s", "--stop-timeout", "60", "--project", "locust",
            "--metrics", "5,40",
            "--ranks", "2", "--json-file", str(tmp_path / "stats"), "--exit-code-on-error", "1",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    stats = json.loads((tmp_path / "stats.json").read_text())
    assert {"frame", "fork", "read everything back", "run table by last value"} <= {one["name"] for one in stats}
    assert sum(one["num_failures"] for one in stats) == 0
