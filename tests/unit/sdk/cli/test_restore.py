"""`thalweg restore`: from a place in a run to a path. The objects are files of this host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.sdk.cli.canned_server import CannedRun, CannedServer
from tests.unit.sdk.cli.conftest import Command
from thalweg.cli import output
from thalweg.cli.locate import LocatedRun
from thalweg.cli.restore import RestoreBar


@pytest.fixture
def asked(canned: CannedServer, tmp_path: Path) -> list[dict[str, str]]:
    """What is asked of a server that knows one checkpoint of p/r1."""
    source = tmp_path / "saved" / "model.pt"
    source.parent.mkdir()
    source.write_bytes(b"weights")
    file = {"kind": "model", "shard": 0, "path": "model.pt", "uri": source.as_uri(), "size_bytes": 7, "digest": ""}
    resolved: dict[str, Any] = {
        "step": 300.0,
        "kinds": [{"kind": "model", "uri": source.as_uri()}],
        "files": [{**file, "url": None}],
        "skipped": [{"step": 400.0, "state": "missing", "detail": "no such object"}],
    }
    queries: list[dict[str, str]] = []

    def answer(query: dict[str, str]) -> Any:
        queries.append(query)
        return resolved

    canned.add("p", CannedRun("r1"))
    canned.answers["GET /projects/p/runs/r1/checkpoints/resolve"] = answer
    return queries


def test_the_path_is_printed(asked: list[dict[str, str]], thalweg: Command, tmp_path: Path) -> None:
    outcome = thalweg("restore", "r1@450", "--to", "back.pt", "--kind", "model", "--branch", "0")
    assert (outcome.status, outcome.out) == (0, f"{tmp_path / 'back.pt'}\n")
    assert (tmp_path / "back.pt").read_bytes() == b"weights"
    assert asked == [{"step": "450.0", "kind": "model", "branch": "0"}]
    assert "the checkpoint of step 400 is missing: no such object" in outcome.err
    assert outcome.err.endswith("Restored the checkpoint of step 300 of p/r1:\n")


@pytest.mark.parametrize("point", ["p/r1", "p/r1@latest-checkpoint"])
def test_json_of_the_latest(asked: list[dict[str, str]], thalweg: Command, tmp_path: Path, point: str) -> None:
    (tmp_path / "folder").mkdir()
    document = thalweg("restore", point, "--to", "folder", "--json").document
    place = str(tmp_path / "folder" / "model.pt")
    assert document == {"project": "p", "run_id": "r1", "step": 300.0, "path": place}
    assert asked == [{}]


def test_what_is_there_is_not_overwritten(asked: list[dict[str, str]], thalweg: Command, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    outcome = thalweg("restore", "r1", "--to", "mine")
    assert (outcome.status, outcome.out, (tmp_path / "mine").read_text()) == (1, "", "mine")
    assert "Error: cannot restore to" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("p/r1",), 2, "name where the checkpoint is to be, with --to; a whole database needs --data or --store"),
        (("backup", "--to", "x", "--data", "y"), 2, "--to for a checkpoint, or --data or --store for a whole database"),
        (("p/none", "--to", "x"), 1, "there is no"),
        (("p/r1", "--to", "x", "--kind", "weights"), 2, "'weights' is not one of"),
        (("p/", "--to", "x"), 2, "cannot use 'p/' as a point in a run"),
    ],
)
def test_errors(
    asked: list[dict[str, str]], thalweg: Command, arguments: tuple[str, ...], status: int, told: str
) -> None:
    outcome = thalweg("restore", *arguments)
    assert (outcome.status, outcome.out, asked) == (status, "", [])
    assert told in outcome.err


def test_the_bar() -> None:
    bars = output.progress()
    bar = RestoreBar(bars, LocatedRun("p", "r\x1b", {}))
    bar.update(1, 2)  # nothing to move yet
    bar.say_step(3.0)
    (task,) = bars.tasks
    assert (task.description, task.total) == ("p/r\\x1b step 3", None)
    bar.update(1024, 4096)
    assert (task.completed, task.total, task.fields["detail"]) == (1024, 4096, "1.0 KiB of 4.0 KiB")
    bar.update(2048, 0)
    assert (task.completed, task.fields["detail"]) == (2048, "2.0 KiB")
