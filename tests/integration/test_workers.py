"""Several processes of a role on one address: one is killed under load, nothing is lost; how they begin and end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest

from tests.integration.test_drain import fill, untaken_answer
from tests.support import training
from tests.support.clickhouse_server import RunningServer
from tests.support.roles import COMMAND, Role, migrated, role
from tests.support.waiting import wait_until
from thalweg.api_client import ApiClient

TRAININGS = 4


def store_of(clickhouse: RunningServer, database: str) -> str:
    """A migrated database of its own."""
    return migrated(f"clickhouse://default:open-sesame@127.0.0.1:{clickhouse.ports[0]}/{database}")


def ready_pids(found: Role) -> list[int]:
    """The workers that were ever ready, in the order in which their parent told so."""
    return [int(pid) for pid in re.findall(r"is ready \(process (\d+)\)", found.log.read_text())]


def test_workers_are_killed_under_load(clickhouse: RunningServer, tmp_path: Path) -> None:
    """Each ingest worker in turn, while trainings log: its parent starts another, and every point arrives once."""
    store = store_of(clickhouse, "killed_workers")
    with (
        role(tmp_path / "ingest.log", "ingest", "--grpc=127.0.0.1:0", "--workers=2", store=store) as ingest,
        role(tmp_path / "api.log", "api", "--http=127.0.0.1:0", "--ingest", ingest.ready["grpc"], store=store) as api,
    ):
        client = ApiClient(api.ready["http"])
        folders = [tmp_path / f"training-{number}" for number in range(TRAININGS)]
        runs = []
        for number, folder in enumerate(folders):
            folder.mkdir()
            runs.append(training.start(folder, client.url, training.ENDLESS, f"run-{number}"))
        for count, pid in enumerate(ingest.ready["workers"], start=3):
            for one in runs:
                one.read_steps(500)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda count=count: len(ready_pids(ingest)) == count)  # type: ignore[misc]
        for one in runs:
            one.read_steps(500)
        last = [one.kill() for one in runs]
        for number in range(TRAININGS):
            training.wait_for_status(client, f"run-{number}", "killed")
            training.assert_complete(client, f"run-{number}", last[number])


def test_api_workers_answer_on_one_address(clickhouse: RunningServer, tmp_path: Path) -> None:
    """Requests are answered while workers are killed; a connection that breaks is made again."""
    store = store_of(clickhouse, "api_workers")
    with role(tmp_path / "log", "api", "--http=127.0.0.1:0", "--workers=2", store=store) as api:
        workers: list[int] = api.ready["workers"]
        assert len(set(workers)) == 2
        assert api.ready["pid"] == api.process.pid not in workers
        transport = httpx.HTTPTransport(retries=3)  # of connecting alone
        for count, pid in enumerate(workers, start=3):
            os.kill(pid, signal.SIGKILL)
            with httpx.Client(base_url=api.ready["http"], transport=transport, timeout=60) as http:
                assert http.get("/api/v1/health").status_code == 200
            wait_until(lambda count=count: len(ready_pids(api)) == count)  # type: ignore[misc]


def test_workers_end_with_their_parent(clickhouse: RunningServer, tmp_path: Path) -> None:
    """Also with one that is killed: no process is left that serves, or holds the address."""
    store = store_of(clickhouse, "orphans")
    command = [*COMMAND, "ingest", "--grpc=127.0.0.1:0", "--workers=2", "--json"]
    with (
        (tmp_path / "log").open("ab") as stderr,
        subprocess.Popen(
            command, env={**os.environ, "THALWEG_STORE": store}, stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as process,
    ):
        assert process.stdout is not None
        workers = [psutil.Process(pid) for pid in json.loads(process.stdout.readline())["workers"]]
        assert not any("open-sesame" in " ".join(one.cmdline()) for one in workers)
        process.kill()
    gone, alive = psutil.wait_procs(workers, timeout=60)
    assert (len(gone), alive) == (2, [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_all_at_once(clickhouse: RunningServer, tmp_path: Path, number: signal.Signals) -> None:
    """The first one has them drain, for as long as somebody has an answer to take: also where it is Ctrl-C."""
    store = store_of(clickhouse, f"second_{number.name}")
    with role(tmp_path / "ingest.log", "ingest", "--grpc=127.0.0.1:0", store=store) as ingest:
        fill(ingest.ready["grpc"])
    log = tmp_path / "api.log"
    command = [*COMMAND, "api", "--http=127.0.0.1:0", "--workers=2", "--drain-s=3000", "--json"]
    environment = {**os.environ, "THALWEG_STORE": store}
    with (
        log.open("ab") as stderr,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True
        ) as process,
    ):
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        workers = [psutil.Process(pid) for pid in ready["workers"]]
        signals = os.killpg if number == signal.SIGINT else os.kill  # a terminal sends Ctrl-C to a whole group
        with untaken_answer(ready["http"]):
            signals(process.pid, number)
            wait_until(lambda: sum(one.is_running() for one in workers) == 1)
            assert "second signal" not in log.read_text()
            signals(process.pid, number)
            assert process.wait(60) == 128 + number
    assert not any(one.is_running() for one in workers)
    assert log.read_text().count("a second signal: 1 workers end at once") == 1
    assert log.read_text().count("ended by a second signal, before all was drained") == 1


@pytest.mark.parametrize("name", ["ingest", "api"])
def test_an_address_that_is_taken(clickhouse: RunningServer, tmp_path: Path, name: str) -> None:
    """By one that shares its address with its own workers, too: nobody gets half of another's connections."""
    store = store_of(clickhouse, "taken")
    option, key = ("--grpc", "grpc") if name == "ingest" else ("--http", "http")
    with role(tmp_path / "log", name, f"{option}=127.0.0.1:0", "--workers=2", store=store) as first:
        address = first.ready[key].removeprefix("http://")
        ended = subprocess.run(
            [*COMMAND, name, f"{option}={address}", "--workers=2"],
            env={**os.environ, "THALWEG_STORE": store},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 1
    assert "an address that is free" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_workers_that_cannot_start(clickhouse: RunningServer) -> None:
    """A database without a schema: the reason once a worker, no restart for ever, exit status 1."""
    store = f"clickhouse://default:open-sesame@127.0.0.1:{clickhouse.ports[0]}/no_schema"
    ended = subprocess.run(
        [*COMMAND, "ingest", "--grpc=127.0.0.1:0", "--workers=2"],
        env={**os.environ, "THALWEG_STORE": store},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "Run `thalweg migrate` first" in ended.stderr
    assert "ended before all were ready" in ended.stderr
    assert "open-sesame" not in ended.stderr
