"""What the scripts of the language do not say: axes, buckets, groups, pages, forms of answers, and refusals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import wire
from tests.support.tracker import Tracker, as_numbers, tracking
from thalweg_tracker.api.encode import ARROW_STREAM

QUERY = f"/projects/{wire.PROJECT}/runs/query"
SERIES = f"/projects/{wire.PROJECT}/series"


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracker]:
    """Four runs whose `loss` has to be read in four ways: as it is, logged again, by two ranks, with NaN alone."""
    with tracking(tmp_path_factory.mktemp("asking") / "data") as tracker:
        tracker.log("plain", "loss", {0.0: 1.0, 1.0: 2.0, 2.0: 3.0})
        tracker.log("again", "loss", {0.0: 9.0, 1.0: 9.0, 2.0: 9.0}, writer=2)
        later = [wire.START_US + 100, wire.START_US + 101, wire.START_US + 102]
        tracker.take(wire.hello("again", 3), wire.batch(1, ["loss"], [0, 1, 2], [[3], [4], [5]], later))
        tracker.log("ranks", "loss", {0.0: 4.0, 1.0: 5.0, 2.0: 6.0}, writer=4, rank=0)
        tracker.log("ranks", "loss", {0.0: 6.0, 1.0: 7.0, 2.0: 8.0}, writer=5, rank=1)
        tracker.log("nothing", "loss", {0.0: math.nan}, writer=6)
        tracker.log("plain", "width", {0.0: 10.0, 2.0: 30.0}, writer=7)
        yield tracker


def refusal(tracker: Tracker, path: str, body: dict[str, Any], **headers: str) -> str:
    """The code of the error."""
    answer = tracker.http.post(path, json=body, headers=headers)
    assert answer.status_code == 400, answer.text
    return str(answer.json()["error"]["code"])


@pytest.mark.parametrize("points", [None, 3])
def test_a_group_is_one_series(tracker: Tracker, points: int | None) -> None:
    """However its runs have to be read, they are one series: the mean of each run at each step, NaN left out."""
    body = {"metrics": ["loss"], "filter": "true", "group_by": ["1 > 2"], "points": points}
    (group,) = tracker.http.post(SERIES, json=body).json()["series"]
    assert group["group"]["1 > 2"] is False
    assert group["x"] == [0.0, 1.0, 2.0]
    assert group["mean"] == pytest.approx([3.0, 4.0, 5.0])
    assert group["std"] == pytest.approx([math.sqrt(8 / 3)] * 3)
    assert (group["min"], group["max"]) == ([1.0, 2.0, 3.0], [5.0, 6.0, 7.0])
    assert group["n"] == [4, 3, 3]


@pytest.mark.parametrize(
    ("x", "wanted"),
    [
        ("step", [0.0, 1.0, 2.0]),
        ("relative_time", [0.0, 1e-6, 2e-6]),
        ("width", [10.0, 30.0]),
        ("fill(width) + 1", [11.0, 11.0, 31.0]),
    ],
)
def test_axes(tracker: Tracker, x: str, wanted: list[float]) -> None:
    """A series may stand over its steps, its times, or another series where both have a point."""
    (found,) = tracker.series(["plain"], ["loss"], x=x)
    assert found["x"] == pytest.approx(wanted, abs=1e-9)
    assert found["value"] == ([1.0, 3.0] if x == "width" else [1.0, 2.0, 3.0])


def test_buckets_of_an_expression(tracker: Tracker) -> None:
    """They say of its values what those of a logged metric say of its points."""
    (found,) = tracker.series(["plain"], [], expressions=["-loss"], points=2)
    assert (found["x"], found["n"]) == ([0.0, 1.0], [1, 2])
    assert (found["min"], found["max"], found["mean"]) == ([-1.0, -3.0], [-1.0, -2.0], [-1.0, -2.5])


def test_an_expression_in_arrow(tracker: Tracker) -> None:
    """The columns are those of a logged metric, its time is that of its points."""
    found = tracker.arrow(["plain"], ["loss"], expressions=["loss + width"], with_time=True)
    rows = [row for row in found.to_pylist() if row["name"] == "loss + width"]
    logged = {row["x"]: row["time"] for row in found.to_pylist() if row["name"] == "loss"}
    assert [(row["x"], row["value"]) for row in rows] == [(0.0, 11.0), (2.0, 33.0)]
    assert all(row["time"] >= logged[row["x"]] for row in rows)


def test_ranks_beside_their_mean(tracker: Tracker) -> None:
    """One expression may read a metric in several ways; a run where one of them has no point has none."""
    expressions = ["max_over_ranks(loss) - loss", "rank(loss, 1) - rank(loss, 0)", "loss + rank(width, 3)"]
    found = tracker.series(["plain", "ranks"], [], expressions=expressions)
    values = {(one["run_id"], one["name"]): one["value"] for one in found}
    assert values == {
        ("plain", expressions[0]): [0.0, 0.0, 0.0],
        ("ranks", expressions[0]): [1.0, 1.0, 1.0],
        ("ranks", expressions[1]): [2.0, 2.0, 2.0],
    }


@pytest.mark.parametrize("sort", ["last(loss)", "-last(loss)", "first(width)", "-run.id", "config.nowhere"])
def test_pages_of_a_table(tracker: Tracker, sort: str) -> None:
    """One run a page gives the order of one page with all of them; NaN, then null come last."""
    body = {"sort": [sort], "columns": [sort.removeprefix("-")]}
    whole = tracker.http.post(QUERY, json=body).json()["runs"]
    paged: list[dict[str, Any]] = []
    cursor = None
    while cursor is not None or not paged:
        page = tracker.http.post(QUERY, json={**body, "limit": 1, "cursor": cursor}).json()
        paged += page["runs"]
        cursor = page["next_cursor"]
    assert paged == whole
    assert len(whole) == 4
    if sort.endswith("last(loss)"):
        values = as_numbers(row["values"][0] for row in whole)
        numbers = values[:3]
        assert numbers == sorted(numbers, reverse=sort.startswith("-"))
        assert math.isnan(values[3])


def test_what_an_expression_takes(tracker: Tracker) -> None:
    """Checking tells the kind, what is read, and how many points lie behind it."""
    asked = {"expression": "ema(loss, 0.5) + width > config.lr"}
    found = tracker.http.post(f"/projects/{wire.PROJECT}/expressions/check", json=asked).json()
    assert found["kind"] == "bool_series"
    assert (found["inputs"], found["attributes"]) == (["loss", "width"], ["config.lr"])
    assert found["cost"]["windows"] == 1
    assert found["cost"]["points"] >= 15


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"expressions": ["max_over_ranks(loss)"], "by_rank": True}, "ranks_twice"),
        ({"expressions": ['if(has_tag("t"), loss, 0)']}, "not_in_series"),
        ({"expressions": ['if(status == "running", loss, 0)']}, "not_in_series"),
        ({}, "nothing_asked"),
    ],
)
def test_what_series_refuse(tracker: Tracker, body: dict[str, Any], code: str) -> None:
    """What has no meaning for a series is refused by name."""
    assert refusal(tracker, SERIES, {"runs": ["plain"], **body}) == code


def test_groups_come_as_json_only(tracker: Tracker) -> None:
    """Arrow has no place for what a group is."""
    body = {"filter": "true", "metrics": ["loss"], "group_by": ["run.id"]}
    assert refusal(tracker, SERIES, body, Accept=ARROW_STREAM) == "groups_in_json"
