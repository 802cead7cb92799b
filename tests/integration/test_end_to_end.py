"""The whole line with real processes: training, sender, server; what is killed, and what is there afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support import training
from tests.support.waiting import wait_until
from thalweg.spool import layout
from thalweg.testing import ServerProcess, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for the tests that do not break it."""
    with running_server(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


def thalweg_command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command line as a user calls it."""
    return subprocess.run(
        [sys.executable, "-m", "thalweg.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **variables},
        check=False,
    )


def test_a_training_is_readable_when_it_has_ended(server: ServerProcess, tmp_path: Path) -> None:
    """What a script logs, configures and tags is there after its last line, without any call of finish()."""
    script = """
import thalweg, math
run = thalweg.init(project="faults", run_id="plain", config={"optimizer": {"lr": 0.1}}, tags=["baseline", "a.b"],
                   name="A name", notes="Some notes", system_interval_s=0.1)
for step in range(100):
    run.log({"train/loss": math.exp(-step / 30), "nested": {"acc": step / 100}}, step=step)
run.config["model/width"] = 64
"""
    status, _, err = training.run_to_end(tmp_path, server.url, script)
    assert status == 0, err
    run = training.wait_for_status(server.client, "plain", "finished")
    assert run["config"] == {"optimizer": {"lr": 0.1}, "model": {"width": 64}}
    assert (run["tags"], run["name"], run["notes"]) == (["a.b", "baseline"], "A name", "Some notes")
    assert run["env"]["python"]["version"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert len(training.exact(server.client, "plain", "train/loss")) == 100
    names = {metric["name"] for metric in server.client.get("/projects/faults/runs/plain/metrics")["metrics"]}
    assert {"train/loss", "nested/acc", "system/memory/percent"} <= names
    wait_until(lambda: not layout.writer_folders(tmp_path / "spool"))  # delivered, so deleted


def test_a_killed_training_loses_nothing(server: ServerProcess, tmp_path: Path) -> None:
    """After SIGKILL in the middle of the loop, every point whose log() had returned is there, exactly once."""
    script = training.start(tmp_path, server.url, training.ENDLESS, "killed")
    last = script.read_steps(2000)
    last = max(last, script.kill())
    run = training.wait_for_status(server.client, "killed", "killed")
    (writer,) = run["health"]["writers"]
    assert (writer["outcome"], writer["signal"], writer["exit_code"]) == ("killed", signal.SIGKILL, None)
    training.assert_complete(server.client, "killed", last)


def test_a_killed_sender_is_replaced(server: ServerProcess, tmp_path: Path) -> None:
    """After SIGKILL of the sender the training starts another, and nothing is lost or there twice."""
    script = training.start(tmp_path, server.url, training.ENDLESS, "sender-killed")
    script.read_steps(500)
    (sender,) = wait_until(lambda: psutil.Process(script.process.pid).children())
    wait_until(
        lambda: (
            training.exact(server.client, "sender-killed", "loss")
            if training.get_run(server.client, "faults", "sender-killed")
            else {}
        )
    )
    sender.kill()
    while not [child for child in psutil.Process(script.process.pid).children() if child.pid != sender.pid]:
        script.read_steps(1)
    last = max(script.read_steps(500), script.kill())
    training.wait_for_status(server.client, "sender-killed", "killed")
    training.assert_complete(server.client, "sender-killed", last)


def test_training_and_sender_killed_together_lose_nothing(server: ServerProcess, tmp_path: Path) -> None:
    """What both left behind is delivered by `thalweg sync`."""
    script = training.start(tmp_path, server.url, training.ENDLESS, "both-killed")
    script.read_steps(500)
    (sender,) = wait_until(lambda: psutil.Process(script.process.pid).children())
    sender.suspend()  # it is there, so that no other is started, and does not see how the training ends
    last = max(script.read_steps(1), script.kill())
    sender.kill()
    wait_until(lambda: not sender.is_running())
    synced = thalweg_command("sync", str(tmp_path / "spool"))
    assert synced.returncode == 0, synced.stderr
    training.wait_for_status(server.client, "both-killed", "lost")
    training.assert_complete(server.client, "both-killed", last)
    assert not layout.writer_folders(tmp_path / "spool")


def test_a_killed_server_loses_nothing(tmp_path: Path) -> None:
    """After SIGKILL of the server and a restart, what was logged before, meanwhile and after is there once."""
    first = ServerProcess(tmp_path / "data")
    script = training.start(tmp_path, first.url, training.ENDLESS, "server-killed")
    script.read_steps(1000)
    wait_until(lambda: training.get_run(first.client, "faults", "server-killed").get("last_step"))
    first.kill()
    script.read_steps(1000)
    http, grpc = first.url.removeprefix("http://"), first.grpc
    with ServerProcess(tmp_path / "data", http=http, grpc=grpc) as second:
        last = max(script.read_steps(1000), script.kill())
        training.wait_for_status(second.client, "server-killed", "killed")
        training.assert_complete(second.client, "server-killed", last)


def test_an_offline_run_is_synced_later(server: ServerProcess, tmp_path: Path) -> None:
    """Offline nothing is sent; `thalweg sync` delivers all of it, once, and empties the spool."""
    script = """
import thalweg
with thalweg.init(project="faults", run_id="offline", mode="offline", system_interval_s=0) as run:
    for step in range(3000):
        run.log({"loss": 1.0 / (1 + step), "square": step * step, "deep": {"half": step / 2}}, step=step)
    assert run.flush(1) is False
"""
    status, _, err = training.run_to_end(tmp_path, server.url, script)
    assert status == 0, err
    assert "thalweg sync" in err
    assert training.get_run(server.client, "faults", "offline") == {}
    for _ in range(2):  # the second time there is nothing to do
        synced = thalweg_command("sync", str(tmp_path / "spool"), "--json")
        assert synced.returncode == 0, synced.stderr
        json.loads(synced.stdout)
    training.wait_for_status(server.client, "offline", "finished")
    training.assert_complete(server.client, "offline", 2999)
    assert not layout.writer_folders(tmp_path / "spool")


def test_a_damaged_spool_costs_only_what_was_damaged(server: ServerProcess, tmp_path: Path) -> None:
    """Damaged records are moved aside and counted on the run; every other point is delivered."""
    script = """
import thalweg
with thalweg.init(project="faults", run_id="damaged", mode="offline", system_interval_s=0) as run:
    for step in range(1000):
        run.log({"loss": 1.0 / (1 + step)}, step=step)
"""
    status, _, err = training.run_to_end(tmp_path, server.url, script)
    assert status == 0, err
    (folder,) = layout.writer_folders(tmp_path / "spool")
    segment = layout.segment_path(folder, 1)
    content = bytearray(segment.read_bytes())
    at = content.index(b"THWL", 20_000)  # the value of one frame, and the header of another
    content[at + 50] ^= 0xFF
    other = content.index(b"THWL", 40_000)
    content[other : other + 8] = bytes(8)
    segment.write_bytes(content)
    assert thalweg_command("sync", str(tmp_path / "spool")).returncode == 0
    run = wait_until(lambda: training.get_run(server.client, "faults", "damaged"))
    assert run["status"] == "finished"
    counters = run["health"]["counters"]
    assert (counters["logged"], counters["accepted"]) == (1000, 998)
    assert (counters["records_damaged"], counters["records_missing"]) == (2, 2)
    points = training.exact(server.client, "damaged", "loss")
    assert len(points) == 998
    assert all(value == 1.0 / (1 + step) for step, value in points.items())
    kept = list((tmp_path / "spool" / layout.QUARANTINE_FOLDER).glob("*/*.bin"))
    assert sum(len(path.read_bytes()) > 0 for path in kept) == 2


def test_ranks_of_one_run_do_not_overwrite_each_other(server: ServerProcess, tmp_path: Path) -> None:
    """Two ranks at the same steps: a series is their mean, `by_rank` shows both, and the run ends when both have."""
    script = """
import os, thalweg
with thalweg.init(project="faults", run_id="ranks", system_interval_s=0) as run:
    for step in range(500):
        run.log({"loss": step + 10.0 * int(os.environ["RANK"])}, step=step)
"""
    ranks = [tmp_path / "0", tmp_path / "1"]
    for folder in ranks:
        folder.mkdir()
    running = [training.start(folder, server.url, script, RANK=folder.name) for folder in ranks]
    assert [one.process.wait(timeout=120) for one in running] == [0, 0]
    for one in running:
        one.process.stdout.close()
    run = wait_until(
        lambda: (
            (r := training.wait_for_status(server.client, "ranks", "finished"))
            and (len(r["health"]["writers"]) == 2)
            and r
        )
    )
    assert sorted(writer["rank"] for writer in run["health"]["writers"]) == [0, 1]
    assert training.exact(server.client, "ranks", "loss") == {float(step): step + 5.0 for step in range(500)}
    body = {"runs": ["ranks"], "metrics": ["loss"], "points": None, "by_rank": True}
    series = server.client.post("/projects/faults/series", body)["series"]
    assert {one["rank"]: one["value"] for one in series} == {
        0: [float(step) for step in range(500)],
        1: [step + 10.0 for step in range(500)],
    }


def test_the_same_run_id_continues_a_run(server: ServerProcess, tmp_path: Path) -> None:
    """A second process with the run's id goes on after its last step, and the latest value of a step wins."""
    script = """
import sys, thalweg
with thalweg.init(project="faults", run_id="continued", system_interval_s=0) as run:
    for value in range(10):
        run.log({"loss": value})
    run.log({"again": float(sys.argv[1])}, step=3)
"""
    for attempt in ("1", "2"):
        status, _, err = training.run_to_end(tmp_path, server.url, script, attempt)
        assert status == 0, err
        training.wait_for_status(server.client, "continued", "finished")
    wait_until(lambda: len(training.exact(server.client, "continued", "loss")) == 20)
    assert training.exact(server.client, "continued", "again") == {3.0: 2.0}
    listed = server.client.get("/projects/faults/runs/continued/metrics?prefix=again")["metrics"][0]
    assert (listed["last"], listed["min"], listed["max"]) == (2.0, 2.0, 2.0)


def test_an_uncaught_exception_and_an_exit_code_are_recorded(server: ServerProcess, tmp_path: Path) -> None:
    """How a process ended is on its run: exception with traceback, or exit code."""
    begin = 'import thalweg, os, sys\nrun = thalweg.init(project="faults", run_id=sys.argv[1], system_interval_s=0)\n'
    for run_id, end, wanted in (
        ("raises", "raise ValueError('out of luck')", ("failed", 1, "ValueError: out of luck")),
        ("exits", "sys.exit(7)", ("failed", 7, "")),
        ("system-exit", "raise SystemExit(9)", ("failed", 9, "")),
        ("os-exit", "os._exit(5)", ("failed", 5, "")),
        ("fine", "run.log({'a': 1})", ("finished", 0, "")),
    ):
        training.run_to_end(tmp_path, server.url, begin + end, run_id)

        def ended(run_id: str = run_id, wanted: tuple[str, int, str] = wanted) -> bool:
            writers = training.get_run(server.client, "faults", run_id).get("health", {}).get("writers", [])
            found = [(one["outcome"], one["exit_code"] or 0, one["exception"]) for one in writers]
            return found == [wanted]

        wait_until(ended)
    raised = training.get_run(server.client, "faults", "raises")["health"]["writers"][0]
    assert "train.py" in raised["traceback"]


def test_forked_workers_log_beside_their_parent(server: ServerProcess, tmp_path: Path) -> None:
    """Children of fork() log to the same run; none loses a point or ends the run."""
    script = """
import multiprocessing, thalweg
run = thalweg.init(project="faults", run_id="forked", system_interval_s=0)
def work(number):
    for step in range(100):
        run.log({f"worker/{number}": step}, step=step)
    run.flush(60)
workers = [multiprocessing.get_context("fork").Process(target=work, args=(n,)) for n in range(2)]
for worker in workers: worker.start()
for step in range(100):
    run.log({"parent": step}, step=step)
for worker in workers: worker.join()
assert [worker.exitcode for worker in workers] == [0, 0]
run.finish()
"""
    status, _, err = training.run_to_end(tmp_path, server.url, script)
    assert status == 0, err
    wanted = {float(step): float(step) for step in range(100)}
    for name in ("worker/0", "worker/1", "parent"):
        wait_until(lambda name=name: training.exact(server.client, "forked", name) == wanted)
    assert training.get_run(server.client, "faults", "forked")["status"] == "finished"
