"""The locust users and the mixed load against a real server: all is asked, nothing fails, and there are bounds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.proxy import passing_on
from thalweg.bench.ingest import IngestLoad, run_ingest
from thalweg.testing import ServerProcess, running_server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for all."""
    with running_server(tmp_path_factory.mktemp("locust") / "data") as server:
        yield server


def run_locust(url: str, told: Path, *arguments: str, status: int = 0) -> dict[str, Any]:
    """What locust tells of requests by name, after a run with these arguments; and what it prints, as ""."""
    done = subprocess.run(
        [
            sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests" / "locustfile.py"), "--headless",
            "--host", url, "--json-file", str(told), "--exit-code-on-error", "1", *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr[-3000:]
    stats = {one["name"]: one for one in json.loads(told.with_suffix(".json").read_text())}
    return {**stats, "": done.stdout + done.stderr}


def test_locust(server: ServerProcess, tmp_path: Path) -> None:
    """All users together, with several widths and ranks: nothing fails, every kind of request was made."""
    users = {"WriterUser": 4, "DashboardUser": 4, "LiveUser": 1, "ForkUser": 1}
    counts = [{"user_class_name": name, "fixed_count": count} for name, count in users.items()]
    told = run_locust(
        server.url, tmp_path / "told", *users, "-u", "10", "-r", "10", "-t", "15s", "--project", "locust",
        "--metrics", "5,40", "--ranks", "2", "--config-users", json.dumps(counts),
    )  # fmt: skip
    wanted = {"frame", "fork", "read everything back", "run table by last value", "custom metric", "live", "live point"}
    assert wanted <= set(told)
    assert sum(one["num_failures"] for name, one in told.items() if name) == 0
    assert server.client.get("/projects/locust/custom-metrics")["custom_metrics"] == []
    runs = [run["run_id"] for run in server.client.get("/projects/locust/runs", limit=1000)["runs"]]
    found = [server.client.get(f"/projects/locust/runs/{run}/metrics")["metrics"] for run in runs]
    of_two_ranks = [metrics for metrics in found if any(one["ranks"] > 1 for one in metrics)]
    assert sorted(len(metrics) for metrics in of_two_ranks) == [5, 40]
    assert all(one["ranks"] == 2 for metrics in of_two_ranks for one in metrics)  # ranks of a run are equally wide


def test_locust_has_bounds(server: ServerProcess, tmp_path: Path) -> None:
    """More users than are allowed end at once, with a word; and so do those with nothing to look at."""
    told = run_locust(
        server.url, tmp_path / "told", "WriterUser", "-u", "3", "-r", "3", "-t", "5s", "--project", "bounded",
        "--most-users", "2", status=1,
    )  # fmt: skip
    assert told["start"]["num_failures"] == 1
    assert "this process has 2 users already" in told[""]
    told = run_locust(
        server.url, tmp_path / "none", "DashboardUser", "-u", "1", "-t", "5s", "--project", "never there",
        "--nothing-most", "1", status=1,
    )  # fmt: skip
    assert told["newest runs and names"]["num_failures"] == 1
    assert "has no runs to ask for" in told[""]


def test_wrong_answers_and_closed_connections(server: ServerProcess, tmp_path: Path) -> None:
    """A dashboard tells answers that are wrong; where a kept connection had closed, it asks again, once."""
    run_ingest(server.url, "looked at", IngestLoad(clients=1, metrics=5, steps_per_s=50, seconds=0.2))
    with passing_on(server.url, closes_kept=True) as url:
        told = run_locust(
            url, tmp_path / "kept", "DashboardUser", "-u", "4", "-r", "4", "-t", "5s", "--project", "looked at"
        )
    assert told["kept connection had closed"]["num_requests"] >= 1
    assert sum(one["num_failures"] for name, one in told.items() if name) == 0
    with passing_on(server.url, lambda path, body: b"{}" if path.endswith("/series") else body) as url:
        told = run_locust(
            url,
            tmp_path / "wrong",
            "DashboardUser",
            "-u",
            "4",
            "-r",
            "4",
            "-t",
            "5s",
            "--project",
            "looked at",
            status=1,
        )
    assert {name for name, one in told.items() if name and one["num_failures"]} <= {
        "many metrics of one run", "one metric of the newest runs", "expression", "custom metric"
    }  # fmt: skip
    assert "the answer has another shape" in told[""]


def test_locust_listens_on_loopback() -> None:
    """Its page and its master, where nobody says otherwise; and it ends by itself."""
    options = ["web_host", "master_bind_host", "run_time", "stop_timeout", "most_users"]
    program = (
        "import sys, locust\n"  # patches the standard library, so before all else
        "from locust.argument_parser import parse_options\n"
        "from locust.util.load_locustfile import load_locustfile\n"
        "load_locustfile(sys.argv[1])\n"
        "import json\n"
        "print(json.dumps([getattr(parse_options([]), name) for name in sys.argv[2:]]))"
    )
    path = str(ROOT / "loadtests" / "locustfile.py")
    done = subprocess.run(
        [sys.executable, "-c", program, path, *options], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == ["127.0.0.1", "127.0.0.1", 600, 180.0, 1000]


def test_the_mixed_load() -> None:
    """All of it together, small: nothing fails, all is read back; no report is written, as it is of another load."""
    reports = ROOT / "loadtests" / "reports"
    before = {path: path.stat().st_mtime_ns for path in reports.iterdir()}
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.mixed", "--seconds", "20", "--users", "8", "--steps-per-s", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "failures: 0" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in reports.iterdir()} == before
