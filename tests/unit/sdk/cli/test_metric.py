"""`thalweg metric`: custom metrics are made, listed, checked and removed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.sdk.cli.canned_server import CannedServer, Refusal
from tests.unit.sdk.cli.conftest import Command


def document(name: str = "f1", **fields: Any) -> dict[str, Any]:
    usual = {"name": name, "expression": "a / b", "description": "x\x1b[2J", "kind": "series", "inputs": ["a", "b"]}
    return usual | {"created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z"} | fields


def test_a_metric_is_made(canned: CannedServer, thalweg: Command) -> None:
    """The answer says what it is."""
    canned.answers["PUT /projects/p/custom-metrics/val/f1"] = lambda body: document("val/f1", kind="bool_series")
    outcome = thalweg("metric", "set", "val/f1", "a / b", "--description", "mine", "--project", "p")
    assert canned.orders == [("/projects/p/custom-metrics/val/f1", {"expression": "a / b", "description": "mine"})]
    assert (outcome.status, outcome.out) == (0, "")
    assert outcome.err == "val/f1 is a series of true and false of a, b.\n"
    assert thalweg("metric", "set", "val/f1", "a / b", "-p", "p", "--json").document["kind"] == "bool_series"


def test_the_project_comes_from_the_environment(
    canned: CannedServer, thalweg: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As everywhere; without one the command is used wrongly."""
    assert thalweg("metric", "list").status == 2
    monkeypatch.setenv("THALWEG_PROJECT", "p")
    canned.answers["GET /projects/p/custom-metrics"] = lambda query: {"custom_metrics": [], "next_cursor": None}
    outcome = thalweg("metric", "list")
    assert (outcome.status, outcome.out) == (0, "")
    assert outcome.err == "There are no custom metrics in project 'p'. `thalweg metric set` makes them.\n"


def test_metrics_are_listed(canned: CannedServer, thalweg: Command) -> None:
    """All pages, without control characters."""
    pages = {"": ([document("f1")], "1"), "1": ([document("f2", description="")], None)}

    def answer(query: dict[str, str]) -> dict[str, Any]:
        found, cursor = pages[query.get("cursor", "")]
        return {"custom_metrics": found, "next_cursor": cursor}

    canned.answers["GET /projects/p/custom-metrics"] = answer
    assert [line.split() for line in thalweg("metric", "list", "-p", "p").out.splitlines()] == [
        ["name", "kind", "expression", "description"],
        ["f1", "series", "a", "/", "b", "x\\x1b[2J"],
        ["f2", "series", "a", "/", "b"],
    ]
    listed = thalweg("metric", "list", "-p", "p", "--json").document
    assert (listed["project"], [one["name"] for one in listed["custom_metrics"]]) == ("p", ["f1", "f2"])


def test_a_metric_that_is_wrong_by_now_is_told(canned: CannedServer, thalweg: Command) -> None:
    """One that it uses was changed."""
    told = document(kind=None, problem="unknown function 'a'")
    canned.answers["GET /projects/p/custom-metrics"] = lambda query: {"custom_metrics": [told], "next_cursor": None}
    outcome = thalweg("metric", "list", "-p", "p")
    assert outcome.out.splitlines()[1].startswith("f1    wrong  a / b")
    assert outcome.err == "f1 is wrong by now: unknown function 'a'\n"


def test_a_metric_is_removed(canned: CannedServer, thalweg: Command) -> None:
    """One that is not there is an error."""
    canned.answers["DELETE /projects/p/custom-metrics/f1"] = lambda body: None
    assert thalweg("metric", "rm", "f1", "-p", "p").err == "Removed f1.\n"
    assert thalweg("metric", "rm", "f1", "-p", "p", "--json").document == {"project": "p", "removed": "f1"}
    assert thalweg("metric", "rm", "none", "-p", "p").status == 1


def test_an_expression_is_told_about(canned: CannedServer, thalweg: Command) -> None:
    """What it is, what it reads, and what it costs."""
    told = {
        "kind": "bool",
        "inputs": ["loss"],
        "attributes": ["config.lr"],
        "custom_metrics": [],
        "cost": {"nodes": 7, "depth": 3, "windows": 0, "points": None},
    }
    canned.answers["POST /projects/p/expressions/check"] = lambda body: told
    assert thalweg("metric", "check", "last(loss) > config.lr", "-p", "p").out.splitlines() == [
        "kind        bool",
        "metrics     loss",
        "attributes  config.lr",
        "cost        nodes 7  depth 3  windows 0",
    ]
    assert thalweg("metric", "check", "x", "-p", "p", "--json").document == told


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("check", "smoth(a)"), "POST /projects/p/expressions/check"),
        (("set", "f", "smoth(a)"), "PUT /projects/p/custom-metrics/f"),
    ],
)
def test_an_expression_that_is_wrong_is_underlined(
    canned: CannedServer, thalweg: Command, arguments: tuple[str, ...], path: str
) -> None:
    """The exit status is 1."""

    def refuse(body: dict[str, Any]) -> None:
        raise Refusal(
            400,
            code="bad_expression",
            message="unknown function 'smoth'",
            hint="Did you mean 'smooth'?",
            span=[0, 5],
            expression=body["expression"],
        )

    canned.answers[path] = refuse
    outcome = thalweg("metric", *arguments, "-p", "p")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.splitlines() == [
        "Error: unknown function 'smoth'. Did you mean 'smooth'?",
        "  smoth(a)",
        "  ^^^^^",
    ]


def test_a_minus_comes_after_two(canned: CannedServer, thalweg: Command) -> None:
    """As for all commands: what begins with a minus is an option else."""
    canned.answers["PUT /projects/p/custom-metrics/f"] = lambda body: document("f", expression=body["expression"])
    assert thalweg("metric", "set", "-p", "p", "--json", "--", "f", "-loss").document["expression"] == "-loss"


@pytest.mark.parametrize("command", ["set", "list", "rm", "check"])
def test_each_command_has_help_with_an_example(thalweg: Command, command: str) -> None:
    """`thalweg metric --help` has some, too."""
    assert f"Example: thalweg metric {command}" in thalweg("metric", command, "--help").out
