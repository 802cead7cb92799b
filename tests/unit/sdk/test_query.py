"""Reading from Python: what is asked of the server, and the tables that its answers become."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pytest

import thalweg.query as q
from tests.unit.sdk.cli.canned_server import CannedRun, CannedServer, Refusal, serve
from thalweg.errors import InputError, NotFoundError, ServerError, SettingError, UnreachableError
from thalweg.query.table import Column, Table

COLUMNS = [{"name": "config.lr", "kind": "any"}, {"name": "last(loss)", "kind": "number"}]


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> Iterator[CannedServer]:
    """A server that THALWEG_URL names, with a run r1 in project p."""
    with serve() as server:
        monkeypatch.setenv("THALWEG_URL", server.url)
        monkeypatch.delenv("THALWEG_PROJECT", raising=False)
        server.add("p", CannedRun("r1", metrics={"loss": {0.0: 4.0, 1.0: math.nan, 2.5: -math.inf}, "acc": {3.0: 1.0}}))
        yield server


@pytest.fixture(params=["arrow", "json"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Once with pyarrow, once as if it were not installed."""
    if request.param == "json":
        without(monkeypatch, "pyarrow")
    return str(request.param)


def without(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """From here on the library cannot be imported, as Python itself says it."""
    monkeypatch.setitem(sys.modules, library, None)


def run_line(run_id: str, *values: Any) -> dict[str, Any]:
    return {**CannedRun(run_id).line(), "branch": 0, "tags": ["a", "b"], "values": list(values)}


def answer_runs(canned: CannedServer, *runs: dict[str, Any], page_size: int = 1000) -> None:
    """Makes the server answer /runs/query, in pages."""

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        start = int(body["cursor"] or 0)
        end = start + min(body["limit"], page_size)
        return {"columns": COLUMNS, "runs": runs[start:end], "next_cursor": str(end) if end < len(runs) else None}

    canned.answers["POST /projects/p/runs/query"] = answer


def same(left: object, right: object) -> bool:
    """Equality for which NaN is NaN."""
    return repr(left) == repr(right)


# runs


def test_runs_have_their_fields_then_the_columns(canned: CannedServer) -> None:
    """Times are datetimes, numbers floats, whatever JSON makes of them."""
    answer_runs(canned, run_line("r1", 0.1, "NaN"), run_line("r2", "adam", "-Infinity"), run_line("r3", None, None))
    table = q.runs("p", filter="config.lr > 0", columns=["config.lr", "last(loss)"], sort="-last(loss)")
    assert canned.orders == [
        (
            "/projects/p/runs/query",
            {
                "filter": "config.lr > 0",
                "columns": ["config.lr", "last(loss)"],
                "sort": ["-last(loss)"],
                "limit": 1000,
                "cursor": None,
            },
        )
    ]
    names = ("run_id", "branch", "name", "status", "created_at", "last_seen_at", "ended_at", "tags")
    assert table.columns == (*names, "config.lr", "last(loss)")
    first = table.rows()[0]
    assert first["created_at"] == datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    assert first["tags"] == ["a", "b"]
    assert same(table["last(loss)"], [math.nan, -math.inf, None])
    assert table["config.lr"] == [0.1, "adam", None]


@pytest.mark.parametrize(("limit", "asked"), [(None, [1000, 1000, 1000]), (3, [3, 1]), (2, [2]), (9, [9, 7, 5])])
def test_pages_are_followed_up_to_the_limit(canned: CannedServer, limit: int | None, asked: list[int]) -> None:
    """`limit` is that of all pages together."""
    answer_runs(canned, *(run_line(f"r{number}", 1.0, 1.0) for number in range(5)), page_size=2)
    table = q.runs("p", limit=limit)
    assert table["run_id"] == [f"r{number}" for number in range(min(limit or 5, 5))]
    assert [order["limit"] for _, order in canned.orders] == asked


def test_groups_have_a_column_for_each_statistic(canned: CannedServer) -> None:
    """A column without statistics, as of text, is missing, over 0 runs."""
    told = {"mean": 0.5, "std": 0.1, "min": "-Infinity", "max": 0.6, "n": 2}
    canned.answers["POST /projects/p/runs/query"] = lambda body: {
        "columns": COLUMNS,
        "groups": [{"group": [3], "runs": 2, "values": [None, told]}],
        "next_cursor": None,
    }
    (row,) = q.runs("p", columns=["config.lr", "last(loss)"], group_by="config.seed")
    assert canned.orders[0][1]["group_by"] == ["config.seed"]
    assert (row["config.seed"], row["runs"]) == (3, 2)
    assert (row["last(loss).mean"], row["last(loss).min"], row["last(loss).n"]) == (0.5, -math.inf, 2)
    assert (row["config.lr.mean"], row["config.lr.n"]) == (None, 0)


def test_no_runs_keep_the_columns(canned: CannedServer) -> None:
    """An empty table has the columns of a full one."""
    answer_runs(canned)
    table = q.runs("p", columns=["config.lr", "last(loss)"])
    assert (len(table), table.rows(), table.columns[-2:]) == (0, [], ("config.lr", "last(loss)"))
    assert table.arrow().schema.field("last(loss)").type == pa.float64()


# series


def test_exact_series_in_long_form(canned: CannedServer, transport: str) -> None:
    """The rows are the same over Arrow and over JSON."""
    table = q.series("p", runs="r1", metrics=["loss", "acc"], points=None, with_time=True)
    assert table.columns == ("run_id", "branch", "name", "x", "value", "time")
    rows = table.rows()
    assert same([row["value"] for row in rows], [4.0, math.nan, -math.inf, 1.0])
    assert [(row["run_id"], row["branch"], row["name"], row["x"]) for row in rows[2:]] == [
        ("r1", 0, "loss", 2.5),
        ("r1", 0, "acc", 3.0),
    ]
    assert rows[0]["time"] == datetime(2023, 11, 14, 22, 13, 20, tzinfo=timezone.utc)


def test_buckets_in_long_form(canned: CannedServer, transport: str) -> None:
    """The rows are the same over Arrow and over JSON."""
    table = q.series("p", runs=["r1"], expressions="loss", points=1)
    (row,) = table.rows()
    assert table.columns == (*("run_id", "branch", "name", "x", "min", "max", "mean", "first", "last", "n", "nans"),)
    assert (row["min"], row["max"], row["first"], row["last"]) == (-math.inf, 4.0, 4.0, -math.inf)
    assert (row["n"], row["nans"]) == (3, 1)


@pytest.mark.parametrize("points", [None, 10])
@pytest.mark.parametrize("runs", ["r1", []])
def test_no_points_keep_the_columns(canned: CannedServer, transport: str, points: int | None, runs: Any) -> None:
    """Also where no run is named, of which the server is not asked."""
    table = q.series("p", runs=runs, metrics="none", points=points, by_rank=True)
    values = ["value"] if points is None else ["min", "max", "mean", "first", "last", "n", "nans"]
    assert table.columns == ("run_id", "branch", "name", "rank", "x", *values)
    assert (len(table), table.rows(), len(canned.series_asked)) == (0, [], 1 if runs else 0)


def test_only_what_is_given_is_asked(canned: CannedServer) -> None:
    """A place 0 is given; the defaults of the server stay its own."""
    q.series("p", runs="r1", metrics="loss", from_=0, points=None)
    assert canned.series_asked == [{"runs": ["r1"], "metrics": ["loss"], "x": "step", "from": 0, "points": None}]


def test_everything_is_asked_as_the_api_names_it(canned: CannedServer) -> None:
    """Times on the axis are seconds since the epoch there."""
    canned.answers["POST /projects/p/series"] = lambda body: {"series": []}
    q.series(
        "p",
        filter='has_tag("a")',
        expressions=["ema(loss, 0.9)", "f1"],
        x="time",
        from_=datetime(2026, 1, 1, tzinfo=timezone.utc),
        to=1.8e9,
        points=7,
        by_rank=True,
        with_time=True,
        group_by="config.seed",
    )
    assert canned.orders[0][1] == {
        "filter": 'has_tag("a")',
        "expressions": ["ema(loss, 0.9)", "f1"],
        "x": "time",
        "from": 1767225600.0,
        "to": 1.8e9,
        "points": 7,
        "by_rank": True,
        "with_time": True,
        "group_by": ["config.seed"],
    }


@pytest.mark.parametrize(
    ("runs", "asked"),
    [
        ("r1", ["r1"]),
        (("r1", 2), [{"run_id": "r1", "branch": 2}]),
        ({"run_id": "r1"}, [{"run_id": "r1"}]),
        (["r1", ("r2", 0)], ["r1", {"run_id": "r2", "branch": 0}]),
        (("r1", "r2"), ["r1", "r2"]),
        (
            Table([Column("run_id", "text", ["r1", "r1", "r2"]), Column("branch", "whole", [1, 1, 0])]),
            [{"run_id": "r1", "branch": 1}, {"run_id": "r2", "branch": 0}],
        ),
    ],
)
def test_runs_are_named_by_id_branch_or_table(canned: CannedServer, runs: Any, asked: list[Any]) -> None:
    """A table names its runs on the branches that it shows."""
    q.series("p", runs=runs, metrics="loss")
    assert canned.series_asked[0]["runs"] == asked


def test_grouped_series(canned: CannedServer) -> None:
    """What the runs of a group have in common is a column."""
    one = {"name": "loss", "x": [0, 1], "mean": [1.0, "NaN"], "std": [0, 0], "min": [1, 1], "max": [1, 1], "n": [2, 1]}
    canned.answers["POST /projects/p/series"] = lambda body: {
        "series": [{"group": {"config.seed": 7}, **one}, {"group": {"config.seed": None}, **one}]
    }
    table = q.series("p", filter="true", metrics="loss", group_by=["config.seed"])
    assert table.columns == ("config.seed", "name", "x", "mean", "std", "min", "max", "n")
    assert table["config.seed"] == [7, 7, None, None]
    assert same(table["mean"], [1.0, math.nan, 1.0, math.nan])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"runs": [3], "metrics": "loss"}, "cannot use 3 as a run"),
    ],
)
def test_orders_that_cannot_be_sent(canned: CannedServer, arguments: dict[str, Any], told: str) -> None:
    """They are refused before the server is asked."""
    with pytest.raises(InputError, match=told):
        q.series("p", **arguments)
    assert canned.asked == []


def test_a_stream_gives_exact_points_in_batches(canned: CannedServer) -> None:
    """As the server sends them: here two rows at once."""
    batches = list(q.stream("p", runs="r1", metrics="loss"))
    assert [batch.num_rows for batch in batches] == [2, 1]
    assert canned.series_asked[0]["points"] is None


def test_a_stream_without_points_is_empty(canned: CannedServer) -> None:
    """Whether there are no points, or no runs."""
    assert list(q.stream("p", runs="r1", metrics="none")) == []
    assert list(q.stream("p", runs=[], metrics="none")) == []


def test_what_is_no_arrow_stream_is_an_error_of_the_server(canned: CannedServer) -> None:
    """An old server may answer JSON whatever is asked for."""
    canned.answers["POST /projects/p/series"] = lambda body: {"series": []}
    with pytest.raises(ServerError, match="cannot read the points"):
        q.series("p", runs="r1", metrics="loss")


# tables


def test_a_table_becomes_one_of_arrow(canned: CannedServer) -> None:
    """Missing is null, and NaN is not; an attribute that differs in type is text."""
    answer_runs(canned, run_line("r1", 1, "NaN"), run_line("r2", "adam", None), run_line("r3", [1, 2], 1.0))
    table = q.runs("p", columns=["config.lr", "last(loss)"]).arrow()
    assert table.schema.field("created_at").type == pa.timestamp("us", "UTC")
    assert same(table.column("last(loss)").to_pylist(), [math.nan, None, 1.0])
    assert table.column("config.lr").to_pylist() == ["1", "adam", "[1, 2]"]
    assert table.column("tags").to_pylist() == [["a", "b"]] * 3


@pytest.mark.parametrize(("values", "kind"), [([1, 2], pa.int64()), ([1, 0.5], pa.float64()), ([True], pa.bool_())])
def test_attributes_of_one_type_keep_it(values: list[Any], kind: pa.DataType) -> None:
    """Whole numbers beside others are floats."""
    assert Table([Column("config.lr", "any", values)]).arrow().schema.field("config.lr").type == kind


def test_a_table_becomes_a_frame_of_pandas(canned: CannedServer, transport: str) -> None:
    """With and without pyarrow."""
    pytest.importorskip("pandas")
    answer_runs(canned, run_line("r1", 1, "NaN"), run_line("r2", 2, None))
    frame = q.runs("p", columns=["config.lr", "last(loss)"]).pandas()
    assert [str(frame[name].dtype) for name in ("config.lr", "last(loss)")] == ["int64", "float64"]
    assert frame["created_at"].dt.year.tolist() == [2026, 2026]
    points = q.series("p", runs="r1", metrics="loss", points=None).pandas()
    assert points["value"].tolist()[0] == 4.0
    assert points["name"].tolist() == ["loss"] * 3


def test_a_table_becomes_a_frame_of_polars(canned: CannedServer) -> None:
    """From the Arrow table."""
    pytest.importorskip("polars")
    assert q.series("p", runs="r1", metrics="loss", points=None).polars()["x"].to_list() == [0.0, 1.0, 2.5]


@pytest.mark.parametrize(("method", "library"), [("arrow", "pyarrow"), ("pandas", "pandas"), ("polars", "polars")])
def test_a_missing_library_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, method: str, library: str
) -> None:
    """Rows need none."""
    without(monkeypatch, library)
    table = Table([Column("a", "number", [1.0])])
    with pytest.raises(ImportError, match=rf"this needs {library}: pip install 'thalweg\[{method}\]'"):
        getattr(table, method)()
    assert table.rows() == [{"a": 1.0}]


def test_a_stream_needs_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is said at once, not with the first batch."""
    without(monkeypatch, "pyarrow")
    with pytest.raises(ImportError, match=r"pip install 'thalweg\[arrow\]'"):
        q.stream("p", runs="r1", metrics="loss")


def test_a_table_shows_its_first_rows(canned: CannedServer, transport: str) -> None:
    """Numbers to six digits, and how many rows there are."""
    canned.add("p", CannedRun("r2", metrics={"loss": {float(step): 1 / 3 for step in range(1200)}}))
    lines = repr(q.series("p", runs="r2", metrics="loss", points=None)).splitlines()
    assert lines[0] == "thalweg.query.Table: 1,200 rows"
    assert lines[1].split() == ["run_id", "branch", "name", "x", "value"]
    assert lines[2].split() == ["r2", "0", "loss", "0", "0.333333"]
    assert (len(lines), lines[-1]) == (13, "... 1,190 more rows")


def test_a_table_shows_no_control_characters_and_few_columns() -> None:
    """No name may move the cursor; the columns that are left out are named."""
    table = Table([Column(f"c{number}", "any", ["\x1b[2J", None]) for number in range(14)])
    text = repr(table)
    assert "\x1b" not in text
    assert text.splitlines()[-1] == "... 2 more columns: c12, c13"
    assert repr(Table()) == "thalweg.query.Table: 0 rows"


def test_a_column_that_is_not_there() -> None:
    """The error names those that are."""
    with pytest.raises(KeyError, match="there is no column 'b'; there are a"):
        Table([Column("a", "any", [1])])["b"]


# metrics


def test_metrics_of_a_run(canned: CannedServer) -> None:
    """NaN and infinities are floats."""
    table = q.metrics("p", "r1", prefix="lo")
    assert canned.asked == ["GET /api/v1/projects/p/runs/r1/metrics?limit=1000&prefix=lo"]
    (row,) = table
    assert (row["name"], row["last"], row["last_step"]) == ("loss", -math.inf, 2.5)
    assert row["last_time"].tzinfo is not None


def custom(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "expression": "a / b",
        "description": "",
        "kind": "series",
        "inputs": ["a", "b"],
        "created_at": "2026-01-02T03:04:05Z",
        "updated_at": "2026-01-02T03:04:05Z",
    }


def test_a_custom_metric_is_made_listed_and_removed(canned: CannedServer) -> None:
    """A name may have a slash."""
    canned.answers["PUT /projects/p/custom-metrics/val/f1"] = lambda body: custom("val/f1")
    canned.answers["GET /projects/p/custom-metrics"] = lambda query: {
        "custom_metrics": [custom("val/f1")],
        "next_cursor": None,
    }
    canned.answers["DELETE /projects/p/custom-metrics/val/f1"] = lambda body: None
    assert q.set_metric("p", "val/f1", "a / b", "of the talk")["inputs"] == ["a", "b"]
    assert canned.orders == [
        ("/projects/p/custom-metrics/val/f1", {"expression": "a / b", "description": "of the talk"})
    ]
    table = q.custom_metrics("p")
    assert (table["name"], table["inputs"], table["created_at"][0].year) == (["val/f1"], [["a", "b"]], 2026)
    q.delete_metric("p", "val/f1")
    assert canned.asked[-1] == "DELETE /api/v1/projects/p/custom-metrics/val%2Ff1"
    with pytest.raises(NotFoundError):
        q.delete_metric("p", "none")


def test_an_expression_is_checked(canned: CannedServer) -> None:
    """The answer is that of the server; runs are named only where they are given."""
    told = {"kind": "series", "inputs": ["loss"], "attributes": [], "custom_metrics": [], "cost": {"nodes": 1}}
    canned.answers["POST /projects/p/expressions/check"] = lambda body: told
    assert q.check("p", "loss") == told
    q.check("p", "loss", runs=["r1", ("r1", 2)], filter="true")
    assert [order for _, order in canned.orders] == [
        {"expression": "loss"},
        {"expression": "loss", "runs": ["r1"], "filter": "true"},
    ]


def test_an_error_in_an_expression_points_at_the_text(canned: CannedServer) -> None:
    """In the message, and as attributes for programs."""

    def refuse(body: dict[str, Any]) -> None:
        raise Refusal(
            400,
            code="bad_expression",
            message="unknown function 'smoth'; did you mean 'smooth'?",
            span=[4, 9],
            expression=body["expression"],
        )

    canned.answers["POST /projects/p/expressions/check"] = refuse
    with pytest.raises(ServerError) as caught:
        q.check("p", "1 + smoth(loss)")
    assert str(caught.value).splitlines() == [
        "unknown function 'smoth'; did you mean 'smooth'?",
        "  1 + smoth(loss)",
        "      ^^^^^",
    ]
    assert (caught.value.code, caught.value.span, caught.value.expression) == (
        "bad_expression",
        (4, 9),
        "1 + smoth(loss)",
    )


# settings


def test_project_and_token_come_from_the_environment(canned: CannedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As everywhere; arguments win."""
    monkeypatch.setenv("THALWEG_PROJECT", "p")
    answer_runs(canned, run_line("r1", 1.0, 1.0))
    assert q.runs()["run_id"] == ["r1"]
    with pytest.raises(NotFoundError):
        q.custom_metrics("other")
    with pytest.raises(SettingError):
        q.runs("a/b")
    with pytest.raises(UnreachableError):
        q.runs("p", url="http://127.0.0.1:1")


def test_importing_it_imports_no_library() -> None:
    """Nor does `import thalweg` import it."""
    script = (
        "import sys, json, thalweg; before = 'thalweg.query' in sys.modules; import thalweg.query\n"
        "heavy = ('pyarrow', 'pandas', 'polars', 'numpy', 'click', 'rich', 'grpc', 'thalweg_tracker')\n"
        "print(json.dumps([before, [name for name in heavy if name in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, []]
