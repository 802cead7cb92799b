"""What is new, and whether anything is, on both engines."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support import wire
from tests.support.engines import on_clusters_too
from tests.support.tracker import Tracker
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import run_key
from thalweg_tracker.query.lineage import RunRef, RunView, find_views
from thalweg_tracker.query.live import Feed
from thalweg_tracker.query.live_answers import Answers
from thalweg_tracker.query.live_marks import Marks, read_marks
from thalweg_tracker.query.live_signals import read_origins, read_signals, read_statuses, watched
from thalweg_tracker.query.validators import read_validator

pytestmark = on_clusters_too

PROJECT = wire.PROJECT
KEY = int(run_key(PROJECT, "r"))
LONG_AGO_US = wire.START_US
ENDED = wire.ended(pb.WriterEnded.Outcome.FINISHED)


@pytest.fixture
def tracker(engine: Engine) -> Tracker:
    """A tracker without its API."""
    migrate(engine)
    return Tracker(engine, httpx.Client())


def log(tracker: Tracker, steps: list[float], begin: int, *, writer: int = 1, **more: Any) -> None:
    """Points of a metric; value and time are the same number."""
    numbers = range(begin, begin + len(steps))
    batch = wire.batch(1, ["loss"], steps, [[number] for number in numbers], [LONG_AGO_US + n for n in numbers], **more)
    tracker.take(wire.hello("r", writer=writer), batch)


def view(tracker: Tracker, run_id: str = "r") -> RunView:
    return find_views(tracker.engine, PROJECT, [RunRef(run_id)])[0]


def read(feed: Feed, now_s: float = 0) -> list[tuple[float, float]]:
    """Everything that is new, as (step, value)."""
    feed._answers.forget()
    found: list[tuple[float, float]] = []
    left = feed.runs
    while left:
        news = feed.read(left, {}, now_s)
        found += [pair for one in news.series for pair in zip(one.steps.tolist(), one.values.tolist(), strict=True)]
        left = news.left
    return found


# -- whether anything is new


def test_each_commit_changes_the_signal(tracker: Tracker) -> None:
    """Whatever was merged meanwhile, and also a commit that a later one has overtaken."""
    signals = [read_signals(tracker.engine, [PROJECT], [KEY])]
    for seen_us in (10, 30, 20, 40):
        tracker.take(wire.hello("r"), wire.batch(1, ["loss"], [seen_us], [[1]]), seen_us=seen_us)
        signals.append(read_signals(tracker.engine, [PROJECT], [KEY]))
        tracker.take(wire.hello("other", writer=2), wire.batch(1, ["loss"], [seen_us], [[1]]))
        if seen_us == 20:
            tracker.engine.execute("OPTIMIZE TABLE writers FINAL")
    assert signals[0] == {}
    assert all(one != other for one, other in zip(signals[1:], signals, strict=False))
    assert read_signals(tracker.engine, [PROJECT], [KEY]) == signals[-1]


def test_a_new_branch_changes_the_origins(tracker: Tracker) -> None:
    """A run that was never forked has none."""
    log(tracker, [0, 1], 0)
    assert read_origins(tracker.engine, [(PROJECT, "r")]) == {}
    origin = pb.Origin(kind=pb.Origin.REWIND, step=0, attempt="two")
    tracker.take(pb.Hello(**{**{f.name: v for f, v in wire.hello("r", writer=2).ListFields()}, "origin": origin}))
    assert set(read_origins(tracker.engine, [(PROJECT, "r")])) == {(PROJECT, "r")}


def test_statuses(tracker: Tracker) -> None:
    """They are those of the list of runs."""
    tracker.take(wire.hello("r"), wire.batch(1, events=[wire.started()]))
    branch = {KEY: watched(view(tracker))}
    assert read_statuses(tracker.engine, branch) == {KEY: "running"}
    tracker.take(wire.hello("r"), wire.batch(2, events=[ENDED]))
    assert read_statuses(tracker.engine, branch) == {KEY: "finished"}


# -- what is new


def test_new_points_once(tracker: Tracker) -> None:
    """From a listener's begin on each point is told once, whatever is merged, and however long it is silent."""
    log(tracker, [0, 1], 0)
    feed = Feed(Answers(tracker.engine), [view(tracker)], ["loss"], None)
    assert read(feed) == []
    now_s = 0.0
    for step in range(2, 8):
        log(tracker, [step, step + 0.5], step * 10, resent=step == 4)
        assert read(feed, now_s) == [(step, step * 10), (step + 0.5, step * 10 + 1)]
        tracker.engine.execute("OPTIMIZE TABLE points FINAL")
        assert read(feed, now_s + 0.1) == []
        now_s += step * limits.LIVE_SETTLE_MS / 2e3


def test_steps_that_fall(tracker: Tracker) -> None:
    """A series whose steps fall is told in full, and once, long after too."""
    log(tracker, [5], 0)
    feed = Feed(Answers(tracker.engine), [view(tracker)], ["loss"], None)
    log(tracker, [4, 6, 3], 10, relogged=True)
    assert sorted(read(feed)) == [(3, 12), (4, 10), (6, 11)]
    assert read(feed, 100) == []
    log(tracker, [1, 2], 20, relogged=True)
    assert sorted(read(feed, 200)) == [(1, 20), (2, 21)]
    assert read(feed, 300) == []


def test_a_commit_that_comes_late(tracker: Tracker) -> None:
    """Within the settling time a commit may be overtaken by later ones of its writer."""
    log(tracker, [0], 0)
    feed = Feed(Answers(tracker.engine), [view(tracker)], ["loss"], None)
    log(tracker, [8, 9], 80)
    assert read(feed) == [(8, 80), (9, 81)]
    log(tracker, [5, 6], 50)
    assert read(feed, limits.LIVE_SETTLE_MS / 1e3 - 0.1) == [(5, 50), (6, 51)]
    assert read(feed, limits.LIVE_SETTLE_MS / 1e3) == []


@pytest.mark.parametrize("at_once", [7, 50_000])
def test_going_on_from_marks(tracker: Tracker, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Marks of one listener let another go on: it misses nothing, in readings of any size."""
    monkeypatch.setattr(limits, "LIVE_READ_POINTS", at_once)
    log(tracker, [float(step) for step in range(50)], 0)
    feed = Feed(Answers(tracker.engine), [view(tracker)], ["loss"], Marks())
    assert read(feed) == [(step, step) for step in range(50)]
    read(feed, 1000)
    marks = read_marks(feed.marks().to_text())
    log(tracker, [50, 51], 50)
    log(tracker, [48, 60], 5, writer=2)
    assert sorted(read(Feed(Answers(tracker.engine), [view(tracker)], ["loss"], marks), 5)) == [
        (48, 5),
        (50, 50),
        (51, 51),
        (60, 6),
    ]


# -- validators of what has ended


def ended_run(tracker: Tracker, run_id: str = "r", writer: int = 1) -> None:
    batch = wire.batch(1, ["loss"], [0], [[1]], events=[wire.started(), wire.attributes(config__lr="1"), ENDED])
    tracker.take(wire.hello(run_id, writer=writer), batch, seen_us=LONG_AGO_US)


def test_a_validator_stands_while_nothing_changes(tracker: Tracker) -> None:
    """Merges and other runs change nothing; other questions and runs have others."""
    ended_run(tracker)
    first = read_validator(tracker.engine, PROJECT, [view(tracker)], "question")
    ended_run(tracker, "s", writer=2)
    for table in ("writers", "attributes", "points"):
        tracker.engine.execute(f"OPTIMIZE TABLE {table} FINAL")
    assert first
    assert read_validator(tracker.engine, PROJECT, [view(tracker)], "question") == first
    assert read_validator(tracker.engine, PROJECT, [view(tracker)], "another") != first
    assert read_validator(tracker.engine, PROJECT, [view(tracker, "s")], "question") != first


@pytest.mark.parametrize(
    "batch",
    [
        wire.batch(2, ["loss"], [1], [[1]]),
        wire.batch(2, events=[wire.attributes(LONG_AGO_US + 1, config__lr="2")]),
        wire.batch(2, events=[wire.ended(pb.WriterEnded.Outcome.FAILED, LONG_AGO_US + 9_000_000)]),
    ],
)
def test_late_news_change_a_validator(tracker: Tracker, batch: pb.Batch) -> None:
    """Points, attributes and another end that come later make another validator."""
    ended_run(tracker)
    first = read_validator(tracker.engine, PROJECT, [view(tracker)])
    tracker.take(wire.hello("r"), batch, seen_us=LONG_AGO_US + 100)
    assert read_validator(tracker.engine, PROJECT, [view(tracker)]) not in (None, first)


def test_no_validator(tracker: Tracker) -> None:
    """There is none of what goes on, or has only just ended, nor where that is one of several."""
    ended_run(tracker)
    log(tracker, [5], 0, writer=3)
    assert read_validator(tracker.engine, PROJECT, [view(tracker)]) is None, "something came just now"
    ended_run(tracker, "ended", writer=4)
    tracker.take(wire.hello("going", writer=2), wire.batch(1, events=[wire.started()]), seen_us=LONG_AGO_US)
    assert read_validator(tracker.engine, PROJECT, [view(tracker, "ended")])
    assert read_validator(tracker.engine, PROJECT, [view(tracker, "going")]) is None
    assert read_validator(tracker.engine, PROJECT, [view(tracker, "ended"), view(tracker, "going")]) is None


def test_a_run_that_goes_on_after_its_end(tracker: Tracker) -> None:
    """A new process of the same rank makes it one that has not ended."""
    ended_run(tracker)
    again = wire.batch(1, events=[wire.started(LONG_AGO_US + 5_000_000)])
    tracker.take(wire.hello("r", writer=2), again, seen_us=LONG_AGO_US + 5_000_000)
    assert read_validator(tracker.engine, PROJECT, [view(tracker)]) is None
