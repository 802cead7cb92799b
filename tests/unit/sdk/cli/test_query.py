"""`thalweg query`: series as lines and pictures, numbers as tables, and what is asked for them."""

from __future__ import annotations

import csv
import io
import math
import sys
from typing import Any

import pytest

from tests.unit.sdk.cli.canned_server import CannedRun, CannedServer, Refusal
from tests.unit.sdk.cli.conftest import Command
from thalweg.cli.query import IDS_PER_FILTER, filter_of

VALUES = ("last(loss)", "config.lr")


@pytest.fixture
def server(canned: CannedServer) -> CannedServer:
    """Two runs of project p with a series; what is in VALUES is one value a run."""
    curve = {float(step): float(step) for step in range(8)}
    canned.add("p", CannedRun("r1", metrics={"loss": curve, "bad": {0.0: math.nan, 1.0: 2.0}}))
    canned.add("p", CannedRun("r2", metrics={"loss": {0.0: 1e-9}}))

    def check(body: dict[str, Any]) -> dict[str, Any]:
        text = body["expression"]
        if text == "smoth(loss)":
            raise Refusal(400, code="bad_expression", message="unknown function 'smoth'", span=[0, 5], expression=text)
        return {"kind": {"config.lr": "any"}.get(text, "number" if text in VALUES else "series")}

    def values(body: dict[str, Any]) -> dict[str, Any]:
        kinds = {"config.lr": "any"}
        columns = [{"name": text, "kind": kinds.get(text, "number")} for text in body["columns"]]
        if "group_by" in body:
            told = {"mean": 0.5, "std": 0.25, "min": 0, "max": 1, "n": 2}
            groups = [{"group": [7], "runs": 2, "values": [told] * len(columns)}]
            return {"columns": columns, "groups": groups, "next_cursor": None}
        row = {"config.lr": 0.1, "last(loss)": "NaN"}
        runs = [
            {**canned.projects["p"][place].line(), "branch": 0, "values": [row[text] for text in body["columns"]]}
            for place in (1, 0)
            if f'"r{place + 1}"' in body["filter"] or body["filter"] == "true"
        ]
        return {"columns": columns, "runs": runs, "next_cursor": None}

    canned.answers["POST /projects/p/expressions/check"] = check
    canned.answers["POST /projects/p/runs/query"] = values
    return canned


def asked_values(canned: CannedServer) -> list[dict[str, Any]]:
    return [body for path, body in canned.orders if path.endswith("/runs/query")]


def test_a_series_is_a_line(server: CannedServer, thalweg: Command) -> None:
    """With its numbers exact, although buckets are asked for, and its course."""
    lines = thalweg("query", "loss", "-p", "p", "--runs", "r1,r2").out.splitlines()
    assert lines[0].split() == ["name", "run", "n", "first", "last", "min", "max", "trend"]
    assert lines[1].split()[:7] == ["loss", "r1", "8", "0", "7", "0", "7"]
    assert "".join(lines[1].split()[7:]) == "▁▂▃▄▅▆▇█"
    assert lines[2].split() == ["loss", "r2", "1", "1e-09", "1e-09", "1e-09", "1e-09", "▅"]
    (asked,) = server.series_asked
    assert asked == {
        "runs": [{"run_id": "r1", "branch": 0}, {"run_id": "r2", "branch": 0}],
        "expressions": ["loss"],
        "x": "step",
        "points": 64,
    }


def test_nan_is_counted_in_a_column_of_its_own(server: CannedServer, thalweg: Command) -> None:
    """Which is there only where something stands in it."""
    lines = thalweg("query", "bad", "--runs", "p/r1", "--exact").out.splitlines()
    assert lines[0].split() == ["name", "run", "n", "nans", "first", "last", "min", "max", "trend"]
    assert lines[1].split()[:8] == ["bad", "r1", "2", "1", "nan", "2", "2", "2"]


def test_a_series_without_points_is_told(server: CannedServer, thalweg: Command) -> None:
    """A name with a slash, unquoted, is a division, of what nobody has logged."""
    outcome = thalweg("query", "loss", "train/loss", "-p", "p", "-r", "r1")
    assert len(outcome.out.splitlines()) == 2
    assert outcome.err == (
        "There are no points of train/loss in these runs. A metric of that name is written in backticks.\n"
    )


def test_runs_are_found_without_a_project(server: CannedServer, thalweg: Command) -> None:
    """As by the other commands; all in one project."""
    assert thalweg("query", "loss", "-r", "r1").status == 0
    server.add("other", CannedRun("r9"))
    outcome = thalweg("query", "loss", "-r", "r1", "-r", "other/r9")
    assert (outcome.status, outcome.out) == (2, "")
    assert "runs of several projects at once: other, p" in outcome.err


def test_a_run_that_is_not_there_is_told(server: CannedServer, thalweg: Command) -> None:
    """The server leaves its series out of the answer in silence."""
    outcome = thalweg("query", "loss", "-p", "p", "-r", "r1,none")
    assert (outcome.status, outcome.out) == (1, "")


def test_options_are_asked_as_the_api_names_them(server: CannedServer, thalweg: Command) -> None:
    """A filter goes to the server as it is."""
    server.answers["POST /projects/p/series"] = lambda body: {"series": []}
    outcome = thalweg(
        *("query", "loss", "acc", "-p", "p", "--filter", "config.lr > 1", "--x", "time", "--points", "9"),
        *("--by-rank", "--group-by", "config.seed,default(config.lr, 1)"),
    )
    assert server.orders[-1][1] == {
        "filter": "config.lr > 1",
        "expressions": ["loss", "acc"],
        "x": "time",
        "points": 9,
        "by_rank": True,
        "group_by": ["config.seed", "default(config.lr, 1)"],
    }
    told = "There are no points of loss in these runs.\nThere are no points of acc in these runs.\n"
    assert (outcome.out, outcome.err) == ("", told)


def test_expressions_may_name_their_runs(server: CannedServer, thalweg: Command) -> None:
    """Then no runs are asked for."""
    server.answers["POST /projects/p/series"] = lambda body: {"series": []}
    thalweg("query", 'run("r1", loss)', "-p", "p")
    assert server.orders[-1][1] == {"expressions": ['run("r1", loss)'], "x": "step", "points": 64}


def test_an_old_branch(server: CannedServer, thalweg: Command) -> None:
    """Of series only: values of runs are those of the newest branch."""
    server.projects["p"][0].fields["branches"] = [{"branch": 0}, {"branch": 1}]
    assert thalweg("query", "loss", "-r", "p/r1", "--branch", "0").status == 0
    assert server.series_asked[0]["runs"] == [{"run_id": "r1", "branch": 0}]
    outcome = thalweg("query", "last(loss)", "-r", "p/r1", "--branch", "0")
    assert outcome.status == 2
    assert "cannot compute values of old branches" in outcome.err


def test_a_grouped_series_is_a_line_a_group(server: CannedServer, thalweg: Command) -> None:
    """With the greatest number of runs at a step."""
    one = {"name": "loss", "x": [0, 1], "mean": [1, 3], "std": [0, 0], "min": [1, 2], "max": [1, 4], "n": [3, 2]}
    server.answers["POST /projects/p/series"] = lambda body: {
        "series": [{"group": {"config.seed": 7}, **one}, {"group": {"config.seed": None}, **one}]
    }
    lines = thalweg("query", "loss", "-p", "p", "-f", "true", "-g", "config.seed").out.splitlines()
    assert lines[0].split() == ["name", "config.seed", "runs", "first", "last", "min", "max", "trend"]
    assert lines[1].split()[:7] == ["loss", "7", "3", "1", "3", "1", "4"]


def test_ranks_have_a_column(server: CannedServer, thalweg: Command) -> None:
    """Where they are asked for."""
    one = {"run_id": "r1", "branch": 2, "name": "loss", "rank": 3, "x": [0], "value": [1]}
    server.answers["POST /projects/p/series"] = lambda body: {"series": [one]}
    lines = thalweg("query", "loss", "-r", "p/r1", "--by-rank", "--exact").out.splitlines()
    assert lines[0].split()[:3] == ["name", "run", "rank"]
    assert lines[1].startswith("loss  r1 (branch 2)     3  1")


def test_values_are_a_table_of_runs(server: CannedServer, thalweg: Command) -> None:
    """Runs that are named come in that order, whatever the server's is."""
    lines = thalweg("query", *VALUES, "-p", "p", "-r", "r1,r2").out.splitlines()
    assert lines[0].split() == ["run_id", "name", "status", "last(loss)", "config.lr"]
    assert [line.split() for line in lines[1:]] == [["r1", "finished", "NaN", "0.1"], ["r2", "finished", "NaN", "0.1"]]
    (asked,) = asked_values(server)
    assert (asked["filter"], asked["columns"]) == ('run.id == "r1" or run.id == "r2"', list(VALUES))


def test_values_of_filtered_runs_come_as_the_server_orders_them(server: CannedServer, thalweg: Command) -> None:
    """Newest first."""
    document = thalweg("query", "config.lr", "-p", "p", "-f", "true", "--json").document
    assert [run["run_id"] for run in document["runs"]] == ["r2", "r1"]
    assert document["columns"] == [{"name": "config.lr", "kind": "any"}]


def test_many_runs_are_asked_for_in_parts(server: CannedServer, thalweg: Command) -> None:
    """An expression has its limits of length and depth."""
    names = [f"r{number}" for number in range(1, IDS_PER_FILTER + 2)]
    for name in names[2:]:
        server.add("p", CannedRun(name))
    thalweg("query", "config.lr", "-p", "p", "-r", ",".join(names))
    assert [asked["filter"].count(" or ") for asked in asked_values(server)] == [IDS_PER_FILTER - 1, 0]
    assert len(filter_of(["x" * 128] * IDS_PER_FILTER)) <= 4096


def test_ids_are_quoted() -> None:
    """Whatever characters they have."""
    assert filter_of(['a"b\\c']) == 'run.id == "a\\"b\\\\c"'


def test_grouped_values(server: CannedServer, thalweg: Command) -> None:
    """The mean, the standard deviation, and of how many runs."""
    lines = thalweg("query", "last(loss)", "-p", "p", "-f", "true", "-g", "config.seed").out.splitlines()
    assert [line.split() for line in lines] == [
        ["config.seed", "runs", "last(loss)"],
        ["7", "2", "0.5", "±", "0.25", "(n=2)"],
    ]


def test_series_and_values_may_be_asked_together(server: CannedServer, thalweg: Command) -> None:
    """One document has both."""
    document = thalweg("query", "loss", "config.lr", "-p", "p", "-r", "r1", "--json").document
    assert [one["name"] for one in document["series"]] == ["loss"]
    assert [run["values"] for run in document["runs"]] == [[0.1]]
    assert server.series_asked[0]["points"] == 1000
    text = thalweg("query", "loss", "config.lr", "-p", "p", "-r", "r1").out
    assert "trend" in text
    assert "run_id" in text


def test_csv_of_series_is_in_long_form(server: CannedServer, thalweg: Command) -> None:
    """NaN as text that every reader of CSV takes."""
    outcome = thalweg("query", "bad", "-p", "p", "-r", "r1", "--csv", "--exact")
    assert list(csv.reader(io.StringIO(outcome.out))) == [
        ["run_id", "branch", "name", "x", "value"],
        ["r1", "0", "bad", "0.0", "nan"],
        ["r1", "0", "bad", "1.0", "2.0"],
    ]


def test_csv_of_values(server: CannedServer, thalweg: Command) -> None:
    """With the fields of the runs."""
    rows = list(csv.DictReader(io.StringIO(thalweg("query", *VALUES, "-p", "p", "-r", "r1", "--csv").out)))
    assert [(row["run_id"], row["created_at"], row["last(loss)"], row["config.lr"]) for row in rows] == [
        ("r1", "2026-01-02T03:04:05+00:00", "nan", "0.1")
    ]


def test_csv_of_groups(server: CannedServer, thalweg: Command) -> None:
    """A column for each statistic."""
    out = thalweg("query", "last(loss)", "-p", "p", "-f", "true", "-g", "config.seed", "--csv").out
    assert out.splitlines() == [
        "config.seed,runs,last(loss).mean,last(loss).std,last(loss).min,last(loss).max,last(loss).n",
        "7,2,0.5,0.25,0,1,2",
    ]


def test_a_picture_stands_above_the_table(server: CannedServer, thalweg: Command) -> None:
    """Several series have letters, which the table explains."""
    pytest.importorskip("plotext")
    out = thalweg("query", "loss", "bad", "-p", "p", "-r", "r1", "--plot").out
    picture, _, table = out.partition("name")
    assert "step" in picture
    assert {"a", "b"} <= set(picture)
    assert [line.split()[:2] for line in table.splitlines()[1:]] == [["a", "loss"], ["b", "bad"]]
    single = thalweg("query", "loss", "-p", "p", "-r", "r1", "--plot").out
    assert "⠉" in single or "⠒" in single or "⡠" in single, single
    assert single.splitlines()[-1].startswith("loss")


@pytest.mark.parametrize("values", [{0.0: math.nan}, {0.0: 1.0}, {0.0: math.inf, 1.0: 1.0}, {0.0: 1e300, 1.0: -1e300}])
def test_anything_can_be_drawn(server: CannedServer, thalweg: Command, values: dict[float, float]) -> None:
    """What is not finite has no place in a picture."""
    pytest.importorskip("plotext")
    server.add("p", CannedRun("odd", metrics={"loss": values}))
    assert thalweg("query", "loss", "-p", "p", "-r", "odd", "--plot").status == 0


def test_without_plotext_the_command_is_told(
    server: CannedServer, thalweg: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is asked."""
    monkeypatch.setitem(sys.modules, "plotext", None)
    outcome = thalweg("query", "loss", "-p", "p", "-r", "r1", "--plot")
    assert (outcome.status, server.asked) == (1, [])
    assert outcome.err.endswith("It needs: pip install 'thalweg[plot]'\n")


def test_an_expression_that_is_wrong_is_underlined(server: CannedServer, thalweg: Command) -> None:
    """Nothing is printed on stdout."""
    outcome = thalweg("query", "loss", "smoth(loss)", "-p", "p", "-r", "r1")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.splitlines() == ["Error: unknown function 'smoth'", "  smoth(loss)", "  ^^^^^"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("config.lr", "-p", "p"), "of which runs is 'config.lr' asked?"),
        (("loss",), "name one, by --project or THALWEG_PROJECT"),
        (("loss", "-p", "p", "-r", "r1", "-f", "true"), "cannot use --runs with --filter"),
        (("loss", "-f", "true"), "name one, by --project or THALWEG_PROJECT"),
        (("loss", "-p", "p", "-f", "true", "--branch", "1"), "cannot use --branch without --runs"),
        (("loss", "-p", "p", "-r", "r1", "--exact", "--points", "3"), "cannot use --points with --exact"),
        (("loss", "-p", "p", "-r", "r1", "--csv", "--json"), "choose one"),
        (("loss", "config.lr", "-p", "p", "-r", "r1", "--csv"), "'loss' is a series, 'config.lr' a value a run"),
    ],
)
def test_what_does_not_go_together(server: CannedServer, thalweg: Command, arguments: Any, told: str) -> None:
    """It is a wrong use of the command, told with the way out."""
    outcome = thalweg("query", *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert told in outcome.err


def test_values_cannot_be_drawn(server: CannedServer, thalweg: Command) -> None:
    """One value a run is no curve."""
    pytest.importorskip("plotext")
    outcome = thalweg("query", "config.lr", "-p", "p", "-r", "r1", "--plot")
    assert outcome.status == 2
    assert "cannot draw 'config.lr'" in outcome.err
