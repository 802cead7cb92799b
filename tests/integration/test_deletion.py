"""Deletion as users see it: a command, a training that still writes, somebody who looks at the run live."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from tests.support import training, wire
from tests.support.live import listening
from tests.support.waiting import wait_until
from thalweg.spool import layout
from thalweg.testing import ServerProcess, running_server

PROJECT = wire.PROJECT


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


def command(server: ServerProcess, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "thalweg.cli.main", *arguments, "--url", server.url]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    return done


def write(server: ServerProcess, run_id: str, writer: int) -> None:
    with wire.writing(server.grpc, wire.hello(run_id, writer)) as stream:
        stream.commit(wire.batch(1, ["loss"], [1.0, 2.0], [[1.0], [2.0]], events=[wire.started()]))


def test_a_training_that_still_writes_is_told(server: ServerProcess) -> None:
    """Its stream ends with the reason, and so does the next one; after `undelete` it goes on where it was."""
    batch = wire.batch(1, ["loss"], [1.0], [[1.0]], events=[wire.started()])
    with wire.writing(server.grpc, wire.hello("busy", 1)) as stream:
        stream.commit(batch)
        command(server, "delete", f"{PROJECT}/busy")
        for sequence in range(2, 1000):  # until the ingest has seen it
            try:
                stream.commit(wire.batch(sequence, [], [], events=[wire.attributes(config__lr="1")]))
            except grpc.RpcError:
                break
        code, details = stream.ending()
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert f"`thalweg undelete {PROJECT}/busy` brings it back; then `thalweg sync`" in details
    with wire.writing(server.grpc, wire.hello("busy", 1)) as stream:
        assert stream.ending()[0] == grpc.StatusCode.INVALID_ARGUMENT
    command(server, "undelete", f"{PROJECT}/busy")
    with wire.writing(server.grpc, wire.hello("busy", 1)) as stream:
        stream.commit(wire.batch(1001, ["loss"], [2.0], [[2.0]]))
    assert server.client.get(f"/projects/{PROJECT}/runs/busy")["last_step"] == 2


def test_what_waits_in_a_spool_stays_there(server: ServerProcess, tmp_path: Path) -> None:
    """`thalweg sync` of a deleted run is refused and loses nothing; after `undelete` it delivers."""
    script = """
import thalweg
with thalweg.init(project="p", run_id="late", system_interval_s=0) as run:
    for step in range(100):
        run.log({"loss": step}, step=step)
"""
    write(server, "late", 5)
    status, _, err = training.run_to_end(tmp_path, server.url, script, THALWEG_MODE="offline")
    assert status == 0, err
    spool = tmp_path / "spool"
    command(server, "delete", f"{PROJECT}/late")
    refused = sync(server, spool)
    assert refused.returncode == 1
    assert "it was deleted at" in refused.stdout + refused.stderr
    assert layout.writer_folders(spool)
    command(server, "undelete", f"{PROJECT}/late")
    wait_until(lambda: sync(server, spool).returncode == 0 and not layout.writer_folders(spool))
    points = training.exact(server.client, "late", "loss", PROJECT)
    assert points == {float(step): float(step) for step in range(100)}


def sync(server: ServerProcess, spool: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "thalweg.cli.main", "sync", str(spool), "--url", server.url]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def test_who_looks_at_it_live_is_told(server: ServerProcess) -> None:
    """The stream ends with the event `dropped`, which says why."""
    write(server, "watched", 2)
    with (
        httpx.Client(base_url=f"{server.url}/api/v1", timeout=60) as http,
        listening(http, runs="watched", metrics="loss") as heard,
    ):
        command(server, "delete", f"{PROJECT}/watched")
        assert heard.ended.wait(60), "the stream goes on"
        assert [name for name, _ in heard.events][-1] == "dropped"


def test_the_commands(server: ServerProcess) -> None:
    """What they print says what holds, and what to do next."""
    write(server, "plain", 3)
    server.client.post(f"/projects/{PROJECT}/runs/plain/fork", {"step": 1.0, "run_id": "fork"})
    done = command(server, "delete", "plain", "-p", PROJECT)
    assert f"Deleted {PROJECT}/plain." in done.stderr
    assert f"`thalweg undelete {PROJECT}/plain` brings it back." in done.stderr
    assert "kept until these are gone too, which continue it: fork." in done.stderr
    done = command(server, "show", f"{PROJECT}/plain", status=1)
    assert "it was deleted at" in done.stderr
    listed = command(server, "undelete", "-p", PROJECT, "--json")
    assert "plain" in [one["run_id"] for one in json.loads(listed.stdout)["runs"]]
    assert "plain" in command(server, "undelete", "-p", PROJECT).stdout
    assert "is back" in command(server, "undelete", f"{PROJECT}/plain").stderr
    done = command(server, "delete", f"{PROJECT}/plain", "--now", "--yes", status=1)
    assert "is seen from fork" in done.stderr
    done = command(server, "delete", f"{PROJECT}/plain", "--now", status=1)
    assert "Purge run p/plain for good?" in done.stderr
    done = command(server, "delete", f"{PROJECT}/plain", "--now", "--with-descendants", "--yes", "--json")
    assert sorted(one["run_id"] for one in json.loads(done.stdout)["runs"]) == ["fork", "plain"]
    command(server, "delete", status=2)
    command(server, "undelete", "plain", status=2)


def test_a_whole_project(server: ServerProcess) -> None:
    """It is asked for first; --yes answers."""
    with wire.writing(server.grpc, wire.hello("one", 4, project="whole")) as stream:
        stream.commit(wire.batch(1, ["loss"], [1.0], [[1.0]]))
    assert "Delete all runs of project whole?" in command(server, "delete", "--project", "whole", status=1).stderr
    assert "Deleted 1 run of whole." in command(server, "delete", "--project", "whole", "--yes").stderr
    assert server.client.get("/projects/whole/runs")["runs"] == []


def test_retention(server: ServerProcess) -> None:
    assert "keeps its runs for ever" in command(server, "retention", "-p", "kept").stderr
    assert "keeps its runs for 180d" in command(server, "retention", "-p", "kept", "--keep", "180d").stderr
    shown = command(server, "retention", "-p", "kept", "--show", "--json")
    assert json.loads(shown.stdout) == {"project": "kept", "keep_s": 180 * 86_400, "runs_due": 0}
    assert "for ever" in command(server, "retention", "-p", "kept", "--off").stderr
    assert (
        "a time such as 12h, 30d or 8w" in command(server, "retention", "-p", "kept", "--keep", "soon", status=2).stderr
    )
