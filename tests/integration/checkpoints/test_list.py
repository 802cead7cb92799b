"""Checkpoints as they are listed: states, lineage, pages, the advice on how often to save."""

from __future__ import annotations

import math
import re

import pytest

from tests.support import wire
from tests.support.checkpoints import SECOND_US, STAGED, Place, forked, rewound, saved
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.query.lineage import RunRef, find_views
from thalweg_tracker.sql import load


def test_a_checkpoint_is_listed_as_it_was_told(place: Place) -> None:
    """All that was said, and what follows from it."""
    model = saved(
        10,
        "s3://other/model.pt",
        kind="model",
        size_bytes=7,
        digest="sha256:" + "0a" * 32,
        blocked_s=1.5,
        staged_us=wire.START_US,
        saved_us=wire.START_US + 5,
        metrics={"loss": 0.5},
        metadata_json='{"note": {"a": [1]}}',
    )
    optimizer = saved(10, "s3://other/optimizer.pt", kind="optimizer", size_bytes=3, blocked_s=1.0, metrics={"acc": 1})
    place.say("r", model, optimizer)
    (one,) = place.list("r")
    assert {key: one[key] for key in one if key not in ("kinds", "created_at")} == {
        "run_id": "r", "branch": 0, "step": 10, "state": "complete", "blocked_s": 2.5, "size_bytes": 10,
        "metrics": {"loss": 0.5, "acc": 1}, "metadata": {"note": {"a": [1]}},
    }  # fmt: skip
    assert one["kinds"][0] == {
        "kind": "model", "state": "complete", "uri": "s3://other/model.pt", "shards": 1, "shards_done": 1,
        "size_bytes": 7, "digest": "sha256:" + "0a" * 32, "detail": "", "checked_at": None,
        "staged_at": "2023-11-14T22:13:20Z", "saved_at": "2023-11-14T22:13:20.000005Z",
    }  # fmt: skip


def test_shards_make_a_checkpoint_complete(place: Place) -> None:
    """Staged, then incomplete, then complete; whatever the order in which the words arrive."""
    shards = [saved(1, f"s3://b/{n}", shard=n, shards=3) for n in range(3)]
    place.say("r", saved(1, "s3://b/0", shard=0, shards=3, state=STAGED), times=[wire.START_US])
    assert place.states("r") == {1: "staged"}
    place.say("r", shards[0], times=[wire.START_US + 1])
    assert place.states("r") == {1: "incomplete"}
    place.say("r", *shards[1:], times=[wire.START_US + 2, wire.START_US + 3])
    assert place.states("r") == {1: "complete"}
    place.say("r", saved(1, "s3://b/0", shard=0, shards=3, state=STAGED), times=[wire.START_US])
    (one,) = place.list("r")
    assert (one["state"], one["kinds"][0]["uri"], one["kinds"][0]["shards_done"]) == ("complete", "s3://b/", 3)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_along_a_lineage(place: Place, limit: int) -> None:
    """Newest first, each once, those of the ancestors up to where they were left."""
    place.say("root", *(saved(step) for step in (0, 10, 20, 30)))
    place.say("child", saved(25), saved(20.5), origin=forked("root", 20))
    place.say("grand", saved(23), origin=forked("child", 22))
    place.say("grand", saved(22.5), origin=rewound(22, 1))
    walked = place.tracker.walk(place.path("grand", "/checkpoints"), "checkpoints", limit)
    told = [(one["run_id"], one["branch"], one["step"]) for one in walked]
    inherited = [("child", 0, 20.5), ("root", 0, 20.0), ("root", 0, 10.0), ("root", 0, 0.0)]
    assert told == [("grand", 1, 22.5), *inherited]
    walked = place.tracker.walk(place.path("grand", "/checkpoints"), "checkpoints", limit, branch=0)
    assert [one["step"] for one in walked] == [23, 20.5, 20, 10, 0]


def test_many_shards_and_checkpoints(place: Place) -> None:
    """Batches are cut between checkpoints, also where one has more words than a batch."""
    words = [saved(step, f"s3://b/{n}", shard=n, shards=300) for step in (1, 2, 3) for n in range(300)]
    place.say("r", *words, *(saved(step) for step in range(4, 500)))
    assert place.states("r", limit=1000) == dict.fromkeys(range(1, 500), "complete")
    assert [one["step"] for one in place.tracker.walk(place.path("r", "/checkpoints"), "checkpoints", 7)] == list(
        range(499, 0, -1)
    )
    assert [kind["shards_done"] for kind in place.resolve("r", step=2)["kinds"]] == [300]


def test_a_bad_cursor(place: Place) -> None:
    """Is refused as elsewhere."""
    place.say("r", saved(1))
    for cursor in ("x", "WyJ4Il0", "WyJuYW4iXQ", "WzFd"):
        answer = place.tracker.http.get(place.path("r", "/checkpoints"), params={"cursor": cursor})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_cursor")


def test_the_advice(place: Place) -> None:
    """From the run's saves and the failures of the project; without them a word on what is missing."""
    hour_us = 3600 * SECOND_US
    ends = [(pb.WriterEnded.FAILED, None), (pb.WriterEnded.KILLED, 9), (pb.WriterEnded.KILLED, 2),
            (pb.WriterEnded.LOST, None), (pb.WriterEnded.FINISHED, None)]  # fmt: skip
    words = [saved(100.0 * n, blocked_s=30.0 + n) for n in range(1, 4)]
    place.say("r", *words, times=[wire.START_US + n * 200 * SECOND_US for n in range(3)])
    page = place.tracker.get(place.path("r", "/checkpoints"))
    assert page["advice"] is None
    for number, (outcome, number_of_signal) in enumerate(ends):
        ended = wire.ended(outcome, wire.START_US + hour_us)
        if number_of_signal:
            ended.ended.signal = number_of_signal
        for rank in (0, 1):
            greeting = wire.hello(f"run {number}", number + 10, rank, place.project)
            place.tracker.take(greeting, wire.batch(1, events=[wire.started(), ended]))
    silent = wire.hello("silent", 98, 0, place.project)
    place.tracker.take(silent, wire.batch(1, events=[wire.started()]), seen_us=wire.START_US + hour_us)
    helper = wire.batch(1, events=[wire.started(primary=False), wire.ended(pb.WriterEnded.FAILED)])
    place.tracker.take(wire.hello("run 0", 99, 0, place.project), helper)
    advice = place.tracker.get(place.path("r", "/checkpoints"))["advice"]
    assert (advice["save_cost_s"], advice["saves"]) == (32.0, 3)
    assert (advice["current_interval_s"], advice["seconds_per_step"]) == (200.0, 2.0)
    assert advice["interval_s"] == pytest.approx(
        math.sqrt(2 * 32 * advice["mtbf_s"])
        * (1 + math.sqrt(32 / (2 * advice["mtbf_s"])) / 3 + 32 / 18 / advice["mtbf_s"])
        - 32
    )
    assert advice["interval_steps"] == round(advice["interval_s"] / 2)
    assert (advice["failures"], advice["mtbf_s"]) == (4, advice["observed_s"] / 4)


def test_no_advice_yet(place: Place) -> None:
    """While nothing failed, or no save told what it costs."""
    place.tracker.take(wire.hello("r", project=place.project), wire.batch(1, events=[wire.started()]))
    page = place.tracker.get(place.path("r", "/checkpoints"))
    assert (page["checkpoints"], page["advice"]) == ([], None)
    assert "blocked_s" in page["advice_missing"]
    place.say("r", saved(1, blocked_s=2.0))
    assert "failed" in place.tracker.get(place.path("r", "/checkpoints"))["advice_missing"]


def test_a_walk_reads_one_granule(place: Place) -> None:
    """The primary key finds the words of a run below a step, however many checkpoints others have."""
    engine = place.tracker.engine
    runs = [f"r{number}" for number in range(20)]
    for number, run in enumerate(runs):
        place.say(run, *(saved(float(step), kind="model") for step in range(2000)), times=range(number, 2**60, 20))
    view = find_views(engine, place.project, [RunRef("r7")])[0]
    where = {"project": place.project, "run": view.key, "after": -math.inf, "before": 900.0, "kind": "", "limit": 256}
    engine.execute("OPTIMIZE TABLE checkpoints FINAL")
    plan = "\n".join(engine.query("EXPLAIN indexes = 1 " + load("checkpoint_words"), where)[0].to_pylist())
    assert "PrimaryKey" in plan
    granules = re.findall(r"Granules: (\d+)/(\d+)", plan)
    assert granules
    assert all(int(read) <= 2 < int(total) for read, total in granules), plan
