"""Server processes as operators see them: probes while they serve and while they stop, the log line by line."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support import training, wire
from tests.support.clickhouse_server import RunningServer
from tests.support.operators import Running, serving
from tests.support.scrape import scrape
from tests.support.waiting import wait_until
from thalweg.api_client import ApiClient
from thalweg_tracker.ingest.service import SERVICE

ANY = "127.0.0.1:0"
Status = health_pb2.HealthCheckResponse
SECRETS = {"Authorization": "Bearer s3cr3t", "Cookie": "session=s3cr3t"}


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Running]:
    """Everything in one process, with an address for operators, logging in JSON."""
    arguments = ("up", "--data", str(tmp_path / "data"), f"--http={ANY}", f"--grpc={ANY}", f"--ops={ANY}")
    with serving(tmp_path / "log", *arguments, THALWEG_LOG_FORMAT="json") as running:
        yield running


def half_a_request(url: str) -> http.client.HTTPConnection:
    """A request whose body is yet to come: the server waits for it."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.putrequest("POST", "/api/v1/projects/p/series")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(BODY)))
    connection.endheaders(BODY[:10])
    return connection


BODY = json.dumps({"runs": ["r"], "metrics": ["a"], "points": None}).encode()


def test_not_ready_as_soon_as_it_is_told_to_stop(up: Running) -> None:
    """While a request is still answered: alive, not ready, and the metrics say so too."""
    ops = up.ready["ops"]
    with wire.writing(up.ready["grpc"], wire.hello("r")) as stream:
        stream.commit(wire.batch(1, ["a"], [1], [[1]]))
    assert httpx.get(f"{ops}/readyz").status_code == 200
    waiting = half_a_request(up.ready["http"])
    wait_until(lambda: scrape(ops).value("thalweg_http_requests_in_progress") == 1)
    up.terminate()
    verdict = wait_until(lambda: answer if (answer := httpx.get(f"{ops}/readyz")).status_code == 503 else None)
    assert verdict.json()["error"]["code"] == "not_ready"
    assert verdict.json()["checks"] == {"engine": "ok", "draining": "the server is stopping"}
    assert httpx.get(f"{ops}/healthz").status_code == 200
    assert scrape(ops).value("thalweg_ready") == 0
    waiting.send(BODY[10:])
    answer = waiting.getresponse()
    assert answer.status == 200, "what was under way is answered"
    assert json.loads(answer.read())["series"][0]["value"] == [1.0]
    waiting.close()
    assert up.process.wait(60) == 0


def test_the_health_service_of_grpc(up: Running) -> None:
    """SERVING for the server and its service, unknown for others; who watches hears of the end, and delays it not."""
    with grpc.insecure_channel(up.ready["grpc"]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            assert stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=60).status == Status.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=60)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        watched = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=60)
        unknown = stub.Watch(health_pb2.HealthCheckRequest(service="other"), timeout=60)
        assert next(watched).status == Status.SERVING
        assert next(unknown).status == Status.SERVICE_UNKNOWN
        up.terminate()
        assert [word.status for word in watched] == [Status.NOT_SERVING]
        assert [word.status for word in unknown] == []
    assert up.process.wait(60) == 0


def test_the_log_line_by_line(up: Running) -> None:
    """Each line is JSON with the fields of every line; streams and requests have their own; no secret is in any."""
    with wire.writing(up.ready["grpc"], wire.hello("r", project="faults")) as stream:
        stream.commit(wire.batch(1, ["a"], [1], [[1]]))
        assert stream.end() == []
    with wire.writing(up.ready["grpc"], wire.hello("r\n{}", 2)) as stream:
        stream.ending()
    headers = {**SECRETS, "X-Request-ID": "mine"}
    httpx.get(f"{up.ready['http']}/api/v1/projects/faults/runs/r?token=s3cr3t", headers=headers)
    httpx.get(f"{up.ready['http']}/metrics", headers=headers)
    up.terminate()
    assert up.process.wait(60) == 0
    lines = up.lines()
    for line in lines:
        assert {"time", "level", "logger", "message"} <= line.keys()
        assert line["time"].endswith("Z")
    (request,) = [line for line in lines if "route" in line]
    assert (request["request_id"], request["status"]) == ("mine", 200)
    streams = [line for line in lines if line["logger"].endswith(".streams")]
    (opened,) = [line for line in streams if line["message"].startswith("stream opened")]
    who = {"writer": wire.writer_id(1), "project": "faults", "run": "r", "branch": 0}
    assert who.items() <= opened.items()
    closed = {line["reason"]: line for line in streams if "reason" in line}
    assert closed.keys() == {"ended", "refused"}
    assert who.items() <= closed["ended"].items()
    assert "run_id" in closed["refused"]["message"]
    assert "s3cr3t" not in up.log.read_text()


def test_lines_for_people(tmp_path: Path) -> None:
    """The other form: one line a record, the request's id at its end."""
    arguments = ("up", "--data", str(tmp_path / "data"), f"--http={ANY}", f"--grpc={ANY}", "--log-format=text")
    with serving(tmp_path / "log", *arguments) as running:
        assert running.ready["ops"] is None
        httpx.get(f"{running.ready['http']}/api/v1/projects", headers={"X-Request-ID": "mine"})
    (line,) = [line for line in (tmp_path / "log").read_text().splitlines() if "/projects" in line]
    assert " INFO thalweg_tracker.api.requests: GET /api/v1/projects 200 " in line
    assert line.endswith("[mine]")


def test_roles_on_a_server(clickhouse: RunningServer, tmp_path: Path) -> None:
    """`thalweg ingest` has the three on --ops alone, `thalweg api` beside its routes; each counts its own."""
    store = f"clickhouse://default:s3cr3t@127.0.0.1:{clickhouse.ports[0]}/operating"
    command = [sys.executable, "-m", "thalweg.cli.main", "migrate", "--store", store]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    with (
        serving(tmp_path / "ingest", "ingest", "--store", store, f"--grpc={ANY}", THALWEG_OPS=ANY) as ingest,
        serving(tmp_path / "api", "api", "--store", store, f"--http={ANY}", "--ingest", ingest.ready["grpc"]) as api,
    ):
        with wire.writing(ingest.ready["grpc"], wire.hello("r")) as stream:
            stream.commit(wire.batch(1, ["a", "b"], [1, 2], [[1, 2]] * 2))
        httpx.get(f"{api.ready['http']}/api/v1/projects/p/runs/r")
        taken, asked = scrape(ingest.ready["ops"]), scrape(api.ready["http"])
        assert (taken.value("thalweg_ingest_points_total"), asked.value("thalweg_ingest_points_total")) == (4, 0)
        assert sum(asked.labelled("thalweg_http_requests_total", "route").values()) == 1
        for told in (taken, asked):
            assert told.labelled("thalweg_build_info", "engine") == {"server": 1}
            assert told.value("thalweg_engine_up") == 1
            assert told.labelled("thalweg_engine_rows", "table")["points"] == 4
        for url in (ingest.ready["ops"], api.ready["http"]):
            assert httpx.get(f"{url}/readyz").status_code == 200
            assert "s3cr3t" not in httpx.get(f"{url}/metrics").text
        assert httpx.get(f"{ingest.ready['ops']}/api/v1/projects").status_code == 404
    for log in ("ingest", "api"):
        assert "s3cr3t" not in (tmp_path / log).read_text()


def thalweg(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command of the SDK with a spool of its own."""
    return subprocess.run(
        [sys.executable, "-m", "thalweg.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "THALWEG_SPOOL_DIR": str(folder / "spool"), **variables},
    )


def test_doctor_beside_a_server(tmp_path: Path) -> None:
    """All is well while it serves, and the folder's owner is named; then the server is what is missing."""
    data = tmp_path / "data"
    arguments = ("up", "--data", str(data), f"--http={ANY}", f"--grpc={ANY}")
    with serving(tmp_path / "log", *arguments) as running:
        url = running.ready["http"]
        well = thalweg(tmp_path, "doctor", "--json", "--data", str(data), THALWEG_URL=url)
        findings = json.loads(well.stdout)["findings"]
        failed = [one for one in findings if one["state"] == "fail" and " are free" not in one["told"]]
        assert failed == [], "but for the room on this disk, of which a test knows nothing"
        told = {one["check"]: one["told"] for one in findings}
        assert told["grpc"] == f"the ingest at {running.ready['grpc']} takes records in"
        assert (
            told["data"] == f"process {running.process.pid} on {socket.gethostname()} has it open, which serves {url}"
        )
    gone = thalweg(tmp_path, "doctor", "--json", "--data", str(data), THALWEG_URL=url)
    assert gone.returncode == 1
    findings = json.loads(gone.stdout)["findings"]
    assert "nothing listens on" in next(one["told"] for one in findings if one["check"] == "http")
    assert findings[-1]["told"] == "no server has it open"


def test_the_health_of_a_run(up: Running, tmp_path: Path) -> None:
    """What a training logged, dropped and got accepted, as `thalweg show --health` tells it afterwards."""
    script = """
import math, thalweg
with thalweg.init(project="faults", run_id="r", system_interval_s=0) as run:
    for step in range(10):
        run.log({"loss": 1.0, "text": "x"}, step=step)
    run.log({"loss": 1.0}, step=math.nan)
"""
    status, _, err = training.run_to_end(tmp_path, up.ready["http"], script)
    assert status == 0, err
    training.wait_for_status(ApiClient(up.ready["http"]), "r", "finished")
    shown = thalweg(tmp_path, "show", "faults/r", "--health", "--json", THALWEG_URL=up.ready["http"])
    document = json.loads(shown.stdout)
    assert (document["logged"], document["accepted"], document["waiting"]) == (10, 10, 0)
    assert document["dropped"] == {"bad_step": 1, "bad_value": 10}
    (writer,) = document["writers"]
    assert (writer["outcome"], writer["silent_s"], writer["dropped"]) == ("finished", None, document["dropped"])
