"""The live stream: what is told, what is not told twice, and who is not kept waiting."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import thalweg
from tests.support import wire
from tests.support.live import listening
from tests.support.tracker import Tracker, tracking
from tests.support.waiting import wait_until
from thalweg.testing import ServerProcess, running_server
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.model import limits
from thalweg_tracker.model.settings import DRAIN_S

Outcome = pb.WriterEnded.Outcome
SECOND_US = 1_000_000


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[Tracker]:
    """An empty tracker."""
    with tracking(tmp_path / "data") as tracker:
        yield tracker


def log(
    tracker: Tracker,
    run_id: str,
    steps: list[float],
    begin_s: float,
    *,
    name: str = "loss",
    writer: int = 1,
    **more: Any,
) -> None:
    """Points of one metric, a second apart from `begin_s` on, by the writer's clock; the value is that of the clock."""
    rank, relogged = more.pop("rank", 0), more.pop("relogged", False)
    times = [wire.START_US + round((begin_s + at) * SECOND_US) for at in range(len(steps))]
    rows = [[(time - wire.START_US) / SECOND_US] for time in times]
    batch = wire.batch(1, [name], steps, rows, times, relogged=relogged, **more)
    tracker.take(wire.hello(run_id, writer=writer, rank=rank), batch)


# -- what is told


def test_status_then_what_comes_from_now_on(tracker: Tracker) -> None:
    """First the status of each run, then points that were committed since, not those before."""
    log(tracker, "r", [0, 1], 0)
    log(tracker, "s", [0, 1], 0, writer=2)
    with listening(tracker.http, runs=["r", "s"], metrics=["loss", "acc"]) as heard:
        wait_until(lambda: len(heard.statuses()) == 2)
        log(tracker, "r", [2, 3], 10)
        log(tracker, "s", [2], 10, writer=2)
        log(tracker, "r", [2], 10, name="other")
        log(tracker, "r", [7], 10, name="acc")
        heard.wait_for_steps([2, 3], "r", "loss")
        heard.wait_for_steps([2], "s", "loss")
        heard.wait_for_steps([7], "r", "acc")
        assert set(heard.points()) == {("r", 0, "loss", 0), ("s", 0, "loss", 0), ("r", 0, "acc", 0)}
        assert heard.events[0][0] == "status"
        series = next(one for kind, data in heard.events if kind == "points" for one in data["series"])
        assert set(series) == {"run_id", "branch", "name", "rank", "x", "value", "time"}


def test_all_there_is_first(tracker: Tracker) -> None:
    """With from_now=false a listener is told the past, and then what comes; each point once."""
    log(tracker, "r", [0, 1, 2], 0)
    with listening(tracker.http, runs="r", metrics="loss", from_now=False) as heard:
        heard.wait_for_steps([0, 1, 2], "r", "loss")
        log(tracker, "r", [3], 10)
        heard.wait_for_steps([0, 1, 2, 3], "r", "loss")


def test_after_a_time(tracker: Tracker) -> None:
    """With after_time only points with a later time are told."""
    log(tracker, "r", [0, 1, 2, 3], 0)
    with listening(tracker.http, runs="r", metrics="loss", after_time=wire.START_US + SECOND_US) as heard:
        heard.wait_for_steps([2, 3], "r", "loss")


def test_values_that_are_no_numbers(tracker: Tracker) -> None:
    """NaN and infinities are strings, as everywhere in JSON."""
    log(tracker, "r", [0], 0)
    with listening(tracker.http, runs="r", metrics="loss") as heard:
        rows = [[float("nan")], [float("-inf")]]
        times = [wire.START_US + SECOND_US, wire.START_US + 2 * SECOND_US]
        tracker.take(wire.hello("r"), wire.batch(2, ["loss"], [1, 2], rows, times))
        wait_until(lambda: heard.points().get(("r", 0, "loss", 0)) == {1: "NaN", 2: "-Infinity"})


def test_values_logged_again(tracker: Tracker) -> None:
    """A value that is logged again at its step comes again; where it was logged twice at once, only the later one."""
    log(tracker, "r", [0, 1, 2], 0)
    with listening(tracker.http, runs="r", metrics="loss") as heard:
        log(tracker, "r", [3], 10)
        heard.wait_for_steps([3], "r", "loss")
        log(tracker, "r", [3, 1, 1], 20, relogged=True)
        heard.wait_for_steps([3, 1, 3], "r", "loss")
        assert heard.points() == {("r", 0, "loss", 0): {1: 22, 3: 20}}


def test_batches_sent_again(tracker: Tracker) -> None:
    """What was committed twice is told once."""
    log(tracker, "r", [0], 0)
    with listening(tracker.http, runs="r", metrics="loss") as heard:
        for _ in range(3):
            log(tracker, "r", [1, 2], 10, resent=True)
        log(tracker, "r", [3], 20)
        heard.wait_for_steps([1, 2, 3], "r", "loss")


def test_commits_that_change_places(tracker: Tracker) -> None:
    """Of two batches of one writer the later may be committed first: both are told."""
    log(tracker, "r", [0], 0)
    with listening(tracker.http, runs="r", metrics="loss") as heard:
        log(tracker, "r", [5, 6], 50)
        heard.wait_for_steps([5, 6], "r", "loss")
        log(tracker, "r", [3, 4], 30)
        heard.wait_for_steps([5, 6, 3, 4], "r", "loss")


def test_a_process_that_continues_a_run(tracker: Tracker) -> None:
    """Points of a new writer come, those of the one before it do not come again, whatever steps they share."""
    tracker.take(wire.hello("r"), wire.batch(1, events=[wire.started()]))
    log(tracker, "r", [0, 1, 2, 3], 0)
    with listening(tracker.http, runs="r", metrics="loss") as heard:
        log(tracker, "r", [4], 10)
        heard.wait_for_steps([4], "r", "loss")
        begin = wire.started(wire.START_US + 100 * SECOND_US)
        tracker.take(wire.hello("r", writer=2), wire.batch(1, events=[begin]))
        log(tracker, "r", [2, 3], 101, writer=2)
        heard.wait_for_steps([4, 2, 3], "r", "loss")


def test_points_that_come_late(tracker: Tracker) -> None:
    """What a process that was offline delivers later comes too, though newer points were told already."""
    log(tracker, "r", [0], 0, rank=0)
    log(tracker, "r", [0], 0, rank=1, writer=2)
    with listening(tracker.http, runs="r", metrics="loss") as heard:
        log(tracker, "r", [10, 11], 1000)
        heard.wait_for_steps([10, 11], "r", "loss")
        log(tracker, "r", [1, 2], 10, rank=1, writer=2)
        heard.wait_for_steps([1, 2], "r", "loss", rank=1)


def test_more_than_is_read_at_once(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long past comes in several readings and events of bounded size, complete, each point once."""
    monkeypatch.setattr(limits, "LIVE_READ_POINTS", 100)
    monkeypatch.setattr(limits, "LIVE_EVENT_POINTS", 30)
    steps = [float(step) for step in range(500)]
    log(tracker, "r", steps, 0)
    log(tracker, "s", steps, 0, writer=2)
    with listening(tracker.http, runs=["r", "s"], metrics="loss", from_now=False) as heard:
        heard.wait_for_steps(steps, "r", "loss")
        heard.wait_for_steps(steps, "s", "loss")
        log(tracker, "r", [500], 1000)
        heard.wait_for_steps([*steps, 500], "r", "loss")
        sizes = [sum(len(one["x"]) for one in data["series"]) for kind, data in heard.events if kind == "points"]
        assert max(sizes) <= 30


# -- lineage


def test_a_fork_hears_its_parent_up_to_the_fork_step(tracker: Tracker) -> None:
    """A fork's series include what the parent, which goes on, logs up to the fork step, and nothing after it."""
    log(tracker, "parent", [0, 1], 0)
    body = {"run_id": "child", "step": 3}
    assert tracker.http.post("/projects/p/runs/parent/fork", json=body).status_code == 201
    with listening(tracker.http, runs=["child", "parent"], metrics="loss") as heard:
        log(tracker, "parent", [2, 3, 4], 10)
        log(tracker, "child", [4, 5], 10, writer=2)
        heard.wait_for_steps([2, 3, 4], "parent", "loss")
        wait_until(lambda: len(heard.steps("child", "loss")) >= 4)
        assert sorted(heard.steps("child", "loss")) == [2, 3, 4, 5]
        log(tracker, "parent", [5], 20)
        heard.wait_for_steps([2, 3, 4, 5], "parent", "loss")
        assert len(heard.steps("child", "loss")) == 4


def test_metrics_of_the_host_are_a_branch_s_own(tracker: Tracker) -> None:
    """What the parent's host measured is not told of the fork; what the fork's host did is, below the fork step too."""
    log(tracker, "parent", [0, 9], 0)
    assert tracker.http.post("/projects/p/runs/parent/fork", json={"run_id": "child", "step": 5}).status_code == 201
    with listening(tracker.http, runs="child", metrics=["system/cpu", "loss"]) as heard:
        log(tracker, "parent", [1], 10, name="system/cpu", writer=3)
        log(tracker, "child", [2], 10, name="system/cpu", writer=4)
        log(tracker, "child", [6], 10, writer=2)
        heard.wait_for_steps([6], "child", "loss")
        heard.wait_for_steps([2], "child", "system/cpu")


def test_a_run_that_is_rewound_is_followed(tracker: Tracker) -> None:
    """Its new branch is told with its status, and then its own points; what it inherits was told before."""
    log(tracker, "r", [0, 1, 2, 3], 0)
    with listening(tracker.http, runs="r", metrics="loss") as heard:
        answer = tracker.http.post("/projects/p/runs/r/rewind", json={"step": 1, "attempt": "two"})
        assert answer.status_code == 200, answer.text
        wait_until(lambda: any(branch == 1 for _, branch, _ in heard.statuses()))
        greeting = wire.hello("r", writer=2)
        greeting.branch = 1
        times = [wire.START_US + 100 * SECOND_US]
        tracker.take(greeting, wire.batch(1, ["loss"], [2], [[7]], times))
        heard.wait_for_steps([2], "r", "loss", branch=1)
        assert heard.steps("r", "loss") == []


# -- status


def test_changes_of_status(tracker: Tracker) -> None:
    """Each change is told once, also that a run goes on after its end."""
    tracker.take(wire.hello("r"), wire.batch(1, events=[wire.started()]))
    with listening(tracker.http, runs="r") as heard:
        tracker.take(wire.hello("r"), wire.batch(2, events=[wire.ended(Outcome.FAILED)]))
        wait_until(lambda: len(heard.statuses()) == 2)
        began = wire.started(wire.START_US + 10 * SECOND_US)
        tracker.take(wire.hello("r", writer=2), wire.batch(1, events=[began]))
        wait_until(lambda: len(heard.statuses()) == 3)
        assert heard.statuses() == [("r", 0, "running"), ("r", 0, "failed"), ("r", 0, "running")]


# -- coming back


def test_coming_back_after_an_event_loses_nothing(tracker: Tracker) -> None:
    """With the id of an event a listener goes on where it was: also with points whose time lies before it."""
    log(tracker, "r", [0], 0)
    log(tracker, "r", [0], 0, rank=1, writer=2)
    with listening(tracker.http, runs="r", metrics="loss") as heard:
        log(tracker, "r", [1, 2], 100)
        heard.wait_for_steps([1, 2], "r", "loss")
        last_id = heard.last_id
    assert last_id
    log(tracker, "r", [3], 110)
    log(tracker, "r", [1], 10, rank=1, writer=2)
    log(tracker, "r", [9], 5, rank=2, writer=3)
    with listening(tracker.http, last_id=last_id, runs="r", metrics="loss") as heard:
        wait_until(lambda: 3 in heard.steps("r", "loss"))
        heard.wait_for_steps([1], "r", "loss", rank=1)
        heard.wait_for_steps([9], "r", "loss", rank=2)
        assert 0 not in heard.steps("r", "loss"), "what came before the first connection is not told"


# -- refusals


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"runs": "absent", "metrics": "loss"}, 404, "run_not_found"),
        ({"metrics": "loss"}, 422, "invalid"),
        ({"runs": "r", "metrics": ""}, 422, "invalid"),
        ({"runs": "r", "after_time": -1}, 422, "invalid"),
        ({"runs": ["r", "s"], "metrics": [f"m{n}" for n in range(1500)]}, 400, "too_many_series"),
    ],
)
def test_what_cannot_be_heard(tracker: Tracker, query: dict[str, Any], status: int, code: str) -> None:
    """A stream that cannot begin is an error in the one shape."""
    log(tracker, "r", [0], 0)
    answer = tracker.http.get("/projects/p/live", params=query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_an_id_of_nobody(tracker: Tracker) -> None:
    """An id that no event had is refused."""
    log(tracker, "r", [0], 0)
    for last_id in ("?", "AAAA", "x" * 1000):
        answer = tracker.http.get("/projects/p/live", params={"runs": "r"}, headers={"Last-Event-ID": last_id})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_event_id")


def test_as_many_listeners_as_there_may_be(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is told to come back; when one has gone there is room."""
    monkeypatch.setattr(limits, "LIVE_LISTENERS_MAX", 2)
    monkeypatch.setattr(limits, "LIVE_LISTENERS_PER_PROJECT", 2)
    log(tracker, "r", [0], 0)
    with listening(tracker.http, runs="r"):
        with listening(tracker.http, runs="r"):
            answer = tracker.http.get("/projects/p/live", params={"runs": "r"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "too_many_listeners")
            assert answer.headers["retry-after"]
        wait_until(lambda: is_let_in(tracker.http))


def test_a_project_leaves_places_to_others(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask at once, its part and no more of them are let in, and another project finds room."""
    monkeypatch.setattr(limits, "LIVE_LISTENERS_MAX", 4)
    monkeypatch.setattr(limits, "LIVE_LISTENERS_PER_PROJECT", 2)
    log(tracker, "r", [0], 0)
    tracker.take(wire.hello("r", writer=2, project="q"), wire.batch(1, events=[wire.started()]))
    with ExitStack() as opened:
        connections = [
            opened.enter_context(open_stream(tracker.http, "/api/v1/projects/p/live?runs=r")) for _ in "12345678"
        ]
        heads = [connection.recv(12) for connection in connections]
        assert sorted(heads) == [b"HTTP/1.1 200"] * 2 + [b"HTTP/1.1 503"] * 6
        answer = tracker.http.get("/projects/p/live", params={"runs": "r"})
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == "project 'p' has 2 open streams, its most of the 4 of this server"
        assert is_let_in(tracker.http, "q")


def test_a_stream_that_cannot_begin_takes_no_place(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for what is not there keeps nobody out."""
    monkeypatch.setattr(limits, "LIVE_LISTENERS_PER_PROJECT", 1)
    log(tracker, "r", [0], 0)
    for _ in range(3):
        assert tracker.http.get("/projects/p/live", params={"runs": "absent"}).status_code == 404
    assert is_let_in(tracker.http)


# -- slow ones, and the end


def is_let_in(http: httpx.Client, project: str = "p") -> bool:
    """Whether there is room for one listener more, who goes again."""
    with (
        httpx.Client(base_url=http.base_url) as client,
        client.stream("GET", f"/projects/{project}/live", params={"runs": "r"}) as answer,
    ):
        return answer.status_code == 200


def open_stream(http: httpx.Client, target: str) -> socket.socket:
    """A connection with small buffers that has asked, and reads nothing."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((http.base_url.host, http.base_url.port or 0))
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


def test_a_listener_that_takes_nothing_is_dropped(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told so when it reads again, and its stream ends; meanwhile others hear and ask as ever."""
    monkeypatch.setattr(limits, "LIVE_STALL_S", 0.5)
    monkeypatch.setattr(limits, "LIVE_LISTENERS_PER_PROJECT", 2)
    log(tracker, "r", [float(step) for step in range(400_000)], 0)
    asked = "/api/v1/projects/p/live?runs=r&metrics=loss"
    with (
        open_stream(tracker.http, f"{asked}&from_now=false") as stalled,
        listening(tracker.http, runs="r", metrics="loss") as heard,
    ):
        log(tracker, "r", [400_000], 500_000)
        heard.wait_for_steps([400_000], "r", "loss")
        assert tracker.get("/projects/p/runs/r")["run_id"] == "r"
        wait_until(lambda: is_let_in(tracker.http))
        stalled.settimeout(30)
        received = b""
        while b"event: dropped" not in received[-1000:]:
            piece = stalled.recv(1 << 20)
            assert piece, "the stream ended without a word"
            received += piece
        assert received.endswith(b"0\r\n\r\n") or stalled.recv(100) == b"0\r\n\r\n"
        log(tracker, "r", [400_001], 600_000)
        heard.wait_for_steps([400_000, 400_001], "r", "loss")


# -- with real processes


def test_from_log_to_event(tmp_path: Path) -> None:
    """What a training logs arrives while it runs, and that it has finished; none is lost, none comes twice."""
    with running_server(tmp_path / "data") as server, http_of(server) as http:
        run = thalweg.init("p", run_id="r", url=server.url, spool_dir=tmp_path / "spool", system_interval_s=0)
        run.log({"loss": -1.0}, step=-1)
        assert run.flush(timeout=60)
        with listening(http, runs="r", metrics="loss") as heard:
            for step in range(2000):
                run.log({"loss": float(step)}, step=step)
            run.finish()
            wait_until(lambda: heard.statuses()[-1] == ("r", 0, "finished"))
            heard.wait_for_steps([float(step) for step in range(2000)], "r", "loss")


def test_the_end_of_the_server_ends_streams(tmp_path: Path) -> None:
    """A server that is told to stop ends its streams at once, also one that nobody reads, and waits for none."""
    with running_server(tmp_path / "data") as server, http_of(server) as http:
        with wire.writing(server.grpc, wire.hello("r")) as stream:
            for number in range(10):
                steps = [float(step) for step in range(number * 40_000, (number + 1) * 40_000)]
                times = [wire.START_US + int(step) for step in steps]
                stream.commit(wire.batch(number + 1, ["loss"] if not number else [], [], []))
                batch = wire.batch(number + 1)
                batch.frames.append(wire.group(1, steps, [[step] for step in steps], times))
                stream.commit(batch)
        stalled = open_stream(http, "/api/v1/projects/p/live?runs=r&metrics=loss&from_now=false")
        with stalled, listening(http, runs="r", metrics="loss") as heard:
            begun_s = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - begun_s < DRAIN_S - 2
            assert heard.ended.wait(10), "the stream broke off"


@contextmanager
def http_of(server: ServerProcess) -> Iterator[httpx.Client]:
    """A client of a server's API."""
    with httpx.Client(base_url=f"{server.url}/api/v1", timeout=60) as http:
        yield http
