"""Backups as an operator makes them: by commands, of a server that goes on taking records, to a folder, to a bucket."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from tests.support import archive, wire
from tests.support.clickhouse_server import RunningServer
from tests.support.engines import opened
from tests.support.roles import migrated, role
from tests.support.s3_server import S3Server, credentials, start_s3
from tests.support.waiting import wait_until
from thalweg.api_client import ApiClient
from thalweg.testing import running_server
from thalweg_tracker.care.backup import take_backup
from thalweg_tracker.care.backup_jobs import BackupJobs
from thalweg_tracker.care.places import open_place
from thalweg_tracker.care.restore import check_backup, restore_backup
from thalweg_tracker.errors import NotFoundError, RejectedError
from thalweg_tracker.model.settings import EmbeddedStore

WRITERS = 4
STEPS = 500
"""Of a batch."""


def command(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of the commands as a process."""
    script = f"from thalweg_tracker.cli.backup import {name}; {name}()"
    line = [sys.executable, "-c", script, *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=240, check=False)


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


class Load:
    """Writers that log without end, each to a run of its own. `acked`: how many steps of each are acknowledged."""

    def __init__(self, grpc_address: str, *, until_broken: bool = False) -> None:
        """`until_broken`: the server may end meanwhile."""
        self.acked = [0] * WRITERS
        self._may_break = until_broken
        self._grpc = grpc_address
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]

    def _write(self, number: int) -> None:
        with wire.writing(self._grpc, wire.hello(f"run-{number}", number + 1)) as stream:
            for sequence in range(1, 100_000):
                if self._stopped.is_set():
                    return
                first = (sequence - 1) * STEPS
                steps = [float(step) for step in range(first, first + STEPS)]
                batch = wire.batch(sequence, ["loss", "lr"] if sequence == 1 else [])
                times = [wire.START_US + int(step) for step in steps]
                batch.frames.append(wire.group(1, steps, [[step, -step] for step in steps], times))
                try:
                    stream.commit(batch)
                except grpc.RpcError:
                    assert self._may_break
                    return
                self.acked[number] = first + STEPS

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: min(self.acked) > 4 * STEPS)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()


@dataclass(frozen=True, slots=True)
class Databases:
    """Databases of one engine: how commands name them, and what serves them. `servers`: not the embedded one."""

    folder: Path
    servers: RunningServer | None

    def option(self, name: str) -> tuple[str, str]:
        """Which database a command is about."""
        if self.servers is None:
            return "--data", str(self.folder / name)
        return "--store", f"clickhouse://default@127.0.0.1:{self.servers.ports[0]}/backup_{name}"

    @contextmanager
    def serving(self, name: str) -> Iterator[tuple[str, ApiClient]]:
        """The address of an ingest and a client of an API: of one server, or of a process each."""
        _, place = self.option(name)
        if self.servers is None:
            with running_server(Path(place)) as server:
                yield server.grpc, server.client
            return
        log = self.folder / "roles.log"
        store = migrated(place)
        with (
            role(log, "ingest", "--grpc=127.0.0.1:0", store=store) as ingest,
            role(log, "api", "--http=127.0.0.1:0", store=store) as api,
        ):
            yield ingest.ready["grpc"], ApiClient(api.ready["http"])


@pytest.fixture(params=["embedded", "server"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Databases:
    """Of each engine."""
    return Databases(tmp_path, request.getfixturevalue("clickhouse") if request.param == "server" else None)


def check_run(client: ApiClient, run_id: str, at_least: int, at_most: int) -> None:
    """A run ends somewhere in between, and all that is said of it says so."""
    path = f"/projects/{wire.PROJECT}"
    body = {"runs": [run_id], "metrics": ["loss", "lr"], "points": None}
    loss, lr = client.post(f"{path}/series", body)["series"]
    count = len(loss["x"])
    assert at_least <= count <= at_most
    assert loss["x"] == loss["value"] == lr["x"] == [float(step) for step in range(count)]
    assert lr["value"] == [-float(step) for step in range(count)]
    metrics = {one["name"]: one for one in client.get(f"{path}/runs/{run_id}/metrics")["metrics"]}
    for name, last in (("loss", count - 1), ("lr", 1 - count)):
        assert (metrics[name]["last_step"], metrics[name]["last"]) == (count - 1, last)
    assert client.get(f"{path}/runs/{run_id}")["last_step"] == count - 1
    rows = client.post(f"{path}/runs/query", {"columns": ["count(loss)", "max(loss)", "min(lr)"]})["runs"]
    assert {row["run_id"]: row["values"] for row in rows}[run_id] == [count, count - 1, 1 - count]


def test_a_backup_while_ingest_goes_on(databases: Databases, tmp_path: Path) -> None:
    """The embedded server makes it, or the command itself, beside the roles. What was acknowledged before is in it, and
    everything that is told of it agrees."""
    to = tmp_path / "backups" / "today"
    with databases.serving("source") as (grpc_address, _), Load(grpc_address) as load:
        before = list(load.acked)
        made = told(command("backup", str(to), *databases.option("source"), "--json"))
        meanwhile = list(load.acked)
        after = [count + 64 * STEPS for count in meanwhile]  # committed, and not acknowledged yet
        assert sum(meanwhile) > sum(before), "ingest did not go on"
        refused = command("backup", str(to), *databases.option("source"))
        assert refused.returncode == 1
        assert "a backup is there" in refused.stderr
    assert made["points"] >= 2 * sum(before)
    assert "The backup is whole" in command("restore_database", str(to), "--check").stdout
    counted = told(command("restore_database", str(to), *databases.option("restored"), "--json"))
    assert counted["points"] == made["points"]
    assert (counted["runs"], counted["series"]) == (WRITERS, 2 * WRITERS)
    with databases.serving("restored") as (_, client):
        for number in range(WRITERS):
            check_run(client, f"run-{number}", before[number], after[number])


def test_commands_say_what_is_wrong(tmp_path: Path) -> None:
    """A folder that is not there is not made; a place without a backup; a database that is served; one with rows."""
    data, to = tmp_path / "data", tmp_path / "backup"
    done = command("backup", str(to), "--data", str(data))
    assert (done.returncode, done.stderr) == (
        1,
        f"Error: cannot back up {data}: there is no such folder. Name it with --data.\n",
    )
    assert not data.exists()
    done = command("restore_database", str(to), "--data", str(data))
    assert (done.returncode, done.stderr) == (1, f"Error: cannot read a backup at {to}: nothing is there.\n")
    with archive.tracker_on(EmbeddedStore(data)) as tracker:
        archive.fill(tracker)
    text = command("backup", str(to), "--data", str(data)).stdout
    assert text.startswith("Backed up ")
    assert f"to {to}" in text
    done = command("restore_database", str(to), "--data", str(data))
    assert done.returncode == 1
    assert "has rows. Name a folder or database that is empty or not there yet." in done.stderr
    with running_server(tmp_path / "served") as server:
        done = command("restore_database", str(to), "--data", str(tmp_path / "served"))
        assert done.returncode == 1
        assert f"serves {server.url}. Stop that process first" in done.stderr
    done = command("restore_database", str(to), "--data", str(tmp_path / "new"))
    assert done.stdout.startswith("Restored and verified: ")
    assert "6 runs of 2 projects" in done.stdout


@contextmanager
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[S3Server, dict[str, str]]]:
    """A bucket `care`, and what reaches it."""
    with start_s3() as s3:
        s3.make_bucket("care")
        for name, value in credentials().items():
            monkeypatch.setenv(name, value)
        yield s3, {"THALWEG_S3_ENDPOINT": s3.endpoint}


def test_a_bucket_is_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup goes there and comes back; another one beside it does not disturb it; a second one is refused."""
    with bucket(monkeypatch) as (_, environ):
        with archive.tracker_on(EmbeddedStore(tmp_path / "data")) as tracker:
            archive.fill(tracker)
            asked = archive.ask_all(tracker.http)
            with open_place("TO", "s3://care/a", environ) as place:
                assert place.is_empty()
                assert place.size_bytes("manifest.json") is None
                with pytest.raises(NotFoundError):
                    place.get("manifest.json")
                made = take_backup(tracker.engine, place, 7)
            with open_place("TO", "s3://care/ab", environ) as place:
                assert place.is_empty()
            with (
                open_place("TO", "s3://care/a", environ) as place,
                pytest.raises(RejectedError, match="a backup is there"),
            ):
                take_backup(tracker.engine, place, 7)
        with open_place("FROM", "s3://care/a", environ) as place:
            assert check_backup(place) == made
            with opened(EmbeddedStore(tmp_path / "restored")) as engine:
                restore_backup(engine, place)
        with archive.tracker_on(EmbeddedStore(tmp_path / "restored")) as tracker:
            assert archive.differences(asked, archive.ask_all(tracker.http)) == {}


def test_one_backup_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one is refused while the first is under way; a server that stops calls it off."""
    with bucket(monkeypatch) as (s3, environ), archive.tracker_on(EmbeddedStore(tmp_path / "data")) as tracker:
        archive.fill(tracker)
        jobs = BackupJobs(tracker.engine, environ)
        with pytest.raises(NotFoundError):
            jobs.last()
        with pytest.raises(RejectedError, match="absolute path"):
            jobs.start("relative")
        s3.hold()
        jobs.start("s3://care/one")
        with pytest.raises(RejectedError, match="a backup to s3://care/one is under way"):
            jobs.start("s3://care/two")
        s3.release()
        wait_until(lambda: jobs.last().state != "running")
        assert jobs.last().state == "done", jobs.last().error
        s3.hold()
        jobs.start("s3://care/three")
        stopping = threading.Thread(target=jobs.stop)
        stopping.start()
        s3.release()
        stopping.join(60)
        assert (jobs.last().state, jobs.last().error) == ("failed", "the server stopped before the backup was whole")
        with open_place("FROM", "s3://care/three", environ) as place:
            assert place.size_bytes("manifest.json") is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_backup_is_called_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """The server ends it at its next step: what it leaves is no backup, and another one can begin."""
    data = str(tmp_path / "data")
    with bucket(monkeypatch) as (s3, environ):
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        with running_server(tmp_path / "data") as server:
            with wire.writing(server.grpc, wire.hello("r")) as stream:
                stream.commit(wire.batch(1, ["loss"], [1.0], [[1.0]]))
            backups = f"{server.url}/api/v1/admin/backups"
            s3.hold()
            line = [sys.executable, "-m", "thalweg.cli.main", "backup", "s3://care/one", "--data", data, "--json"]
            with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
                wait_until(lambda: httpx.get(f"{backups}/last").json().get("state") == "running")
                process.send_signal(number)
                wait_until(lambda: "the backup to s3://care/one is called off" in server.log.read_text())
                assert httpx.get(f"{backups}/last").json()["state"] == "running", "it has not come to its next step"
                s3.release()
                out, error = process.communicate(timeout=60)
            assert (process.returncode, out) == (128 + number, ""), error
            assert error.endswith("was called off. What may be at s3://care/one is no backup: remove it.\n")
            last = httpx.get(f"{backups}/last").json()
            assert (last["state"], last["result"], last["error"]) == ("cancelled", None, "the backup was called off")
            assert httpx.delete(f"{backups}/{last['id']}").json() == last
            assert httpx.delete(f"{backups}/last").status_code == 404
            assert told(command("backup", "s3://care/two", "--data", data, "--json"))["points"] == 1
        done = command("restore_database", "s3://care/one", "--data", str(tmp_path / "restored"))
        assert done.returncode == 1
        assert "cannot read a backup at s3://care/one" in done.stderr
        assert "The backup is whole" in command("restore_database", "s3://care/two", "--check").stdout
