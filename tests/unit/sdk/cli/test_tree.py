"""`thalweg tree`: columns beside the branches, and what is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.sdk.cli.canned_server import CannedServer
from tests.unit.sdk.cli.conftest import Command
from tests.unit.sdk.cli.test_forest import node
from thalweg.cli.tree import best_of

METRIC = {"last": 0.5, "last_step": 99.0, "min": 0.25, "argmin": 70.0, "max": "NaN", "argmax": 0.0}
NODES = [
    node("root", name="base\x1b[2J", metric=METRIC),
    node("single", status="running"),
    node("fork", 0, ("root", 0), 50.0, status="failed"),
]


@pytest.fixture
def lineage(canned: CannedServer) -> list[Any]:
    """The branches of project p, in pages of two."""
    nodes = list(NODES)

    def answer(query: dict[str, str]) -> Any:
        start = int(query.get("cursor", "0"))
        following = str(start + 2) if start + 2 < len(nodes) else None
        return {"nodes": nodes[start : start + 2], "next_cursor": following}

    canned.answers["GET /projects/p/lineage"] = answer
    return nodes


def test_a_tree_without_a_terminal_is_plain(lineage: list[Any], thalweg: Command) -> None:
    outcome = thalweg("tree", "p")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [
        "run       begins      status    name",
        "root                  finished  base\\x1b[2J",
        "`-- fork  fork at 50  failed",
        "",
        "single                running",
    ]


def test_a_metric_has_its_last_and_its_best_value(lineage: list[Any], canned: CannedServer, thalweg: Command) -> None:
    lines = [line.split() for line in thalweg("tree", "p", "--metric", "val/loss").out.splitlines()]
    assert lines[0] == ["run", "begins", "status", "val/loss", "at", "step", "min", "at", "step", "name"]
    assert lines[1] == ["root", "finished", "0.5", "99", "0.25", "70", "base\\x1b[2J"]
    assert lines[2] == ["`--", "fork", "fork", "at", "50", "failed"]
    assert [line for line in canned.asked if "metric=val%2Floss" in line]
    most = [line.split() for line in thalweg("tree", "p", "-m", "val/loss", "--best", "max").out.splitlines()]
    assert most[1] == ["root", "finished", "0.5", "99", "NaN", "0", "base\\x1b[2J"]


@pytest.mark.parametrize(
    ("metric", "best"),
    [
        ("loss", "min"),
        ("val/LOSS", "min"),
        ("top1_error", "min"),
        ("perplexity", "min"),
        ("loss/scale", "max"),
        ("acc", "max"),
    ],
)
def test_best_by_name(metric: str, best: str) -> None:
    assert best_of(metric) == best


def test_one_runs_tree(lineage: list[Any], thalweg: Command) -> None:
    for run in ("fork", "p/fork"):
        assert "single" not in thalweg("tree", "p", "--run", run).out
    outcome = thalweg("tree", "p", "--run", "fork", "--depth", "0")
    assert outcome.out.splitlines()[-1] == "`-- ... and 1 more branch on 1 level below: --depth shows them"
    assert outcome.err.startswith("fork is on level 1: --depth shows it.")


@pytest.mark.parametrize(
    ("run", "status", "told"),
    [
        ("none", 1, "there is no run 'none' in project 'p'"),
        ("q/fork", 2, "cannot draw 'q/fork': it is not in project 'p'"),
    ],
)
def test_a_run_that_is_not_there(lineage: list[Any], thalweg: Command, run: str, status: int, told: str) -> None:
    outcome = thalweg("tree", "p", "--run", run)
    assert (outcome.status, outcome.out) == (status, "")
    assert told in outcome.err


def test_json_has_all_branches_of_all_pages(lineage: list[Any], thalweg: Command) -> None:
    document = thalweg("tree", "p", "--json", "--depth", "0").document
    assert document == {"project": "p", "metric": None, "best": None, "nodes": NODES}
    one = thalweg("tree", "p", "--json", "--run", "fork", "--metric", "loss").document
    assert (one["best"], [each["run_id"] for each in one["nodes"]]) == ("min", ["root", "fork"])


def test_many_trees_and_single_runs_are_summed_up(lineage: list[Any], thalweg: Command) -> None:
    lineage[:] = [node(f"s{number}") for number in range(60)]
    lineage += [each for n in range(55) for each in (node(f"t{n}"), node(f"c{n}", 0, (f"t{n}", 0), 1.0))]
    lines = thalweg("tree", "p").out.splitlines()
    assert len(lines) == 1 + 100 + 1 + 1 + 50 + 1
    assert lines[101] == "... and 5 older trees of 10 branches: --all shows them"
    assert lines[-1] == "... and 10 older runs that nothing continues: --all shows them"
    assert len(thalweg("tree", "p", "--all").out.splitlines()) == 1 + 110 + 1 + 60


def test_an_id_is_whole_however_long(lineage: list[Any], thalweg: Command) -> None:
    name = "run-" + "x" * 200
    lineage.append(node(name, 0, ("fork", 0), 1.0))
    assert f"    `-- {name}  fork at 1   finished" in thalweg("tree", "p").out.splitlines()


def test_no_runs(lineage: list[Any], thalweg: Command) -> None:
    lineage.clear()
    outcome = thalweg("tree", "p")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "There are no runs in project 'p'.\n")


def test_the_project_comes_from_the_environment(
    lineage: list[Any], thalweg: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert thalweg("tree").status == 2
    monkeypatch.setenv("THALWEG_PROJECT", "p")
    assert thalweg("tree").status == 0
