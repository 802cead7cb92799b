"""`thalweg show`: what is told of a run."""

from __future__ import annotations

import math

import pytest

from tests.unit.sdk.cli.canned_server import CannedRun, CannedServer, branch_line
from tests.unit.sdk.cli.conftest import Command


@pytest.fixture
def run(canned: CannedServer) -> CannedRun:
    fields = {
        "name": "baseline",
        "status": "failed",
        "tags": ["a", "b"],
        "config": {"lr": 0.1, "model": {"depth": 3, "name": "m"}},
        "env": {
            "git": {"commit": "abc", "diff": "x\ny"},
            "packages": {"click": "8"},
            "host": {"memory_bytes": 1 << 30},
        },
        "last_step": 2.0,
    }
    metrics = {"train/loss": {0.0: 3.0, 1.0: 1.0, 2.0: 2.0}, "train/nan": {0.0: math.nan}, "val/acc": {2.0: 0.5}}
    return canned.add("p", CannedRun("r1", metrics=metrics, fields=fields))


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_config_environment_and_summary(run: CannedRun, thalweg: Command) -> None:
    lines = words(thalweg("show", "p/r1").out)
    assert lines[0] == ["p/r1", "(baseline)"]
    for line in (
        ["status", "failed"],
        ["tags", "a,", "b"],
        ["last", "step", "2"],
        ["lr", "0.1"],
        ["model.depth", "3"],
        ["model.name", "m"],
        ["git.commit", "abc"],
        ["git.diff", "2", "lines"],
        ["packages", "1", "item"],
        ["host.memory_bytes", "1.0", "GiB"],
    ):
        assert line in lines


def test_metrics_have_last_and_extremes_with_their_steps(run: CannedRun, thalweg: Command) -> None:
    lines = words(thalweg("show", "r1").out)
    assert ["train/loss", "2", "1", "1", "3", "0", "0", "2", "1"] in lines
    assert ["train/nan", "NaN", "NaN", "0", "NaN", "0", "0", "0", "1"] in lines


def test_metrics_by_prefix(run: CannedRun, thalweg: Command) -> None:
    document = thalweg("show", "r1", "--metrics", "train/", "--json").document
    assert [metric["name"] for metric in document["metrics"]] == ["train/loss", "train/nan"]


def test_a_limit_of_metrics_is_told(run: CannedRun, thalweg: Command) -> None:
    outcome = thalweg("show", "r1", "--limit", "2")
    assert "val/acc" not in outcome.out
    assert "Only the first 2 metrics" in outcome.err


def test_no_limit_is_told_where_all_are_shown(run: CannedRun, thalweg: Command) -> None:
    assert thalweg("show", "r1", "--limit", "3").err == ""


def test_json_is_the_servers_document_with_project_and_metrics(run: CannedRun, thalweg: Command) -> None:
    document = thalweg("show", "r1", "--json").document
    metrics = document.pop("metrics")
    assert document == {"project": "p", "config_changes": [], **run.document()}
    assert len(metrics) == 3


def test_losses_are_named_with_their_reason(canned: CannedServer, thalweg: Command) -> None:
    counters = {"logged": 1000, "accepted": 900, "rejected_name": 60, "dropped_bad_value": 7, "rejected_time": 0}
    canned.add("p", CannedRun("r1", fields={"health": {"counters": counters, "writers": []}}))
    lines = words(thalweg("show", "p/r1").out)
    assert ["logged", "1,000"] in lines
    assert ["rejected", "name", "60"] in lines
    assert ["dropped", "bad_value", "7"] in lines
    assert ["on", "their", "way", "40"] in lines
    assert ["rejected", "time", "0"] not in lines


@pytest.mark.parametrize(
    ("writer", "state"),
    [
        ({"outcome": None}, ["running"]),
        ({"outcome": "finished", "exit_code": 0}, ["finished"]),
        ({"outcome": "failed", "exit_code": 3}, ["failed", "(exit", "code", "3)"]),
        ({"outcome": "killed", "exit_code": None, "signal": 9}, ["killed", "(signal", "9)"]),
    ],
)
def test_writers(canned: CannedServer, thalweg: Command, writer: dict[str, object], state: list[str]) -> None:
    canned.add("p", CannedRun("r1", writer=writer))
    row = next(line for line in words(thalweg("show", "p/r1").out) if line[:1] == ["0"])
    assert row[: 4 + len(state)] == ["0", "training", "gpu1", "4711", *state]


def test_the_traceback_is_shown_without_control_characters(canned: CannedServer, thalweg: Command) -> None:
    writer = {
        "outcome": "failed",
        "exception": "ValueError: x",
        "traceback": "Traceback:\n  File\nValueError: \x1b[2Jx\n",
    }
    canned.add("p", CannedRun("r1", writer=writer))
    assert "Rank 0 ended with\nTraceback:\n  File\nValueError: \\x1b[2Jx\n" in thalweg("show", "p/r1").out


ROOT = {"run_id": "root", "branch": 0, "upto": 9.0}
DAY = "2026-01-03T00:00:00Z"


def way(canned: CannedServer, *entries: dict[str, object]) -> None:
    """What the server answers of the way to r1."""
    usual = {"branch": 0, "fork_step": None, "name": "", "created_at": DAY, "changes": {}}
    canned.answers["GET /projects/p/runs/r1/lineage"] = lambda query: {"lineage": [usual | one for one in entries]}


def test_a_fork_shows_where_it_began_and_what_each_one_changed(canned: CannedServer, thalweg: Command) -> None:
    middle = {"run_id": "mid", "branch": 2, "upto": 12.0}
    fields = {
        "lineage": [ROOT, middle, {"run_id": "r1", "branch": 0, "upto": None}],
        "branches": [branch_line(0, DAY, ("mid", 2), kind="fork", fork_step=12.0)],
    }
    canned.add("p", CannedRun("r1", fields=fields))
    changes = {"lr": {"before": 0.1, "after": 0.01}, "opt.name": {"before": None, "after": "ad\x1bam"}}
    gone = {"x": {"before": [1, 2], "after": None}}
    way(
        canned,
        {**ROOT, "kind": "start"},
        {**middle, "kind": "fork", "fork_step": 9.0, "changes": gone},
        {"run_id": "r1", "kind": "fork", "fork_step": 12.0, "changes": changes},
    )
    text = thalweg("show", "p/r1").out
    assert "  began      fork of mid (branch 2) at step 12\n" in text
    assert "  lineage    root (to step 9) -> mid (branch 2, to step 12) -> r1\n" in text
    assert "Config changes of mid (branch 2) at step 9\n  x  [1, 2] -> (none)\n" in text
    assert "Config changes at step 12\n  lr        0.1 -> 0.01\n  opt.name  (none) -> ad\\x1bam\n" in text
    told = thalweg("show", "p/r1", "--json").document["config_changes"]
    assert [(one["run_id"], one["changes"]) for one in told] == [("mid", gone), ("r1", changes)]


def test_a_run_that_was_rewound_shows_its_branches(canned: CannedServer, thalweg: Command) -> None:
    fields = {
        "branch": 2,
        "lineage": [{"run_id": "r1", "branch": 0, "upto": 5.0}, {"run_id": "r1", "branch": 2, "upto": None}],
        "branches": [
            branch_line(0, DAY, ("root", 0), kind="fork", fork_step=3.0),
            branch_line(1, DAY, ("r1", 0), kind="rewind", fork_step=8.0),
            branch_line(2, DAY, ("r1", 0), kind="rewind", fork_step=5.0),
        ],
    }
    canned.add("p", CannedRun("r1", fields=fields))
    way(canned)
    text = thalweg("show", "p/r1").out
    assert "  began      rewind of branch 0 to step 5; fork of root at step 3\n" in text
    table = [line for line in words(text) if line[:1] and line[0].isdecimal() and line[2:3] == ["of"]]
    assert [(line[0], line[-2:]) for line in table[2:]] == [("2", ["newest,", "shown"])]
    assert [" ".join(line[1:7]) for line in table[:2]] == ["fork of root at step 3", "rewind of branch 0 to step"]
    old = thalweg("show", "p/r1", "--branch", "1").out
    assert next(line[-1] for line in words(old) if line[:1] == ["1"]) == "shown"
    assert "GET /api/v1/projects/p/runs/r1/metrics?limit=101&branch=1" in canned.asked


def test_a_plain_run_is_not_asked_for_its_lineage(run: CannedRun, canned: CannedServer, thalweg: Command) -> None:
    text = thalweg("show", "p/r1").out
    assert not [line for line in canned.asked if "lineage" in line]
    assert "Branches" not in text
    assert "began" not in text
