"""Deleted runs: hidden at once, brought back whole, purged when nobody sees them, not begun anew by accident."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support import archive, wire
from tests.support.checkpoints import forked
from tests.support.engines import on_clusters_too
from tests.support.tracker import Tracker
from thalweg_tracker.care.deletion import Wish, delete_project, delete_run, undelete_run, utc_now
from thalweg_tracker.care.keeper import Keeper
from thalweg_tracker.care.purge import SETTLE_S, due, purge, purge_projects
from thalweg_tracker.care.retention import apply_retentions, read_retention, set_retention, silent_runs
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import NotFoundError, RejectedError
from thalweg_tracker.ingest.registry import Registry
from thalweg_tracker.model.keys import run_key
from thalweg_tracker.model.settings import Store
from thalweg_tracker.runs.deletions import list_deletions

pytestmark = on_clusters_too

PROJECT = archive.PROJECT
WEEK = timedelta(days=7, seconds=1)
TABLES = ("points", "series_stats", "run_metrics", "attributes", "checkpoints", "writers", "branches")


@pytest.fixture
def tracker(store: Store) -> Iterator[Tracker]:
    """A database with something of everything."""
    with archive.tracker_on(store) as tracker:
        archive.fill(tracker)
        yield tracker


def delete(tracker: Tracker, run_id: str, **query: Any) -> Any:
    answer = tracker.http.delete(f"/projects/{PROJECT}/runs/{run_id}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(tracker: Tracker, method: str, path: str, **more: Any) -> tuple[int, str]:
    answer = tracker.http.request(method, path, **more)
    assert answer.status_code >= 400, answer.text
    return answer.status_code, answer.json()["error"]["code"]


def listed(tracker: Tracker) -> set[str]:
    return {one["run_id"] for one in tracker.get(f"/projects/{PROJECT}/runs")["runs"]}


def purge_all(engine: Engine, now: datetime) -> list[str]:
    """Purges what is due at a time; returns which runs that were."""
    purged = []
    for project, some in due(engine, now).items():
        purge(engine, project, some, now, threading.Event())
        purged += [one.run_id for one in some]
    purge_projects(engine, now, threading.Event())
    return sorted(purged)


def rows_of(engine: Engine, table: str, run_id: str) -> int:
    keys = [run_key(PROJECT, run_id, branch) for branch in range(3)]
    sql = f"SELECT count() AS n FROM {table} WHERE run IN {{keys:Array(UInt64)}}"
    count: int = engine.query(sql, {"keys": keys})["n"][0].as_py()
    return count


def test_a_deleted_run_vanishes_and_comes_back_whole(tracker: Tracker) -> None:
    """From lists, tables, trees, and whatever names it; what continues it answers as before; and back again."""
    before = archive.ask_all(tracker.http)
    answer = delete(tracker, "child")
    assert [one["run_id"] for one in answer["runs"]] == ["child"]
    assert answer["waits_for"] == ["rewound"]
    path = f"/projects/{PROJECT}/runs/child"
    for rest in ("", "/metrics", "/lineage", "/checkpoints"):
        assert refusal(tracker, "GET", path + rest) == (404, "run_not_found")
    body = {"runs": ["child"], "metrics": ["loss"]}
    assert refusal(tracker, "POST", f"/projects/{PROJECT}/series", json=body) == (404, "run_not_found")
    assert refusal(tracker, "GET", f"/projects/{PROJECT}/live?runs=child") == (404, "run_not_found")
    assert listed(tracker) == {"root", "rewound", "ranks", "odd"}
    table = tracker.http.post(f"/projects/{PROJECT}/runs/query", json={"columns": ["count(loss)"]}).json()
    assert {row["run_id"] for row in table["runs"]} == listed(tracker)
    assert "child" not in {one["run_id"] for one in tracker.get(f"/projects/{PROJECT}/lineage")["nodes"]}
    assert tracker.get(f"/projects/{PROJECT}/runs/root/lineage")["children"] == []
    assert [one["run_id"] for one in tracker.get(f"/projects/{PROJECT}/deleted")["runs"]] == ["child"]
    (series,) = tracker.series(["rewound"], ["loss"])
    assert series["x"] == [float(step) for step in range(150)]

    answer = tracker.http.post(f"{path}/undelete")
    assert answer.json() == {"run_id": "child", "is_empty": False}
    assert archive.differences(before, archive.ask_all(tracker.http)) == {}
    assert tracker.get(f"/projects/{PROJECT}/deleted")["runs"] == []


def test_nothing_begins_a_deleted_run_anew(tracker: Tracker) -> None:
    """Neither a writer that wrote before, nor a new one, nor whoever forks or rewinds; a fork of it is refused, too."""
    delete(tracker, "odd")
    for writer in (20, 77):
        with pytest.raises(
            RejectedError, match=r"it was deleted at .* `thalweg undelete p/odd` brings it back"
        ) as caught:
            tracker.take(wire.hello("odd", writer), wire.batch(1, ["loss"], [9], [[9.0]]))
        assert caught.value.code == "run_deleted"
    path = f"/projects/{PROJECT}/runs"
    order = {"step": 5.0, "run_id": "odd"}
    assert refusal(tracker, "POST", f"{path}/root/fork", json=order) == (400, "run_deleted")
    order = {"step": 5.0, "attempt": "a"}
    assert refusal(tracker, "POST", f"{path}/odd/rewind", json=order) == (400, "run_deleted")
    assert refusal(tracker, "POST", f"{path}/odd/fork", json={"step": 2.0}) == (404, "run_not_found")
    tracker.http.post(f"{path}/odd/undelete")
    (series,) = tracker.series(["odd"], ["loss"])
    assert series["x"] == [0.5, 1, 2, 3]


def test_data_are_kept_until_nobody_sees_them(tracker: Tracker) -> None:
    """Not before their time; of a run with forks not before these are gone; then all of it, and nothing else."""
    engine, now = tracker.engine, utc_now()
    delete_run(engine, PROJECT, "root", Wish(), now)
    delete_run(engine, PROJECT, "odd", Wish(), now)
    assert due(engine, now + timedelta(days=6)) == {}
    assert purge_all(engine, now + WEEK) == ["odd"]
    assert {table: rows_of(engine, table, "odd") for table in TABLES} == dict.fromkeys(TABLES, 0)
    assert rows_of(engine, "points", "root") > 0
    (series,) = tracker.series(["child"], ["loss"])
    assert series["x"] == [float(step) for step in range(130)]

    found = delete_run(engine, PROJECT, "child", Wish(with_descendants=True), now)
    assert [one.run_id for one in found.runs] == ["child", "rewound"]
    ranks = tracker.series(["ranks"], ["loss"])
    assert purge_all(engine, now + WEEK) == ["child", "rewound", "root"]
    for run_id in ("root", "child", "rewound"):
        assert {table: rows_of(engine, table, run_id) for table in TABLES} == dict.fromkeys(TABLES, 0)
    assert tracker.series(["ranks"], ["loss"]) == ranks
    assert listed(tracker) == {"ranks"}


def test_a_purged_run_stays_gone_until_its_id_is_freed(tracker: Tracker) -> None:
    """A late writer is refused then too; after `undelete` the id begins from nothing."""
    engine, now = tracker.engine, utc_now()
    delete_run(engine, PROJECT, "odd", Wish(None), now - timedelta(seconds=SETTLE_S))
    assert purge_all(engine, now) == ["odd"]
    assert [one.state for one in list_deletions(engine, PROJECT, ["purged"])] == ["purged"]
    with pytest.raises(RejectedError, match="choose another run id"):
        tracker.take(wire.hello("odd", 20), wire.batch(1, ["loss"], [9], [[9.0]]))
    with pytest.raises(RejectedError, match="nothing is left to delete"):
        delete_run(engine, PROJECT, "odd", Wish(), now)
    assert purge_all(engine, now) == []
    assert undelete_run(engine, PROJECT, "odd", now).state == "purged"
    tracker.registry = Registry(engine)  # as the ingest forgets what it registered
    tracker.take(wire.hello("odd", 20), wire.batch(1, ["loss"], [9], [[9.0]], events=[wire.started()]))
    (series,) = tracker.series(["odd"], ["loss"])
    assert (series["x"], series["value"]) == ([9], [9])


def test_a_writer_is_cut_off_before_its_run_is_purged(tracker: Tracker) -> None:
    """What is to be purged at once waits until no process takes records for it any more."""
    now = utc_now()
    delete_run(tracker.engine, PROJECT, "odd", Wish(None), now)
    assert due(tracker.engine, now + timedelta(seconds=SETTLE_S - 1)) == {}
    assert list(due(tracker.engine, now + timedelta(seconds=SETTLE_S + 1))) == [PROJECT]


def test_what_others_see_is_not_purged_at_once(tracker: Tracker) -> None:
    """It is refused with the runs that see it, and nothing is changed."""
    with pytest.raises(RejectedError, match="is seen from child, rewound") as caught:
        delete_run(tracker.engine, PROJECT, "root", Wish(None), utc_now())
    assert "--with-descendants" in caught.value.hint
    assert "root" in listed(tracker)
    found = delete_run(tracker.engine, PROJECT, "root", Wish(None, with_descendants=True), utc_now())
    assert sorted(one.run_id for one in found.runs) == ["child", "rewound", "root"]


def test_an_interrupted_purge_goes_on(tracker: Tracker) -> None:
    """Who stops in the middle leaves a run that nobody can bring back, and that the next round purges."""
    engine, now = tracker.engine, utc_now()
    delete_run(engine, PROJECT, "odd", Wish(None), now - timedelta(seconds=SETTLE_S))
    stopped = threading.Event()
    stopped.set()
    ((project, some),) = due(engine, now).items()
    purge(engine, project, some, now, stopped)
    states = {one.state for one in list_deletions(engine, PROJECT, ["purging", "purged"])}
    if states == {"purging"}:  # else the engine was quicker than the look at it
        with pytest.raises(RejectedError, match="being removed right now"):
            undelete_run(engine, PROJECT, "odd", now)
        assert purge_all(engine, now) == ["odd"]
    assert rows_of(engine, "points", "odd") == 0


def test_a_project_goes_with_its_runs(tracker: Tracker) -> None:
    """Its custom metrics go when its last run does; another project notices nothing."""
    engine, now = tracker.engine, utc_now()
    other = tracker.series(["ranks"], ["loss"])
    answer = tracker.http.delete(f"/projects/{archive.OTHER}")
    assert [one["run_id"] for one in answer.json()["runs"]] == ["root"]
    assert [one["project"] for one in tracker.get("/projects")["projects"]] == [PROJECT]
    assert tracker.series(["ranks"], ["loss"]) == other
    delete_project(engine, PROJECT, Wish(None), now - timedelta(seconds=SETTLE_S))
    assert tracker.get("/projects")["projects"] == []
    assert len(purge_all(engine, now)) == 5
    for table in ("custom_metrics", "metric_names"):
        sql = f"SELECT count() AS n FROM {table} WHERE project = {{project:String}}"
        assert engine.query(sql, {"project": PROJECT})["n"][0].as_py() == 0
    assert refusal(tracker, "DELETE", f"/projects/{PROJECT}") == (404, "project_not_found")
    tracker.log("new", "loss", {1.0: 1.0}, writer=90)
    assert listed(tracker) == {"new"}, "the project may be used again"


def test_what_is_not_there(tracker: Tracker) -> None:
    assert refusal(tracker, "DELETE", f"/projects/{PROJECT}/runs/nobody") == (404, "run_not_found")
    assert refusal(tracker, "POST", f"/projects/{PROJECT}/runs/root/undelete") == (404, "not_deleted")
    with pytest.raises(NotFoundError):
        delete_project(tracker.engine, "nowhere", Wish(), utc_now())


def test_retention(tracker: Tracker) -> None:
    """Runs whose last word is too old are deleted, others are not; one that was brought back stays."""
    engine = tracker.engine
    path = f"/admin/projects/{PROJECT}/retention"
    assert tracker.get(path) == {"keep_s": None, "runs_due": 0}
    tracker.log("fresh", "loss", {1.0: 1.0}, writer=91)
    dry = tracker.http.put(path, params={"dry_run": True}, json={"keep_s": 86_400}).json()
    assert dry == {"keep_s": 86_400, "runs_due": 5}
    assert read_retention(engine, PROJECT) is None
    assert tracker.http.put(path, json={"keep_s": 86_400}).json() == dry
    assert read_retention(engine, archive.OTHER) is None
    assert apply_retentions(engine, utc_now()) == 5
    assert listed(tracker) == {"fresh"}
    assert {one.reason for one in list_deletions(engine, PROJECT, ["deleted"])} == {"retention"}
    undelete_run(engine, PROJECT, "odd", utc_now())
    Keeper(engine).round()
    assert listed(tracker) == {"fresh", "odd"}
    set_retention(engine, PROJECT, None, utc_now())
    assert tracker.get(path) == {"keep_s": None, "runs_due": 0}
    assert silent_runs(engine, PROJECT, 10**9, utc_now()) == []


def test_a_fork_that_was_deleted_holds_the_points_until_it_is_purged(tracker: Tracker) -> None:
    """It may be brought back, with its history."""
    engine, now = tracker.engine, utc_now()
    fork = wire.hello("leaf", 60)
    fork.origin.CopyFrom(forked("odd", 2))
    tracker.take(fork, wire.batch(1, ["loss"], [7], [[7.0]], events=[wire.started()]))
    delete_run(engine, PROJECT, "leaf", Wish(keep_s=30 * 86_400), now)
    delete_run(engine, PROJECT, "odd", Wish(None), now)
    assert purge_all(engine, now + WEEK) == []
    undelete_run(engine, PROJECT, "leaf", now)
    (series,) = tracker.series(["leaf"], ["loss"])
    assert series["x"] == [0.5, 1, 2, 7]
    delete_run(engine, PROJECT, "leaf", Wish(None), now)
    assert purge_all(engine, now + WEEK) == ["leaf", "odd"]
