"""`thalweg tail`: the last points, then new ones, each once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest

from tests.unit.sdk.cli.canned_server import CannedRun, CannedServer, branch_line, time_us
from tests.unit.sdk.cli.conftest import Command
from thalweg.api_client import ApiClient
from thalweg.cli.locate import locate
from thalweg.cli.tail import METRICS_MAX, Point, PointTail, follow_run
from thalweg.errors import NotFoundError


@pytest.fixture
def run(canned: CannedServer) -> CannedRun:
    metrics = {
        "loss": {float(step): 1 / (step + 1) for step in range(5000)},
        "val": {float(step): step / 1e4 for step in range(0, 5000, 1000)},
        "system/cpu": {1e9: 50.0},
    }
    return canned.add("p", CannedRun("r1", metrics=metrics))


def reader(canned: CannedServer, *metrics: str) -> PointTail:
    client = ApiClient(canned.url)
    return PointTail(client, locate(client, "r1", "p"), metrics)


def steps(points: list[Point]) -> list[tuple[str, float]]:
    return [(point.metric, point.step) for point in points]


def test_last_points_of_each_metric_by_step_without_the_systems(run: CannedRun, canned: CannedServer) -> None:
    assert steps(reader(canned).last(2)) == [("val", 3000), ("val", 4000), ("loss", 4998), ("loss", 4999)]


def test_few_more_points_are_read_than_are_asked_for(run: CannedRun, canned: CannedServer) -> None:
    reader(canned, "loss").last(7)
    assert canned.series_asked[-1]["from"] >= 4999 - 7 - 5000 / 1000


@pytest.mark.parametrize("points", [1, 3, 4999, 5000, 6000])
def test_any_number_of_points(run: CannedRun, canned: CannedServer, points: int) -> None:
    found = reader(canned, "loss").last(points)
    assert [point.step for point in found] == [float(step) for step in range(max(0, 5000 - points), 5000)]
    assert found[-1] == Point("loss", 4999.0, time_us(4999), 1 / 5000)


def test_no_points_still_marks_the_place(run: CannedRun, canned: CannedServer) -> None:
    tail = reader(canned, "loss")
    assert tail.last(0) == []
    assert tail.new() == []


def test_new_points_come_once(run: CannedRun, canned: CannedServer) -> None:
    tail = reader(canned)
    tail.last(1)
    assert tail.new() == []
    run.metrics["loss"] |= {5000.0: 0.1, 5001.0: 0.2}
    run.metrics["val"][5000.0] = 0.3
    assert steps(tail.new()) == [("loss", 5000), ("val", 5000), ("loss", 5001)]
    assert tail.new() == []


def test_metrics_that_stand_at_one_step_are_read_by_one_request(run: CannedRun, canned: CannedServer) -> None:
    run.metrics["acc"] = dict(run.metrics["loss"])
    tail = reader(canned)
    tail.last(1)
    canned.series_asked.clear()
    tail.new()
    assert sorted((asked["from"], *asked["metrics"]) for asked in canned.series_asked) == [
        (4000.0, "val"),
        (4999.0, "acc", "loss"),
    ]


def test_a_new_metric_is_taken_in_unless_metrics_were_chosen(run: CannedRun, canned: CannedServer) -> None:
    tail, chosen = reader(canned), reader(canned, "loss", "later")
    tail.last(1)
    chosen.last(1)
    run.metrics |= {"new": {1.0: 2.0}, "later": {3.0: 4.0}}
    assert steps(tail.new()) == [("new", 1), ("later", 3)]
    assert steps(chosen.new()) == [("later", 3)]


def test_more_metrics_than_the_limit_are_told(canned: CannedServer, thalweg: Command) -> None:
    names = [f"m{number:02d}" for number in range(METRICS_MAX + 1)]
    canned.add("p", CannedRun("r1", metrics={name: {0.0: 1.0} for name in names}))
    outcome = thalweg("tail", "r1")
    assert [name for name in names if name in outcome.out] == names[:METRICS_MAX]
    assert f"Only the first {METRICS_MAX} metrics" in outcome.err


def test_exactly_as_many_metrics_as_the_limit(canned: CannedServer, thalweg: Command) -> None:
    canned.add("p", CannedRun("r1", metrics={f"m{number:02d}": {0.0: 1.0} for number in range(METRICS_MAX)}))
    assert thalweg("tail", "r1").err == ""


def test_lines_have_a_step_each(run: CannedRun, thalweg: Command) -> None:
    run.metrics["val"][4999.0] = math.nan
    lines = thalweg("tail", "r1", "-n", "2").out.splitlines()
    assert [line.partition("  ")[2] for line in lines] == [
        "step 4000  val 0.4",
        "step 4998  loss 0.00020004",
        "step 4999  loss 0.0002  val NaN",
    ]


def test_json_is_a_line_a_point(run: CannedRun, thalweg: Command) -> None:
    run.metrics["val"] = {0.5: math.inf}
    lines = thalweg("tail", "r1", "-m", "val", "--json").out.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"metric": "val", "step": 0.5, "time": "2023-11-14T22:13:20.500000Z", "value": "Infinity"}
    ]


def waits(*actions: Callable[[], None]) -> tuple[Callable[[float], None], list[float]]:
    """A wait that takes no time, in which the next of these happens."""
    left, waited = list(actions), []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        left.pop(0)()

    return wait, waited


def test_following_ends_with_the_run_and_misses_nothing(run: CannedRun, canned: CannedServer) -> None:
    run.fields["status"] = "created"  # as a fork is before its training
    tail, emitted = reader(canned, "loss"), []
    tail.last(1)

    def logs() -> None:
        run.fields["status"] = "running"
        run.metrics["loss"][5000.0] = 1.0

    def ends() -> None:
        run.metrics["loss"][5001.0] = 1.0
        run.fields["status"] = "failed"

    wait, waited = waits(logs, ends)
    assert follow_run(tail, emitted.extend, wait) == "failed"
    assert steps(emitted) == [("loss", 5000), ("loss", 5001)]
    assert len(waited) == 2


@pytest.mark.parametrize(
    ("fork_step", "first", "told"), [(4990.0, 4991, "to step 4990"), ("-Infinity", 0, "to the start")]
)
def test_a_rewind_meanwhile_is_followed_from_where_it_begins(
    run: CannedRun,
    canned: CannedServer,
    capsys: pytest.CaptureFixture[str],
    fork_step: float | str,
    first: int,
    told: str,
) -> None:
    run.fields["status"] = "running"
    tail, emitted = reader(canned, "loss"), []
    tail.last(1)

    def rewinds() -> None:
        new = branch_line(1, "2026-01-03T00:00:00Z", ("r1", 0), kind="rewind", fork_step=fork_step)
        run.fields.update(branch=1, branches=[*run.document()["branches"], new], status="finished")

    wait, _ = waits(rewinds)
    follow_run(tail, emitted.extend, wait)
    assert steps(emitted) == [("loss", step) for step in range(first, 5000)]
    assert canned.series_asked[-1]["runs"] == [{"run_id": "r1", "branch": 1}]
    assert capsys.readouterr().err == f"The run was rewound {told}: branch 1 follows.\n"


def test_a_chosen_branch_is_kept(run: CannedRun, canned: CannedServer, thalweg: Command) -> None:
    run.fields["branch"] = 2
    thalweg("tail", "p/r1", "--branch", "1", "-m", "val", "--follow")
    assert {one["branch"] for asked in canned.series_asked for one in asked["runs"]} == {1}
    assert "GET /api/v1/projects/p/runs/r1?branch=1" in canned.asked


def test_a_server_that_is_away_is_waited_for_and_told_once(
    run: CannedRun, canned: CannedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    tail, emitted = reader(canned, "loss"), []
    tail.last(1)
    run.metrics["loss"][5000.0] = 1.0
    canned.failing = 2
    wait, waited = waits(lambda: None, lambda: None)
    assert follow_run(tail, emitted.extend, wait) == "finished"
    assert steps(emitted) == [("loss", 5000)]
    assert capsys.readouterr().err == "Waiting for the server: the database is out of reach. Try again.\n"
    assert len(waited) == 2


def test_a_run_that_is_gone_ends_following(run: CannedRun, canned: CannedServer) -> None:
    tail = reader(canned, "loss")
    canned.projects.clear()
    with pytest.raises(NotFoundError):
        follow_run(tail, lambda points: None, lambda seconds: None)


def test_a_run_without_metrics_prints_nothing(canned: CannedServer, thalweg: Command) -> None:
    canned.add("p", CannedRun("r1"))
    outcome = thalweg("tail", "r1", "--follow")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "The run is finished.\n")
