"""`thalweg export`: the file, its rows, and what never happens to other files."""

from __future__ import annotations

import csv
import math
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.unit.sdk.cli.canned_server import CannedRun, CannedServer
from tests.unit.sdk.cli.conftest import Command
from thalweg.cli import export as export_module
from thalweg.cli import point_files

COLUMNS = ["run_id", "metric", "step", "time", "value"]


@pytest.fixture
def run(canned: CannedServer) -> CannedRun:
    metrics = {"loss": {0.0: 3.0, 0.5: 1.0, 1.0: math.nan}, "acc": {1.0: math.inf}, "a,b\n": {2.0: 1.0}}
    return canned.add("p", CannedRun("r1", metrics=metrics))


def test_parquet_has_the_exact_points_in_long_form(run: CannedRun, thalweg: Command, tmp_path: Path) -> None:
    outcome = thalweg("export", "r1", "-m", "loss")
    table = pa.parquet.read_table(tmp_path / "r1.parquet")
    assert table.schema.names == COLUMNS
    assert table.column("step").to_pylist() == [0.0, 0.5, 1.0]
    assert table.column("value").to_pylist()[:2] == [3.0, 1.0]
    assert math.isnan(table.column("value")[2].as_py())
    assert table.column("time")[1].as_py() == datetime(2023, 11, 14, 22, 13, 20, 500_000, timezone.utc)
    assert set(table.column("run_id").to_pylist()) == {"r1"}
    assert (outcome.status, outcome.out) == (0, "")
    assert outcome.err.startswith("Wrote 3 points of 1 metric to r1.parquet (")


def test_parquet_is_compressed_with_zstd(run: CannedRun, thalweg: Command, tmp_path: Path) -> None:
    thalweg("export", "r1")
    group = pa.parquet.read_metadata(tmp_path / "r1.parquet").row_group(0)
    assert {group.column(place).compression for place in range(group.num_columns)} == {"ZSTD"}


def test_small_batches_are_gathered_to_row_groups(
    canned: CannedServer, thalweg: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(point_files, "ROW_GROUP_ROWS", 10)
    canned.add("p", CannedRun("r1", metrics={"m": {float(step): 1.0 for step in range(25)}}))
    thalweg("export", "r1")
    found = pa.parquet.read_metadata(tmp_path / "r1.parquet")
    assert [found.row_group(place).num_rows for place in range(found.num_row_groups)] == [10, 10, 5]


def test_csv(run: CannedRun, thalweg: Command, tmp_path: Path) -> None:
    thalweg("export", "r1", "--format", "csv")
    with (tmp_path / "r1.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == COLUMNS
    assert [[row[1], row[2], row[4]] for row in rows[1:]] == [
        ["a,b\n", "2", "1"],
        ["acc", "1", "inf"],
        ["loss", "0", "3"],
        ["loss", "0.5", "1"],
        ["loss", "1", "nan"],
    ]


def test_by_rank_adds_a_column(run: CannedRun, thalweg: Command, tmp_path: Path) -> None:
    thalweg("export", "r1", "--by-rank", "-m", "acc", "-m", "loss")
    table = pa.parquet.read_table(tmp_path / "r1.parquet")
    assert table.schema.names == ["run_id", "metric", "rank", "step", "time", "value"]
    assert table.column("rank").to_pylist() == [0, 1, 0, 0, 0, 1, 1, 1]


def test_metrics_are_asked_for_in_pages(
    run: CannedRun, canned: CannedServer, thalweg: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "METRICS_PER_REQUEST", 2)
    assert thalweg("export", "r1", "--json").document["rows"] == 5
    assert [asked["metrics"] for asked in canned.series_asked] == [["a,b\n", "acc"], ["loss"]]
    assert all(asked["points"] is None for asked in canned.series_asked)


def test_json_tells_what_was_written(run: CannedRun, thalweg: Command, tmp_path: Path) -> None:
    document = thalweg("export", "p/r1", "-o", "x.csv", "--json").document
    size = (tmp_path / "x.csv").stat().st_size
    assert document == {
        "project": "p",
        "run_id": "r1",
        "branch": 0,
        "output": "x.csv",
        "format": "csv",  # by the name
        "metrics": 3,
        "rows": 5,
        "bytes": size,
    }


@pytest.mark.parametrize(("arguments", "branch"), [((), 3), (("--branch", "1"), 1)])
def test_points_are_of_one_branch_in_the_same_columns(
    run: CannedRun, canned: CannedServer, thalweg: Command, tmp_path: Path, arguments: tuple[str, ...], branch: int
) -> None:
    """The newest branch at the start, or the one asked for: a rewind meanwhile changes nothing."""
    run.fields["branch"] = 3
    assert thalweg("export", "p/r1", "-m", "loss", "--json", *arguments).document["branch"] == branch
    assert canned.series_asked[-1]["runs"] == [{"run_id": "r1", "branch": branch}]
    assert f"GET /api/v1/projects/p/runs/r1/metrics?limit=1000&branch={branch}" in canned.asked
    assert pa.parquet.read_table(tmp_path / "r1.parquet").schema.names == COLUMNS


def test_a_file_that_is_there_is_kept(run: CannedRun, thalweg: Command, tmp_path: Path) -> None:
    (tmp_path / "r1.parquet").write_text("mine")
    outcome = thalweg("export", "r1")
    assert (outcome.status, (tmp_path / "r1.parquet").read_text()) == (1, "mine")
    assert "--force" in outcome.err


def test_force_overwrites(run: CannedRun, thalweg: Command, tmp_path: Path) -> None:
    (tmp_path / "r1.parquet").write_text("mine")
    assert thalweg("export", "r1", "--force").status == 0
    assert pa.parquet.read_table(tmp_path / "r1.parquet").num_rows == 5


def test_an_error_on_the_way_leaves_no_file_and_keeps_the_old_one(
    run: CannedRun, canned: CannedServer, thalweg: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r1.parquet").write_text("mine")
    monkeypatch.setattr(export_module, "METRICS_PER_REQUEST", 1)
    series = canned.series

    def fails_later(project: str, query: dict[str, object]) -> object:
        canned.failing = 1  # the request after this one
        return series(project, query)

    monkeypatch.setattr(canned, "series", fails_later)
    outcome = thalweg("export", "r1", "--force")
    assert (outcome.status, outcome.err) == (1, "Error: the database is out of reach. Try again.\n")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"r1.parquet": "mine"}


def test_a_metric_that_the_run_does_not_have(run: CannedRun, thalweg: Command, tmp_path: Path) -> None:
    outcome = thalweg("export", "r1", "-m", "loss", "-m", "lose")
    assert outcome.status == 1
    assert "cannot export 'lose': run r1 has no such metric" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(run: CannedRun, thalweg: Command) -> None:
    outcome = thalweg("export", "r1", "-o", "no/x.csv")
    assert (outcome.status, outcome.err) == (1, "Error: cannot write no/x.csv: there is no folder no\n")


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_a_run_without_metrics_gives_a_file_without_rows(
    canned: CannedServer, thalweg: Command, tmp_path: Path, file_format: str
) -> None:
    canned.add("p", CannedRun("r1"))
    assert thalweg("export", "r1", "--format", file_format, "--json").document["rows"] == 0
    assert (tmp_path / f"r1.{file_format}").stat().st_size > 0
