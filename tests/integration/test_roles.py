"""The roles as processes of their own, on a ClickHouse server: the native protocol in front of the real engine."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support import training, wire
from tests.support.clickhouse_server import RunningServer
from tests.support.live import listening
from tests.support.roles import migrated, role
from tests.support.waiting import wait_until
from thalweg.api_client import ApiClient
from thalweg.wire.v1 import records_pb2 as pb


@dataclass(frozen=True)
class Roles:
    """Both roles over one database."""

    grpc: str
    url: str
    client: ApiClient
    store: str


@pytest.fixture(scope="module")
def roles(clickhouse: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roles]:
    """`thalweg migrate`, then `thalweg ingest` and `thalweg api`."""
    log = tmp_path_factory.mktemp("roles") / "log"
    store = migrated(f"clickhouse://default@127.0.0.1:{clickhouse.ports[0]}/roles")
    with role(log, "ingest", "--store", store, "--grpc=127.0.0.1:0") as ingest:
        grpc = ingest.ready["grpc"]
        with role(log, "api", "--store", store, "--http=127.0.0.1:0", "--ingest", grpc) as api:
            yield Roles(grpc, api.ready["http"], ApiClient(api.ready["http"]), store)


def test_a_role_tells_what_it_has(roles: Roles) -> None:
    """The API names the ingest's address, which is another process, and the database without a password."""
    health = roles.client.get("/health")
    assert health["grpc"] == roles.grpc
    assert "/roles" in health["engine"]


def test_a_training_logs_through_one_and_is_read_through_the_other(roles: Roles, tmp_path: Path) -> None:
    """The SDK knows the API's address alone."""
    script = """
import math, sys, thalweg
odd = {500: math.nan, 501: math.inf}
with thalweg.init(project="faults", run_id="roles", config={"lr": 0.1, "π": "ü"}, tags=["a'b"], url=sys.argv[1],
                  system_interval_s=0) as run:
    for step in range(1000):
        run.log({"loss": 1 / (1 + step), "odd": odd.get(step, step)}, step=step)
"""
    status, _, err = training.run_to_end(tmp_path, roles.url, script, roles.url)
    assert status == 0, err
    run = training.wait_for_status(roles.client, "roles", "finished")
    assert (run["config"], run["tags"]) == ({"lr": 0.1, "π": "ü"}, ["a'b"])
    assert training.exact(roles.client, "roles", "loss") == {float(n): 1 / (1 + n) for n in range(1000)}
    odd = training.exact(roles.client, "roles", "odd")
    assert (odd[499.0], odd[500.0], odd[501.0]) == (499.0, "NaN", "Infinity")
    listed = roles.client.get("/projects/faults/runs/roles/metrics")["metrics"]
    assert [(one["name"], one["max"], one["last"]) for one in listed] == [
        ("loss", 1.0, 0.001),
        ("odd", "Infinity", 999.0),
    ]


def test_one_listens_to_what_the_other_takes_in(roles: Roles) -> None:
    """The live stream of the API tells what the ingest, another process, has committed."""
    with wire.writing(roles.grpc, wire.hello("live", project=wire.PROJECT)) as stream:
        stream.commit(wire.batch(1, ["loss"], [0], [[0.5]], events=[wire.started()]))
        with (
            httpx.Client(base_url=f"{roles.url}/api/v1", timeout=60) as http,
            listening(http, runs="live", metrics="loss") as heard,
        ):
            times = [wire.START_US + 10, wire.START_US + 11]
            stream.commit(wire.batch(2, ["loss"], [1, 2], [[1.5], [math.nan]], times))
            heard.wait_for_steps([1, 2], "live", "loss")
            stream.commit(wire.batch(3, events=[wire.ended(pb.WriterEnded.Outcome.FINISHED)]))
            wait_until(lambda: heard.statuses()[-1:] == [("live", 0, "finished")])


def test_a_batch_sent_twice_through_two_ingests_changes_nothing(roles: Roles, tmp_path: Path) -> None:
    """Any ingest, at any time: the servers agree without talking to each other."""
    first = wire.batch(1, ["a", "b"], [1, 2], [[1, math.nan], [3, 4]], events=[wire.started()], counters={"logged": 4})
    body = {"runs": ["twice"], "metrics": ["a", "b"], "points": 1}
    with wire.writing(roles.grpc, wire.hello("twice")) as stream:
        stream.commit(first)
    before = roles.client.post("/projects/p/series", body), roles.client.get("/projects/p/runs/twice/metrics")
    first.resent = True
    with (
        role(tmp_path / "log", "ingest", "--store", roles.store, "--grpc=127.0.0.1:0") as other,
        wire.writing(other.ready["grpc"], wire.hello("twice")) as stream,
    ):
        stream.commit(first)
    assert (
        roles.client.post("/projects/p/series", body),
        roles.client.get("/projects/p/runs/twice/metrics"),
    ) == before
    assert before[0]["series"][0]["n"] == [2]


def test_an_ingest_that_is_killed_has_stored_what_it_acked(roles: Roles, tmp_path: Path) -> None:
    """kill -9 of the role: every ack was kept, as the database is another process."""
    log = tmp_path / "log"
    command = [
        sys.executable,
        "-m",
        "thalweg.cli.main",
        "ingest",
        "--store",
        roles.store,
        "--grpc=127.0.0.1:0",
        "--json",
    ]
    with (
        log.open("ab") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["grpc"]
        with wire.writing(address, wire.hello("killed")) as stream:
            for number in range(1, 20):
                stream.commit(wire.batch(number, ["a"] if number == 1 else [], [number], [[number]]))
            os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: len(training.exact(roles.client, "killed", "a", project="p")) == 19)
