"""Every route of the HTTP API over the real engine: pages, statuses, attributes, series in both encodings."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.support import wire
from tests.support.tracker import INGEST_TOLD, Tracker, as_numbers, tracking
from thalweg.version import __version__
from thalweg.wire import policy
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.runs.branches import Branches

NASTY_NAMES = [
    "a",
    "a b",
    "a'b",
    'a"b',
    "a\\b",
    "a`b",
    "a/b/c",
    "a.b",
    "%",
    "_",
    "\t",
    "\n",
    "\0",
    "'; DROP TABLE points; --",
    "{x:String}",
    "größe",
    "\N{SNOWMAN}",
    "\N{PILE OF POO}",
    "Z",
    "~",
    "x" * 1024,
]


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracker]:
    """One database for all tests of this file: each takes runs, or a project, of its own."""
    with tracking(tmp_path_factory.mktemp("api") / "data") as running:
        yield running


def nan_safe(values: Any) -> list[Any]:
    """Such that NaN equals NaN."""
    return ["NaN" if isinstance(value, float) and math.isnan(value) else value for value in values]


# ---- health, projects, runs


def test_health_tells_the_ingest(tracker: Tracker) -> None:
    """Version, gRPC address and engine."""
    health = tracker.get("/health")
    assert (health["status"], health["version"], health["grpc"]) == ("ok", __version__, INGEST_TOLD)


def test_projects_are_walked_once_by_name(tracker: Tracker) -> None:
    """Every page size sees each project once, in the order of their bytes, with its number of runs."""
    names = ["walk a", "walk 'b'", 'walk "c"', "walk ü", "walk %", "walk \N{SNOWMAN}"]
    for number, name in enumerate(names):
        for run in range(number + 1):
            tracker.take(wire.hello(f"r{run}", project=name))
    for limit in (1, 2, 100):
        found = [one for one in tracker.walk("/projects", "projects", limit) if one["project"].startswith("walk ")]
        assert [(one["project"], one["runs"]) for one in found] == sorted(
            ((name, number + 1) for number, name in enumerate(names)), key=lambda pair: pair[0].encode()
        )


def test_runs_are_walked_once_newest_first(tracker: Tracker) -> None:
    """Runs that were created in the same microsecond too; none is skipped, none is there twice."""
    made = [(wire.START_US + number // 4, f"run '{number}\\%") for number in range(11)]
    for created_us, run_id in made:
        tracker.take(wire.hello(run_id, project="pages"), created_us=created_us)
    wanted = [run_id for _, run_id in sorted(made, reverse=True)]
    for limit in (1, 3, 10, 11, 12):
        assert [run["run_id"] for run in tracker.walk("/projects/pages/runs", "runs", limit)] == wanted
    assert tracker.get("/projects/nothing here/runs") == {"runs": [], "next_cursor": None}


def test_a_run_keeps_its_first_time(tracker: Tracker) -> None:
    """Another writer, or another server, that registers it later changes nothing."""
    tracker.take(wire.hello("first", project="created"), created_us=wire.START_US)
    with_new_memory = Tracker(tracker.engine, tracker.http)
    with_new_memory.take(wire.hello("first", project="created", writer=2), created_us=wire.START_US + 10**6)
    assert tracker.get("/projects/created/runs/first")["created_at"] == "2023-11-14T22:13:20Z"


FINISHED, FAILED = pb.WriterEnded.FINISHED, pb.WriterEnded.FAILED
KILLED, LOST = pb.WriterEnded.KILLED, pb.WriterEnded.LOST
ALIVE, SILENT = -1, -2  # heard of now, or long ago


@pytest.mark.parametrize(
    ("writers", "status"),  # writers: (rank, order of their start, how they ended)
    [
        ([(0, 0, ALIVE)], "running"),
        ([(0, 0, SILENT)], "lost"),
        ([(0, 0, FINISHED)], "finished"),
        ([(0, 0, FAILED)], "failed"),
        ([(0, 0, KILLED)], "killed"),
        ([(0, 0, LOST)], "lost"),
        ([(0, 0, FINISHED), (1, 0, FINISHED)], "finished"),
        ([(0, 0, FINISHED), (1, 0, ALIVE)], "running"),
        ([(0, 0, FINISHED), (1, 0, SILENT)], "lost"),
        ([(0, 0, FINISHED), (1, 0, FAILED)], "failed"),
        ([(0, 0, KILLED), (1, 0, FAILED)], "killed"),
        ([(0, 0, KILLED), (1, 0, LOST)], "lost"),
        ([(0, 0, LOST), (1, 0, ALIVE)], "running"),
        ([(0, 0, KILLED), (0, 1, ALIVE)], "running"),
        ([(0, 0, KILLED), (0, 1, FINISHED)], "finished"),
        ([(0, 0, SILENT), (0, 1, FINISHED)], "finished"),
        ([(0, 1, FINISHED), (0, 0, KILLED)], "finished"),
        ([(0, 0, KILLED), (1, 0, KILLED), (0, 1, FINISHED), (1, 1, FINISHED)], "finished"),
        ([], "running"),
    ],
)
def test_the_status_of_a_run(tracker: Tracker, writers: list[tuple[int, int, int]], status: str) -> None:
    """That of the latest writer of each rank, the worst of them over ranks; in the list and by itself."""
    run_id = f"status-{writers}"
    now = time.time_ns() // 1000
    created_us = now if not writers else wire.START_US
    tracker.take(wire.hello(run_id, project="status"), created_us=created_us)
    for number, (rank, order, how) in enumerate(writers):
        began = wire.START_US + 1000 * order
        events = [wire.started(began)]
        if how not in (ALIVE, SILENT):
            events.append(wire.ended(how, began + 500))  # type: ignore[arg-type]
        seen = now if how == ALIVE else now - int(1e6 * policy.LOST_AFTER_S) - 10**6
        tracker.take(wire.hello(run_id, number + 1, rank, "status"), wire.batch(1, events=events), seen_us=seen)
    run = tracker.get(f"/projects/status/runs/{run_id}")
    (line,) = [one for one in tracker.walk("/projects/status/runs", "runs", 100) if one["run_id"] == run_id]
    assert (run["status"], line["status"]) == (status, status)
    assert (run["ended_at"] is None) == (status in ("running", "lost"))
    assert len(run["health"]["writers"]) == len(writers)


def test_helpers_end_no_run(tracker: Tracker) -> None:
    """A writer that is not primary, such as a forked worker, has no say in the status."""
    tracker.take(wire.hello("helped", 1), wire.batch(1, events=[wire.started()]))
    helper = [wire.started(wire.START_US + 10, primary=False), wire.ended(FAILED, wire.START_US + 20)]
    tracker.take(wire.hello("helped", 2), wire.batch(1, events=helper))
    run = tracker.get("/projects/p/runs/helped")
    assert run["status"] == "running"
    assert [(one["primary"], one["outcome"]) for one in run["health"]["writers"]] == [(True, None), (False, "failed")]


def test_a_run_that_never_said_more_than_hello_is_lost_in_the_end(tracker: Tracker) -> None:
    """It does not run for ever because its writer's first word never came."""
    tracker.take(wire.hello("only-hello", project="mute"), created_us=wire.START_US)
    assert tracker.get("/projects/mute/runs/only-hello")["status"] == "lost"


def test_the_status_is_that_of_the_newest_branch(tracker: Tracker) -> None:
    """In the list and by itself: the branch that was made last, whatever the clocks of its writers say."""
    for number, (how, skew_us) in enumerate([(KILLED, -(10**9)), (FAILED, 5 * 10**6), (FINISHED, -5 * 10**6)]):
        began_us = time.time_ns() // 1000 + skew_us
        greeting = wire.hello("branches", number + 1, project="branches")
        if number:
            order = {"step": 1, "attempt": f"a{number}"}
            made = tracker.http.post("/projects/branches/runs/branches/rewind", json=order).json()
            assert made["branch"] == number
            greeting.origin.CopyFrom(pb.Origin(kind=pb.Origin.REWIND, attempt=f"a{number}", branch=number))
        greeting.began_us = began_us
        tracker.take(greeting, wire.batch(1, events=[wire.started(began_us), wire.ended(how, began_us + 1)]))
        run = tracker.get("/projects/branches/runs/branches")
        (line,) = tracker.get("/projects/branches/runs")["runs"]
        assert (run["branch"], run["status"], line["status"]) == (
            number,
            ("killed", "failed", "finished")[number],
            run["status"],
        )


def test_attributes_as_they_stand(tracker: Tracker) -> None:
    """Nested by their paths; the latest time wins, in any order of arrival; removed ones are gone."""
    late = wire.START_US + 100
    events = [
        wire.attributes(wire.START_US, config__a="1", config__b__c='"x"', config__b__d="[1, null]", config__gone="1"),
        wire.attributes(late, config__a="3", config__gone="", tags__new="true", tags__old="true", run__name='"é\\n"'),
        wire.attributes(wire.START_US + 50, config__a="2", run__name='"earlier"', run__notes='"note"'),
        wire.attributes(late + 1, tags__old="", env__host='"h"', config__b='"leaf"'),
    ]
    tracker.take(wire.hello("attributes"), *(wire.batch(n, events=[event]) for n, event in enumerate(events)))
    run = tracker.get("/projects/p/runs/attributes")
    assert run["config"] == {"a": 3, "b": {"": "leaf", "c": "x", "d": [1, None]}}
    assert (run["env"], run["tags"], run["name"], run["notes"]) == ({"host": "h"}, ["new"], "é\n", "note")
    assert run["lineage"] == [{"run_id": "attributes", "branch": 0, "upto": None}]


def test_health_adds_up_the_counters_of_all_writers(tracker: Tracker) -> None:
    """Of each writer the greatest count, whatever the order of arrival; over writers the sum."""
    for writer, counts in ((1, [{"logged": 5}, {"logged": 9, "accepted": 2}, {"accepted": 1}]), (2, [{"logged": 1}])):
        batches = [wire.batch(number, counters=count) for number, count in enumerate(counts)]
        tracker.take(wire.hello("counted", writer, rank=writer), *batches)
        for one in batches:  # each in a commit of its own, once more
            tracker.take(wire.hello("counted", writer, rank=writer), one)
    health = tracker.get("/projects/p/runs/counted")["health"]
    assert health["counters"] == {"logged": 10, "accepted": 2}
    assert sorted((one["rank"], one["counters"]["logged"]) for one in health["writers"]) == [(1, 9), (2, 1)]


def test_the_last_step_is_that_of_the_training(tracker: Tracker) -> None:
    """Metrics of the host go on when the training stands still; they do not count. No metric: null."""
    tracker.log("steps", "loss", {-3.0: 1, -2.5: 1})
    tracker.log("steps", "system/cpu", {100.0: 1})
    tracker.take(wire.hello("stepless"))
    assert tracker.get("/projects/p/runs/steps")["last_step"] == -2.5
    assert tracker.get("/projects/p/runs/stepless")["last_step"] is None


# ---- metrics


def test_metrics_are_walked_once_by_name(tracker: Tracker) -> None:
    """Names with quotes, slashes, control characters and emoji; every page size sees each once, in order of bytes."""
    tracker.take(wire.hello("names"), wire.batch(1, NASTY_NAMES, [1], [range(len(NASTY_NAMES))]))
    wanted = sorted(NASTY_NAMES, key=str.encode)
    for limit in (1, 7, len(NASTY_NAMES), 1000):
        found = tracker.walk("/projects/p/runs/names/metrics", "metrics", limit)
        assert [one["name"] for one in found] == wanted
        assert all(one["last"] == NASTY_NAMES.index(one["name"]) for one in found)
    series = tracker.series(["names"], NASTY_NAMES)
    assert [one["name"] for one in series] == NASTY_NAMES
    assert [one["value"] for one in series] == [[float(number)] for number in range(len(NASTY_NAMES))]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({"prefix": "train/"}, ["train/acc", "train/loss"]),
        ({"prefix": "t%"}, []),
        ({"prefix": "loss"}, ["loss%"]),
        ({"match": "loss"}, ["loss%", "train/loss", "val/loss"]),
        ({"match": "^(train|val)/loss$"}, ["train/loss", "val/loss"]),
        ({"match": "%"}, ["loss%"]),
        ({"match": "(?i)LOSS$"}, ["train/loss", "val/loss"]),
        ({"match": "' OR 1=1 --"}, []),
        ({"match": "\\"}, None),
        ({"match": "["}, None),
        ({"match": "(?P<"}, None),
        ({"match": "a{2,1}"}, None),
        ({"match": "acc", "prefix": "train/"}, ["train/acc"]),
        ({"match": ""}, ["loss%", "train/acc", "train/loss", "val/loss"]),
    ],
)
def test_metrics_by_prefix_and_regex(tracker: Tracker, query: dict[str, str], wanted: list[str] | None) -> None:
    """A prefix is a text, a regex is RE2; a bad one is 400 with a word."""
    names = ["train/loss", "train/acc", "val/loss", "loss%"]
    tracker.take(wire.hello("filter"), wire.batch(1, names, [1], [[1, 2, 3, 4]]))
    answer = tracker.http.get("/projects/p/runs/filter/metrics", params=query)
    if wanted is None:
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_regex")
    else:
        assert [one["name"] for one in answer.json()["metrics"]] == wanted


@pytest.mark.parametrize(
    ("points", "wanted"),  # wanted: first_step, last_step, last, min, argmin, max, argmax
    [
        ({1.0: 5.0}, (1, 1, 5, 5, 1, 5, 1)),
        ({1.0: 2.0, 2.0: 2.0, 3.0: 2.0}, (1, 3, 2, 2, 1, 2, 1)),
        ({3.0: 1.0, 1.0: 9.0, 2.0: -4.0}, (1, 3, 1, -4, 2, 9, 1)),
        ({-1.5: 1.0, 0.5: math.nan}, (-1.5, 0.5, math.nan, 1, -1.5, 1, -1.5)),
        ({1.0: math.nan, 2.0: math.inf, 3.0: 0.0}, (1, 3, 0, 0, 3, math.inf, 2)),
        ({1.0: math.nan, 2.0: math.inf}, (1, 2, math.inf, math.inf, 2, math.inf, 2)),
        ({1.0: math.nan, 2.0: -math.inf}, (1, 2, -math.inf, -math.inf, 2, -math.inf, 2)),
        ({1.0: math.nan, 2.0: math.nan}, (1, 2, math.nan, math.nan, math.nan, math.nan, math.nan)),
        ({1.0: -math.inf, 2.0: math.inf}, (1, 2, math.inf, -math.inf, 1, math.inf, 2)),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_what_is_known_of_a_metric(
    tracker: Tracker, points: dict[float, float], wanted: tuple[float, ...], apart: bool
) -> None:
    """NaN counts for the last value alone; of equal extremes the one at the smallest step; in one batch or in many."""
    run_id = f"known-{points}-{apart}"
    parts = [{step: value} for step, value in points.items()] if apart else [points]
    for part in parts:
        tracker.log(run_id, "m", part)
    (found,) = tracker.get(f"/projects/p/runs/{run_id}/metrics")["metrics"]
    told = as_numbers(found[key] for key in ("first_step", "last_step", "last", "min", "argmin", "max", "argmax"))
    assert nan_safe(told) == nan_safe(map(float, wanted))


# ---- series


def test_series_come_in_the_order_asked_for(tracker: Tracker) -> None:
    """Runs first, then metrics; repetitions count once; what is not there is left out."""
    for run_id in ("o2", "o1", "o3"):
        tracker.take(wire.hello(run_id), wire.batch(1, ["b", "a"], [1, 2], [[1, 2], [3, 4]]))
    tracker.log("o1", "only", {1.0: 1.0})
    asked = ["o3", "o1", "o3", "o2"], ["only", "b", "missing", "a", "b"]
    wanted = [("o3", "b"), ("o3", "a"), ("o1", "only"), ("o1", "b"), ("o1", "a"), ("o2", "b"), ("o2", "a")]
    for points in (None, 10):
        assert [(one["run_id"], one["name"]) for one in tracker.series(*asked, points=points)] == wanted
        table = tracker.arrow(*asked, points=points)
        assert set(zip(table["run_id"].to_pylist(), table["name"].to_pylist(), strict=True)) == set(wanted)


ODD_VALUES = [1.0, math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 0.1]


@pytest.mark.parametrize("points", [None, 3])
@pytest.mark.parametrize("by_rank", [False, True])
@pytest.mark.parametrize("with_time", [False, True])
def test_json_and_arrow_agree(tracker: Tracker, points: int | None, by_rank: bool, with_time: bool) -> None:
    """Same series, same columns, same values; NaN and infinities survive both."""
    names = ["one", "two"]
    rows = [[value, -value] for value in ODD_VALUES]
    if not tracker.get("/projects/p/runs", limit=1000)["runs"] or not _is_there(tracker, "agree"):
        tracker.take(wire.hello("agree", 1, 0), wire.batch(1, names, range(len(rows)), rows))
        tracker.take(wire.hello("agree", 2, 1), wire.batch(1, names[:1], range(3), [[1], [2], [3]]))
    more: dict[str, Any] = {"points": points, "by_rank": by_rank, "with_time": with_time}
    table = tracker.arrow(["agree"], names, **more)
    labels = ["run_id", "branch", "name", "rank"] if by_rank else ["run_id", "branch", "name"]
    columns = [name for name in table.schema.names if name not in labels]
    found: dict[tuple[Any, ...], dict[str, list[Any]]] = {}
    for row in table.to_pylist():
        series = found.setdefault(tuple(row[label] for label in labels), {column: [] for column in columns})
        for column in columns:
            value = row[column]
            series[column].append(round(value.timestamp() * 1e6) if column == "time" else value)
    told = {
        tuple(one[label] for label in labels): {column: as_numbers(one[column]) for column in columns}
        for one in tracker.series(["agree"], names, **more)
    }
    assert {key: {k: nan_safe(v) for k, v in one.items()} for key, one in told.items()} == {
        key: {k: nan_safe(v) for k, v in one.items()} for key, one in found.items()
    }
    assert set(columns) == (
        {"x", "min", "max", "mean", "first", "last", "n", "nans"}
        if points
        else {"x", "value", "time"} if with_time else {"x", "value"}
    )  # fmt: skip
    if points is None and by_rank:
        assert nan_safe(told["agree", 0, "one", 0]["value"]) == nan_safe(ODD_VALUES)


def _is_there(tracker: Tracker, run_id: str) -> bool:
    return tracker.http.get(f"/projects/p/runs/{run_id}").status_code == 200


@pytest.mark.parametrize("more", [{}, {"points": 5}, {"by_rank": True}, {"points": 5, "by_rank": True}])
def test_an_empty_answer_has_its_columns(tracker: Tracker, more: dict[str, Any]) -> None:
    """No such metric: an empty list in JSON; in Arrow the schema of a full answer, without rows."""
    if not _is_there(tracker, "empty"):
        tracker.log("empty", "there", {1.0: 1.0})
    assert tracker.series(["empty"], ["nothing"], **more) == []
    full, none = tracker.arrow(["empty"], ["there"], **more), tracker.arrow(["empty"], ["nothing"], **more)
    assert (full.num_rows, none.num_rows) == (1, 0)
    assert full.schema == none.schema


@pytest.mark.parametrize(
    ("begin", "end", "wanted"),
    [
        (None, None, [-2.0, -0.5, 0.0, 0.25, 3.0]),
        (-0.5, None, [-0.5, 0.0, 0.25, 3.0]),
        (None, 0, [-2.0, -0.5, 0.0]),
        (-0.5, 0.25, [-0.5, 0.0, 0.25]),
        (0.25, 0.25, [0.25]),
        (0.3, 2.9, []),
        (5, 1, []),
        (-1e308, 1e308, [-2.0, -0.5, 0.0, 0.25, 3.0]),
    ],
)
def test_a_part_of_a_series(tracker: Tracker, begin: float | None, end: float | None, wanted: list[float]) -> None:
    """`from` and `to` are included; exact and in buckets alike; a wide range costs no resolution."""
    if not _is_there(tracker, "part"):
        tracker.log("part", "m", {-2.0: 0, -0.5: 1, 0.0: 2, 0.25: 3, 3.0: 4})
    exact = tracker.series(["part"], ["m"], **{"from": begin, "to": end})
    assert [one["x"] for one in exact] == ([wanted] if wanted else [])
    buckets = tracker.series(["part"], ["m"], **{"from": begin, "to": end, "points": 1000})
    assert [one["x"] for one in buckets] == ([wanted] if wanted else [])


@pytest.mark.parametrize(
    "steps",
    [
        [0.0],
        [7.0, 7.0],
        [-1.7e308, 0.0, 1.7e308],
        [0.0, 5e-324],
        [1e-310, 2e-310, 3e-310],
        [1.0, 1.0 + 2**-52],
        [1e16, 1e16 + 2],
    ],
)
@pytest.mark.parametrize("points", [1, 2, 10_000])
def test_buckets_of_odd_steps(tracker: Tracker, steps: list[float], points: int) -> None:
    """One point, one step, ranges that overflow or underflow a double: every point is in a bucket, in order."""
    run_id = f"odd-{steps}"
    if not _is_there(tracker, run_id):
        values = [[float(number)] for number in range(len(steps))]
        tracker.take(wire.hello(run_id), wire.batch(1, ["m"], steps, values))
    (one,) = tracker.series([run_id], ["m"], points=points)
    assert sum(one["n"]) == len(set(steps))
    assert one["x"] == sorted(one["x"])
    assert max(one["max"]) == len(steps) - 1
    if points == 10_000 and max(steps) != 5e-324:  # there is no half of it
        assert one["x"] == sorted(set(steps))


def test_too_many_series_are_refused_in_both_encodings(tracker: Tracker) -> None:
    """More than 10,000 runs times metrics: 400 before the first byte. Exactly 10,000 are answered."""
    runs = [f"many-{number}" for number in range(101)]
    for run_id in runs:
        tracker.take(wire.hello(run_id))
    names = [f"m{number}" for number in range(100)]
    tracker.take(wire.hello(runs[7]), wire.batch(1, names, [1], [range(100)]))
    for accept in ("application/json", "application/vnd.apache.arrow.stream"):
        answer = tracker.http.post(
            "/projects/p/series", json={"runs": runs, "metrics": names}, headers={"Accept": accept}
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_many_series")
    assert len(tracker.series(runs[:100], names)) == 100


def test_a_missing_run_is_404_in_both_encodings(tracker: Tracker) -> None:
    """It is named in the message."""
    for accept in ("application/json", "application/vnd.apache.arrow.stream"):
        body = {"runs": ["nobody's"], "metrics": ["m"]}
        answer = tracker.http.post("/projects/p/series", json=body, headers={"Accept": accept})
        assert (answer.status_code, "nobody's" in answer.json()["error"]["message"]) == (404, True)


def test_the_mean_over_ranks_keeps_its_time(tracker: Tracker) -> None:
    """With `with_time` each step has the latest time of its ranks."""
    times = [wire.START_US + 1, wire.START_US + 9]
    for rank, time_us in enumerate(times):
        tracker.take(wire.hello("timed", rank + 1, rank), wire.batch(1, ["m"], [1], [[rank]], [time_us]))
    (one,) = tracker.series(["timed"], ["m"], with_time=True)
    assert (one["x"], one["value"], one["time"]) == ([1.0], [0.5], [max(times)])


def test_many_points_arrive_whole_in_arrow(tracker: Tracker) -> None:
    """An answer of several batches is one stream."""
    steps = np.arange(300_000, dtype=float)
    group = pb.FrameGroup(
        schema=1,
        steps=steps.tobytes(),
        times=(wire.START_US + np.arange(len(steps))).tobytes(),
        values=np.sqrt(steps).tobytes(),
    )
    batch = pb.Batch(sequence=1, schemas=[pb.Schema(id=1, names=["m"])], frames=[group])
    tracker.take(wire.hello("long"), batch)
    table = tracker.arrow(["long"], ["m"])
    assert np.array_equal(table["x"].to_numpy(), steps)
    assert np.array_equal(table["value"].to_numpy(), np.sqrt(steps))


def test_a_fork_whose_first_answer_got_lost_is_made_whole(tracker: Tracker) -> None:
    """The order again sets what it had not come to set, and undoes nothing that was set since."""
    project, now_us = f"/projects/{wire.PROJECT}", time.time_ns() // 1000
    tracker.log("lost-parent", "m", {0.0: 1.0, 5.0: 2.0})
    Branches(tracker.engine).fork(wire.PROJECT, "lost-child", "lost-parent", 0, 3.0, now_us)
    order = {"run_id": "lost-child", "step": 3, "config": {"lr": 0.1}, "name": "kid"}
    answer = tracker.http.post(f"{project}/runs/lost-parent/fork", json=order)
    assert (answer.status_code, answer.json()["config"]) == (201, {"lr": 0.1})
    event = pb.Event(time_us=now_us + 10**6)
    event.attributes.attributes.add(path="config.lr", json="0.7")
    tracker.take(wire.hello("lost-child", writer=2), pb.Batch(sequence=1, events=[event]))
    again = tracker.http.post(f"{project}/runs/lost-parent/fork", json=order)
    assert again.json()["config"] == {"lr": 0.7}
    run = tracker.get(f"{project}/runs/lost-child")
    assert (run["name"], run["config"], run["lineage"][0]["upto"]) == ("kid", {"lr": 0.7}, 3.0)
