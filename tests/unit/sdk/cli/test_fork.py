"""`thalweg fork`: what is ordered, and what is told of the new run."""

from __future__ import annotations

from typing import Any

import click
import pytest

from tests.unit.sdk.cli.canned_server import CannedRun, CannedServer, branch_line
from tests.unit.sdk.cli.conftest import Command
from thalweg.cli.fork import parse_config

MADE = {
    "run_id": "new",
    "branch": 0,
    "kind": "fork",
    "parent": {"run_id": "r1", "branch": 0},
    "fork_step": 9.0,
    "parent_last_step": 12.0,
    "is_ahead": False,
    "lineage": [],
    "config": {},
}


@pytest.fixture
def made(canned: CannedServer) -> dict[str, Any]:
    """What the server answers to the order to fork p/r1."""
    answer = dict(MADE)
    canned.add("p", CannedRun("r1"))
    canned.answers["POST /projects/p/runs/r1/fork"] = lambda order: answer
    return answer


def test_the_new_run_is_told_with_the_line_that_continues_it(
    made: dict[str, Any], canned: CannedServer, thalweg: Command
) -> None:
    outcome = thalweg("fork", "p/r1@9")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [
        "p/new",
        "  parent  r1",
        "  step    9",
        "  ahead   no: the parent stands at step 12",
        "",
        "Continue it in a training with",
        '  run = thalweg.init(project="p", run_id="new", fork_from="r1@9")',
    ]
    nothing = {"run_id": None, "branch": None, "name": None, "notes": None, "tags": [], "config": {}}
    assert canned.orders == [("/projects/p/runs/r1/fork", {**nothing, "step": 9.0})]


def test_all_options_are_ordered(made: dict[str, Any], canned: CannedServer, thalweg: Command) -> None:
    options = ["--run-id", "new", "--name", "n", "--notes", "why", "-t", "a", "-t", "b", "--branch", "1"]
    config = ["-c", "lr=3e-4", "-c", 'opt={"name": "adam", "betas": [0.9, 0.99]}']
    assert thalweg("fork", "r1@latest-checkpoint", *options, *config).status == 0
    order = {
        "run_id": "new",
        "step": "latest-checkpoint",
        "branch": 1,
        "name": "n",
        "notes": "why",
        "tags": ["a", "b"],
        "config": {"lr": 3e-4, "opt.name": "adam", "opt.betas": [0.9, 0.99]},
    }
    assert canned.orders[-1][1] == order


@pytest.mark.parametrize(("last", "stands"), [(5.0, "stands at step 5"), (None, "has no points yet")])
def test_a_fork_ahead_of_its_parent_is_told(
    made: dict[str, Any], thalweg: Command, last: float | None, stands: str
) -> None:
    made.update(is_ahead=True, parent_last_step=last)
    line = f"  ahead   yes: the parent {stands}, what it logs up to step 9 will be seen in the fork too"
    assert line in thalweg("fork", "p/r1@9").out.splitlines()


def test_a_fork_of_an_old_branch_names_it(made: dict[str, Any], canned: CannedServer, thalweg: Command) -> None:
    """The line that continues it needs no branch: a fork that is there keeps its own."""
    day = "2026-01-03T00:00:00Z"
    canned.projects["p"][0].fields["branches"] = [
        branch_line(0, day),
        branch_line(1, day, ("r1", 0), kind="rewind", fork_step=3.0),
    ]
    lines = thalweg("fork", "p/r1@9", "--branch", "0").out.splitlines()
    assert "  parent  r1 (branch 0)" in lines
    assert lines[-1] == '  run = thalweg.init(project="p", run_id="new", fork_from="r1@9")'


def test_json_is_the_servers_answer_with_the_project(made: dict[str, Any], thalweg: Command) -> None:
    assert thalweg("fork", "p/r1@9", "--json").document == {"project": "p", **MADE}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("p/r1",), "cannot fork run r1: at which step? Give r1@STEP or r1@latest-checkpoint"),
        (("p/r1@9", "-c", "lr"), "cannot use --config 'lr': wanted PATH=JSON"),
        (("a/b/c@9",), "cannot use 'a/b/c@9' as a point in a run"),
    ],
)
def test_usage(
    made: dict[str, Any], canned: CannedServer, thalweg: Command, arguments: tuple[str, ...], told: str
) -> None:
    outcome = thalweg("fork", *arguments)
    assert (outcome.status, outcome.out, canned.orders) == (2, "", [])
    assert told in outcome.err


@pytest.mark.parametrize(
    ("texts", "config"),
    [
        ([], {}),
        (["a=1", "b.c=null", "d/e=true"], {"a": 1, "b.c": None, "d.e": True}),
        (['x="a=b"', "y = [1]"], {"x": "a=b", "y": [1]}),
        (['m={"a": {"b": 1}, "c": {}}', "m.d=2"], {"m.a.b": 1, "m.c": {}, "m.d": 2}),
    ],
)
def test_config(texts: list[str], config: dict[str, Any]) -> None:
    assert parse_config(texts) == config


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["a=adam"], """For text: --config 'a="adam"'"""),
        (["a=NaN"], "JSON has no NaN"),
        (["=1"], "a part of its path is empty"),
        (["a..b=1"], "a part of its path is empty"),
        (["a=1", "a=2"], "a is given twice"),
        (["a=1", "a.b=2"], "one of a.b and a would be within the other"),
        (["a.b=1", "a=2"], "one of a and a.b would be within the other"),
    ],
)
def test_config_that_cannot_be_used(texts: list[str], told: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        parse_config(texts)
    assert told in str(caught.value)
