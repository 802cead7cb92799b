"""`thalweg runs`: which runs are listed, and how."""

from __future__ import annotations

import pytest

from tests.unit.sdk.cli.canned_server import CannedRun, CannedServer
from tests.unit.sdk.cli.conftest import Command


def day(number: int) -> str:
    return f"2026-01-{number:02d}T00:00:00Z"


@pytest.fixture
def two_projects(canned: CannedServer) -> CannedServer:
    for project, days in {"old": [1, 2, 3], "new": [4, 6], "mixed": [2, 5]}.items():
        for number in days:
            canned.add(project, CannedRun(f"r{number}", day(number)))
    return canned


def test_runs_of_a_project_are_newest_first(two_projects: CannedServer, thalweg: Command) -> None:
    outcome = thalweg("runs", "old", "--json")
    assert [(run["project"], run["run_id"]) for run in outcome.document["runs"]] == [
        ("old", "r3"),
        ("old", "r2"),
        ("old", "r1"),
    ]


def test_the_project_comes_from_the_environment(
    two_projects: CannedServer, thalweg: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THALWEG_PROJECT", "mixed")
    assert [run["run_id"] for run in thalweg("runs", "--json").document["runs"]] == ["r5", "r2"]


def test_without_a_project_the_newest_of_all_are_listed(two_projects: CannedServer, thalweg: Command) -> None:
    found = thalweg("runs", "--json", "--limit", "3").document["runs"]
    assert [(run["project"], run["run_id"]) for run in found] == [("new", "r6"), ("mixed", "r5"), ("new", "r4")]


def test_projects_without_a_run_that_is_new_enough_are_not_asked(two_projects: CannedServer, thalweg: Command) -> None:
    thalweg("runs", "--limit", "3")
    assert not [line for line in two_projects.asked if "/old/" in line]


def test_pages_are_followed_up_to_the_limit(canned: CannedServer, thalweg: Command) -> None:
    canned.page_size = 2
    for number in range(1, 8):
        canned.add("p", CannedRun(f"r{number}", day(number)))
    assert [run["run_id"] for run in thalweg("runs", "p", "-n", "5", "--json").document["runs"]] == [
        f"r{number}" for number in (7, 6, 5, 4, 3)
    ]
    assert len(canned.asked) == 3


def test_a_table_has_a_line_a_run_and_no_control_characters(canned: CannedServer, thalweg: Command) -> None:
    canned.add("p", CannedRun("r1", fields={"name": "first\x1b[2J", "status": "failed", "tags": ["a", "[b]"]}))
    lines = thalweg("runs", "p").out.splitlines()
    assert [line.split() for line in lines[:1]] == [["run_id", "name", "status", "created", "duration", "tags"]]
    assert lines[1].startswith("r1      first\\x1b[2J  failed  2026-")
    assert lines[1].endswith("2h 00m  a, [b]")


def test_the_table_of_all_projects_names_them(canned: CannedServer, thalweg: Command) -> None:
    canned.add("p", CannedRun("r1"))
    assert thalweg("runs").out.split()[:2] == ["project", "run_id"]


@pytest.mark.parametrize(
    ("arguments", "told"), [((), "There are no runs yet."), (("p",), "There are no runs in project 'p'.")]
)
def test_no_runs_is_said_on_stderr(thalweg: Command, arguments: tuple[str, ...], told: str) -> None:
    outcome = thalweg("runs", *arguments)
    assert (outcome.status, outcome.out, outcome.err.strip()) == (0, "", told)


def test_no_runs_as_json(thalweg: Command) -> None:
    assert thalweg("runs", "--json").document == {"runs": []}


def test_expressions_choose_columns_and_order(canned: CannedServer, thalweg: Command) -> None:
    """They are the server's to compute; commas inside them separate nothing."""
    columns = [{"name": "config.lr", "kind": "any"}, {"name": "quantile(loss, 0.5)", "kind": "number"}]
    runs = [{**CannedRun("r1").line(), "branch": 0, "values": ["adam", 0.25]}]
    canned.answers["POST /projects/p/runs/query"] = lambda body: {"columns": columns, "runs": runs, "next_cursor": None}
    arguments = ("--filter", "config.lr > 0", "--columns", "config.lr,quantile(loss, 0.5)", "--sort", "-last(loss)")
    lines = thalweg("runs", "p", "-n", "7", *arguments).out.splitlines()
    assert canned.orders[0][1] == {
        "filter": "config.lr > 0",
        "columns": ["config.lr", "quantile(loss, 0.5)"],
        "sort": ["-last(loss)"],
        "limit": 7,
        "cursor": None,
    }
    assert lines[0].endswith("config.lr  quantile(loss, 0.5)")
    assert lines[1].split()[-2:] == ["adam", "0.25"]
    document = thalweg("runs", "p", *arguments, "--json").document
    assert document == {"runs": [{"project": "p", **runs[0]}], "columns": columns}


def test_expressions_need_a_project(thalweg: Command) -> None:
    """Custom metrics are a project's."""
    outcome = thalweg("runs", "--filter", "true")
    assert outcome.status == 2
    assert "name PROJECT" in outcome.err


def test_no_run_for_which_a_filter_is_true(canned: CannedServer, thalweg: Command) -> None:
    """It is not said that the project is empty."""
    canned.answers["POST /projects/p/runs/query"] = lambda body: {"columns": [], "runs": [], "next_cursor": None}
    assert thalweg("runs", "p", "--filter", "false").err == "There are no such runs in project 'p'.\n"
