"""The user's commands as processes, against a real server and what real trainings logged."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from tests.support import training
from tests.support.training import Training
from tests.support.waiting import wait_until
from thalweg.spool import layout
from thalweg.testing import ServerProcess, running_server

PROJECT = "faults"  # of tests.support.training
PLAIN = """
import math, sys
import thalweg
with thalweg.init(project="faults", run_id=sys.argv[1], config={"lr": 0.1, "model": {"depth": 3}}, tags=["baseline"],
                  system_interval_s=0) as run:
    for step in range(2000):
        run.log({"train/loss": 1 / (1 + step)}, step=step)
        if step % 100 == 0:
            run.log({"val": math.nan if step == 100 else step}, step=step + 0.5)
"""
RANKED = """
import thalweg
with thalweg.init(project="faults", run_id="ranked", system_interval_s=0) as run:
    for step in range(10):
        run.log({"loss": float(run_rank)}, step=step)
"""
STEADY = """
import itertools, sys, threading
import thalweg
run = thalweg.init(project="faults", run_id=sys.argv[1], system_interval_s=0)
pause = threading.Event()
for step in itertools.count():
    run.log({"square": step * step}, step=step)
    print(step, flush=True)
    pause.wait(0.005)
"""
"""Logs for ever, slowly enough for its output to fit in a pipe for a minute."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server, with a run `plain` whose points are all there."""
    with running_server(tmp_path_factory.mktemp("server") / "data") as running:
        folder = tmp_path_factory.mktemp("plain")
        status, _, err = training.run_to_end(folder, running.url, PLAIN, "plain")
        assert status == 0, err
        training.wait_for_status(running.client, "plain", "finished")
        yield running


@contextmanager
def endless(folder: Path, server: ServerProcess, script: str, run_id: str, **variables: str) -> Iterator[Training]:
    """A script that logs for ever, killed at the latest when the test ends."""
    running = training.start(folder, server.url, script, run_id, **variables)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.kill()


def start(server: ServerProcess, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    """A command as a user calls it, without a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "thalweg.cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "THALWEG_URL": server.url},
    )


def call(server: ServerProcess, *arguments: str, cwd: Path | None = None) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    process = start(server, *arguments, cwd=cwd)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def call_json(server: ServerProcess, *arguments: str, cwd: Path | None = None) -> Any:
    """The JSON that a command prints."""
    status, out, err = call(server, *arguments, "--json", cwd=cwd)
    assert status == 0, err
    return json.loads(out)


def test_runs_of_a_project_and_of_all(server: ServerProcess) -> None:
    for arguments in (["runs", PROJECT], ["runs"]):
        found = {run["run_id"]: run for run in call_json(server, *arguments)["runs"]}
        assert (found["plain"]["project"], found["plain"]["status"]) == (PROJECT, "finished")
        status, out, err = call(server, *arguments)
        assert (status, err) == (0, "")
        assert "baseline" in out


def test_show_finds_a_run_in_any_project(server: ServerProcess) -> None:
    document = call_json(server, "show", "plain")
    assert document["config"] == {"lr": 0.1, "model": {"depth": 3}}
    assert document["health"]["counters"]["accepted"] == 2020
    metrics = {metric["name"]: metric for metric in document["metrics"]}
    assert (metrics["train/loss"]["min"], metrics["train/loss"]["last_step"]) == (1 / 2000, 1999)
    status, out, err = call(server, "show", f"{PROJECT}/plain", "--metrics", "train/")
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["model.depth", "3"] in lines
    assert ["train/loss", "0.0005", "0.0005", "1999", "1", "0", "0", "1999", "1"] in lines


def test_tail_prints_the_last_points_of_metrics_of_different_density(server: ServerProcess) -> None:
    status, out, err = call(server, "tail", "plain", "-n", "2")
    assert (status, err) == (0, "")
    assert [line.split()[2:5] for line in out.splitlines()] == [
        ["1800.5", "val", "1800"],
        ["1900.5", "val", "1900"],
        ["1998", "train/loss", "0.00050025"],
        ["1999", "train/loss", "0.0005"],
    ]


def test_tail_follows_a_run_to_its_end(server: ServerProcess, tmp_path: Path) -> None:
    """All steps from the first line on are printed once, in order, and the command ends with the run."""
    with endless(tmp_path, server, STEADY, "followed") as script:
        script.read_steps(10)
        wait_until(lambda: training.get_run(server.client, PROJECT, "followed").get("last_step"))
        process = start(server, "tail", f"{PROJECT}/followed", "-n", "1", "-m", "square", "--follow", "--json")
        assert process.stdout is not None
        with process:
            points = [json.loads(process.stdout.readline()) for _ in range(50)]
            last = script.kill()
            points += [json.loads(line) for line in process.stdout]
    steps = [point["step"] for point in points]
    assert steps == [steps[0] + number for number in range(len(steps))]
    assert steps[-1] >= last
    assert all(point["value"] == point["step"] ** 2 for point in points)
    assert process.returncode == 0


def test_export_to_parquet_holds_exactly_what_was_logged(server: ServerProcess, tmp_path: Path) -> None:
    document = call_json(server, "export", "plain", cwd=tmp_path)
    assert (document["output"], document["rows"], document["metrics"]) == ("plain.parquet", 2020, 2)
    table = pyarrow.parquet.read_table(tmp_path / "plain.parquet")
    assert table.schema.names == ["run_id", "metric", "step", "time", "value"]
    rows = table.to_pylist()
    losses = {row["step"]: row["value"] for row in rows if row["metric"] == "train/loss"}
    assert losses == {float(step): 1 / (1 + step) for step in range(2000)}
    assert [row["step"] for row in rows if row["value"] != row["value"]] == [100.5]


def test_export_to_csv_of_one_metric(server: ServerProcess, tmp_path: Path) -> None:
    status, out, _ = call(server, "export", "plain", "--format", "csv", "-m", "val", cwd=tmp_path)
    assert (status, out) == (0, "")
    with (tmp_path / "plain.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["step"]) for row in rows] == [step + 0.5 for step in range(0, 2000, 100)]


def test_export_by_rank_and_as_mean(server: ServerProcess, tmp_path: Path) -> None:
    for rank in (0, 3):
        script = RANKED.replace("run_rank", str(rank))
        status, _, err = training.run_to_end(tmp_path, server.url, script, RANK=str(rank))
        assert status == 0, err
    training.wait_for_status(server.client, "ranked", "finished")
    for arguments, values in (("--by-rank",), {0.0, 3.0}), (("--mean",), {1.5}):
        call_json(server, "export", "ranked", "--force", *arguments, cwd=tmp_path)
        table = pyarrow.parquet.read_table(tmp_path / "ranked.parquet")
        assert set(table.column("value").to_pylist()) == values
        if "rank" in table.schema.names:
            assert table.column("rank").to_pylist() == table.column("value").to_pylist()


def test_sync_of_an_offline_run_while_it_lives_and_after_it_was_killed(server: ServerProcess, tmp_path: Path) -> None:
    """The first sync delivers what is there and keeps the folder; the last one completes and removes it."""
    spool = tmp_path / "spool"
    with endless(tmp_path, server, training.ENDLESS, "unplugged", THALWEG_MODE="offline") as script:
        read = script.read_steps(500)
        (report,) = call_json(server, "sync", str(spool))["folders"]
        assert (report["state"], report["run_id"]) == ("live", "unplugged")
        assert report["records"] > 500
        assert training.get_run(server.client, PROJECT, "unplugged")["status"] == "running"
        last = max(read, script.kill())
    complete(server, spool, "unplugged", last)
    # "lost" where this sync came before the sender, which alone saw the signal
    assert training.get_run(server.client, PROJECT, "unplugged")["status"] in ("killed", "lost")
    assert call(server, "sync", str(spool))[2] == f"Nothing waits in {spool}.\n"


def test_sync_interrupted_loses_nothing(server: ServerProcess, tmp_path: Path) -> None:
    """After Ctrl-C at any moment, another sync completes the work, and no point is there twice."""
    spool = tmp_path / "spool"
    with endless(tmp_path, server, training.ENDLESS, "interrupted", THALWEG_MODE="offline") as script:
        last = max(script.read_steps(20_000), script.kill())
    process = start(server, "sync", str(spool))
    wait_until(lambda: process.poll() is not None or training.get_run(server.client, PROJECT, "interrupted"))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (0, 130), err
    assert "Traceback" not in err
    complete(server, spool, "interrupted", last)


def complete(server: ServerProcess, spool: Path, run_id: str, last: int) -> None:
    """Syncs until the spool is empty (its sender may still be writing down how the training ended); all is there."""
    wait_until(lambda: call_json(server, "sync", str(spool)) and not layout.writer_folders(spool))
    training.assert_complete(server.client, run_id, last)
