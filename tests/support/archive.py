"""A small database with something of everything, and what the HTTP API says of it: for comparing two databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.support import wire
from tests.support.checkpoints import answering, forked, rewound, saved
from tests.support.engines import opened
from tests.support.tracker import Tracker
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.model.settings import Store

PROJECT = wire.PROJECT
OTHER = "größe ☃"
_SECOND_US = 1_000_000
_RUNS = ("root", "child", "rewound", "ranks", "odd")
_NAMES = ("loss", "lr", "nan", "system/cpu")
_QUESTIONS = (
    "/projects",
    "/projects/{p}/lineage",
    "/projects/{p}/lineage?metric=loss",
    "/projects/{p}/custom-metrics",
    "/projects/{p}/runs",
)
_OF_RUNS = ("", "/metrics", "/lineage", "/checkpoints", "/metrics?match=l")
_COLUMNS = ["run.name", "run.status", "config.lr", "last(loss)", "min(loss)", "max(lr)", "count(loss)", "last(f1)"]


@contextmanager
def tracker_on(store: Store) -> Iterator[Tracker]:
    """A migrated database, and the API over it."""
    with opened(store) as engine:
        migrate(engine)
        with answering(engine, None) as tracker:
            yield tracker


def fill(tracker: Tracker) -> None:
    """Runs of several ranks, forks of forks, a rewind, copies, NaN, checkpoints, custom metrics, two projects."""
    start = wire.START_US
    told = wire.attributes(start, run__name='"the first"', config__lr="0.1", config__nested__x="[1, 2]", tags__a="true")
    steps = [float(step) for step in range(200)]
    rows = [[1 / (step + 1), 0.1 * step, float("nan")] for step in steps]
    events = [wire.started(start), told, _checkpoint(50, start + 60), _checkpoint(150, start + 160)]
    names = ["loss", "lr", "nan"]
    tracker.take(
        wire.hello("root", 1),
        wire.batch(1, names, steps[:120], rows[:120], events=events, counters={"spool_full": 3}),
        wire.batch(2, names, steps[100:], rows[100:], range(start + 300, start + 400), resent=True, relogged=True),
        wire.batch(3, events=[wire.ended(pb.WriterEnded.FINISHED, start + _SECOND_US)]),
        seen_us=start + _SECOND_US,
    )
    tracker.take(
        wire.hello("root", 2),
        wire.batch(
            1, ["system/cpu"], steps[:10], [[step] for step in steps[:10]], events=[wire.started(primary=False)]
        ),
        seen_us=start + _SECOND_US,
    )
    child = wire.hello("child", 3)
    child.origin.CopyFrom(forked("root", 99))
    _log(tracker, child, range(100, 130), wire.attributes(start, config__lr="0.2", run__notes='"of a fork"'))
    grandchild = wire.hello("rewound", 4)
    grandchild.origin.CopyFrom(forked("child", 110))
    _log(tracker, grandchild, range(111, 140))
    again = wire.hello("rewound", 5)
    again.origin.CopyFrom(rewound(120, 1))
    _log(tracker, again, range(121, 150))
    for rank in range(3):
        _log(tracker, wire.hello("ranks", 10 + rank, rank=rank), range(50), wire.attributes(start, config__lr="0.3"))
    tracker.take(
        wire.hello("odd", 20),
        wire.batch(1, ["loss", "größe/☃"], [3, 1, 2, 0.5], [[1, -0.0], [2, float("inf")], [3, 5e-324], [4, -1e308]]),
        seen_us=start + _SECOND_US,
    )
    _log(tracker, wire.hello("root", 30, project=OTHER), range(5))
    answer = tracker.http.put(
        f"/projects/{PROJECT}/custom-metrics/f1", json={"expression": "2 * loss", "description": "twice"}
    )
    assert answer.status_code < 300, answer.text


def _log(tracker: Tracker, greeting: pb.Hello, steps: range, *events: pb.Event) -> None:
    rows = [[greeting.rank + 0.25 * step, 0.5 * step] for step in steps]  # so that means over ranks are exact
    times = range(wire.START_US + steps.start, wire.START_US + steps.stop)
    batch = wire.batch(1, ["loss", "lr"], list(map(float, steps)), rows, times, events=[wire.started(), *events])
    tracker.take(greeting, batch, seen_us=wire.START_US + _SECOND_US)


def _checkpoint(step: int, time_us: int) -> pb.Event:
    return pb.Event(time_us=time_us, checkpoint=saved(step, f"gs://elsewhere/{step}", metrics={"loss": 1 / step}))


def ask_all(http: httpx.Client) -> dict[str, Any]:
    """What the API says, by question."""
    told: dict[str, Any] = {}
    for question in _QUESTIONS:
        for project in (PROJECT, OTHER):
            _get(http, told, question.format(p=project))
    for run_id in _RUNS:
        for rest in _OF_RUNS:
            _get(http, told, f"/projects/{PROJECT}/runs/{run_id}{rest}")
        for points in (None, 7):
            _series(http, told, run_id, points)
    body = {"columns": _COLUMNS, "sort": ["-last(loss)"], "filter": "config.lr > 0.05"}
    told["table"] = _post(http, f"/projects/{PROJECT}/runs/query", body)
    return told


def _get(http: httpx.Client, told: dict[str, Any], path: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 200, (path, answer.text)
    told[path] = answer.json()


def _series(http: httpx.Client, told: dict[str, Any], run_id: str, points: int | None) -> None:
    for by_rank in (False, True):
        body = {"runs": [run_id], "metrics": list(_NAMES), "points": points, "by_rank": by_rank}
        if not by_rank:
            body["expressions"] = ["ema(loss, 0.9)"]
        told[f"series {run_id} {points} {by_rank}"] = _post(http, f"/projects/{PROJECT}/series", body)


def _post(http: httpx.Client, path: str, body: Any) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, (path, body, answer.text)
    return answer.json()


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """The questions that two databases answer differently. The times at which custom metrics were made count."""
    texts = {name: (json.dumps(one.get(name)), json.dumps(other.get(name))) for name in {*one, *other}}
    return {name: pair for name, pair in texts.items() if pair[0] != pair[1]}
