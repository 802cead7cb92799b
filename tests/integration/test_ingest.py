"""The ingest over real gRPC: what is acknowledged is stored, once, and in the right order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support import wire
from tests.support.waiting import wait_until
from thalweg.testing import STOP_TIMEOUT_S, ServerProcess, running_server
from thalweg.wire.v1 import records_pb2 as pb


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for the tests that do not break it."""
    with running_server(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


def series(server: ServerProcess, run_id: str, name: str, **more: Any) -> list[dict[str, Any]]:
    """The series of one metric; exact unless `points` says otherwise."""
    body = {"runs": [run_id], "metrics": [name], "points": None, **more}
    found: list[dict[str, Any]] = server.client.post(f"/projects/{wire.PROJECT}/series", body)["series"]
    return found


def exact(server: ServerProcess, run_id: str, name: str) -> dict[float, float]:
    """Step to value."""
    (one,) = series(server, run_id, name)
    assert len(one["x"]) == len(set(one["x"])), one
    return dict(zip(one["x"], one["value"], strict=True))


def metrics(server: ServerProcess, run_id: str) -> dict[str, dict[str, Any]]:
    """What the list of metrics says, by name."""
    page = server.client.get(f"/projects/{wire.PROJECT}/runs/{run_id}/metrics")
    return {metric["name"]: metric for metric in page["metrics"]}


def seen(server: ServerProcess, run_id: str, name: str) -> dict[str, Any]:
    """Everything that the API tells of a metric and of the run's health, but for the time of last contact."""
    run = server.client.get(f"/projects/{wire.PROJECT}/runs/{run_id}")
    writers = [{**writer, "last_seen_at": None} for writer in run["health"]["writers"]]
    return {
        "exact": series(server, run_id, name, with_time=True),
        "by_rank": series(server, run_id, name, by_rank=True),
        "buckets": series(server, run_id, name, points=3),
        "metrics": metrics(server, run_id),
        "health": {**run["health"], "writers": writers},
        "last_step": run["last_step"],
    }


def test_acks_come_in_order_and_after_the_commit(server: ServerProcess) -> None:
    """At each ack the points of its batch can be read."""
    with wire.writing(server.grpc, wire.hello("order")) as stream:
        for number in range(1, 4):
            stream.commit(wire.batch(number, ["loss"] if number == 1 else [], (), ()))
            stream.send(pb.Batch(sequence=10 * number, frames=[wire.group(1, [number], [[number / 2]])]))
            word = stream.answer()
            assert isinstance(word, pb.Ack), word
            assert (word.writer, word.sequence) == (wire.writer_id(1), 10 * number)
            assert exact(server, "order", "loss") == {float(step): step / 2 for step in range(1, number + 1)}
        batches = [pb.Batch(sequence=100 + n, frames=[wire.group(1, [100 + n], [[n]])]) for n in range(200)]
        assert stream.commit(*batches) == []
        assert len(exact(server, "order", "loss")) == 203


def test_a_batch_sent_twice_changes_nothing(server: ServerProcess) -> None:
    """Points, buckets, statistics and health are those of one delivery: on one stream, on a new one, in any order."""
    events = [wire.started(), wire.attributes(config__lr="0.1")]
    first = wire.batch(
        1, ["a", "b"], [1, 2, 3], [[1, 5], [3, math.nan], [2, -5]], events=events, counters={"logged": 6}
    )
    second = wire.batch(
        2,
        ["a", "b"],
        [4, 5],
        [[-7, 0], [9, math.inf]],
        [wire.START_US + 10, wire.START_US + 11],
        counters={"logged": 10},
    )
    with wire.writing(server.grpc, wire.hello("twice")) as stream:
        stream.commit(first, second)
        before = seen(server, "twice", "a"), seen(server, "twice", "b")
        assert sum(before[0]["buckets"][0]["n"]) == 5
        for one in (first, second):
            one.resent = True
        stream.commit(first)
    assert (seen(server, "twice", "a"), seen(server, "twice", "b")) == before
    with wire.writing(server.grpc, wire.hello("twice")) as stream:
        stream.commit(second, first)
        stream.commit(first, second)
    assert (seen(server, "twice", "a"), seen(server, "twice", "b")) == before


def test_a_sender_that_forgot_what_it_sent_doubles_nothing(server: ServerProcess) -> None:
    """After a power loss or from a copied folder, batches come again without a mark; the server knows better."""
    batches = [wire.batch(n, ["a"] if n == 1 else [], [float(n)], [[float(n)]]) for n in (1, 2, 3)]
    for acknowledged in (0, 0, 1):
        greeting = wire.hello("forgot")
        greeting.acknowledged = acknowledged
        with wire.writing(server.grpc, greeting) as stream:
            stream.commit(wire.batch(0, ["a"], (), ()), *batches[acknowledged:])
            assert sum(seen(server, "forgot", "a")["buckets"][0]["n"]) == 3


def test_ranks_stand_side_by_side(server: ServerProcess) -> None:
    """A series is the mean of its ranks at each step; by_rank shows each; extremes are over all."""
    for rank, values in ((0, [1.0, 2.0, 3.0]), (1, [3.0, 6.0])):
        with wire.writing(server.grpc, wire.hello("ranks", writer=10 + rank, rank=rank)) as stream:
            stream.commit(wire.batch(1, ["loss"], range(len(values)), [[value] for value in values]))
    assert exact(server, "ranks", "loss") == {0.0: 2.0, 1.0: 4.0, 2.0: 3.0}
    by_rank = series(server, "ranks", "loss", by_rank=True)
    assert [(one["rank"], one["value"]) for one in by_rank] == [(0, [1.0, 2.0, 3.0]), (1, [3.0, 6.0])]
    found = metrics(server, "ranks")["loss"]
    assert (found["ranks"], found["last"], found["last_step"], found["min"], found["max"]) == (2, 3.0, 2.0, 1.0, 6.0)
    assert (found["argmin"], found["argmax"]) == (0.0, 1.0)


def test_the_latest_time_wins_between_two_writers(server: ServerProcess) -> None:
    """Where two processes of one rank wrote a step, the point with the later time is the point, whoever came first."""
    with wire.writing(server.grpc, wire.hello("overlap", writer=20)) as late:
        late.commit(
            wire.batch(1, ["loss"], [3, 4, 5], [[30], [40], [50]], [wire.START_US + n for n in (100, 101, 102)])
        )
        with wire.writing(server.grpc, wire.hello("overlap", writer=21)) as early:
            rows = [[-1000], [1], [2], [1000]]
            early.commit(wire.batch(1, ["loss"], [1, 2, 3, 4], rows, [wire.START_US + n for n in range(4)]))
    assert exact(server, "overlap", "loss") == {1.0: -1000.0, 2.0: 1.0, 3.0: 30.0, 4.0: 40.0, 5.0: 50.0}
    (buckets,) = series(server, "overlap", "loss", points=1)
    assert (buckets["n"], buckets["min"], buckets["max"], buckets["last"]) == ([5], [-1000.0], [50.0], [50.0])
    assert buckets["mean"] == [pytest.approx((-1000 + 1 + 30 + 40 + 50) / 5)]
    found = metrics(server, "overlap")["loss"]
    assert {key: found[key] for key in ("min", "argmin", "max", "argmax", "last", "first_step", "last_step")} == {
        "min": -1000.0, "argmin": 1.0, "max": 50.0, "argmax": 5.0, "last": 50.0, "first_step": 1.0, "last_step": 5.0,
    }  # fmt: skip


@pytest.mark.parametrize("apart", [False, True])
def test_a_step_logged_again_is_overwritten(server: ServerProcess, apart: bool) -> None:
    """The later point stands, in one batch or in two, and nothing shows the earlier one."""
    run_id = f"relogged-{apart}"
    times = [wire.START_US + n for n in range(4)]
    with wire.writing(server.grpc, wire.hello(run_id)) as stream:
        if apart:
            stream.commit(wire.batch(1, ["loss"], [1, 2], [[500], [-500]], times[:2]))
            stream.commit(wire.batch(2, ["loss"], [1, 2], [[1], [2]], times[2:], relogged=True))
        else:
            stream.commit(wire.batch(1, ["loss"], [1, 2, 1, 2], [[500], [-500], [1], [2]], times, relogged=True))
    assert exact(server, run_id, "loss") == {1.0: 1.0, 2.0: 2.0}
    found = metrics(server, run_id)["loss"]
    assert (found["min"], found["max"], found["last"], found["argmin"], found["argmax"]) == (1.0, 2.0, 2.0, 1.0, 2.0)
    (buckets,) = series(server, run_id, "loss", points=10)
    assert (sum(buckets["n"]), min(buckets["min"]), max(buckets["max"])) == (2, 1.0, 2.0)


def test_negative_zero_is_the_step_zero(server: ServerProcess) -> None:
    """-0.0 and 0.0 are one step, within a rank and between ranks."""
    with wire.writing(server.grpc, wire.hello("zero", writer=30)) as stream:
        stream.commit(wire.batch(1, ["loss"], [0.0], [[1]]))
        stream.commit(wire.batch(2, ["loss"], [-0.0], [[2]], [wire.START_US + 5], relogged=True))
    with wire.writing(server.grpc, wire.hello("zero", writer=31, rank=1)) as stream:
        stream.commit(wire.batch(1, ["loss"], [-0.0], [[4]]))
    assert exact(server, "zero", "loss") == {0.0: 3.0}


def test_a_new_stream_goes_on_after_a_break(server: ServerProcess) -> None:
    """The server asks nothing of a writer that comes back: it declares its schemas again and goes on."""
    for number in range(3):
        with wire.writing(server.grpc, wire.hello("break")) as stream:
            stream.commit(wire.batch(number + 1, ["loss"], [number], [[number]]))
    assert exact(server, "break", "loss") == {0.0: 0.0, 1.0: 1.0, 2.0: 2.0}


def test_an_id_that_is_named_again_has_a_new_meaning(server: ServerProcess) -> None:
    """Frames belong to the schema as it stood when they came."""
    with wire.writing(server.grpc, wire.hello("renamed")) as stream:
        stream.commit(wire.batch(1, ["a"], [1], [[1]]), wire.batch(2, ["b", "a"], [2], [[20, 2]]))
    assert exact(server, "renamed", "a") == {1.0: 1.0, 2.0: 2.0}
    assert exact(server, "renamed", "b") == {2.0: 20.0}


def test_what_is_wrong_is_refused_and_the_rest_is_stored(server: ServerProcess) -> None:
    """Each refusal names the batch, the reason and the number of points, and comes before the ack."""
    long_name = "x" * 1025
    wrong = pb.Batch(
        sequence=7,
        schemas=[pb.Schema(id=1, names=["good"]), pb.Schema(id=2, names=["fine", "", long_name])],
        frames=[
            wire.group(1, [1, math.nan, 2], [[1], [2], [3]]),
            wire.group(1, [3, 4], [[4], [5]], [-1, wire.START_US]),
            wire.group(2, [1], [[1, 2, 3]]),
            wire.group(9, [1], [[1, 2]]),
            pb.FrameGroup(schema=1, steps=bytes(8), times=bytes(8), values=bytes(17)),
        ],
        events=[wire.attributes(config__ok="1"), wire.attributes(config__bad="{"), wire.attributes(nowhere="1")],
    )
    with wire.writing(server.grpc, wire.hello("refused")) as stream:
        refused = stream.commit(wrong)
    reasons: dict[str, int] = {}
    for one in refused:
        reason = pb.Rejected.Reason.Name(one.reason)
        reasons[reason] = reasons.get(reason, 0) + one.points
        assert one.message
    assert reasons == {
        "REJECTED_STEP": 1,
        "REJECTED_TIME": 1,
        "REJECTED_NAME": 2,
        "REJECTED_UNKNOWN_SCHEMA": 2,
        "REJECTED_MALFORMED": 2,
        "REJECTED_EVENT": 0,
    }
    assert exact(server, "refused", "good") == {1.0: 1.0, 2.0: 3.0, 4.0: 5.0}
    assert exact(server, "refused", "fine") == {1.0: 1.0}
    assert server.client.get("/projects/p/runs/refused")["config"] == {"ok": 1}


def test_a_batch_without_a_single_good_name_is_acknowledged(server: ServerProcess) -> None:
    """Nothing to store is no failure: the refusals and the ack come."""
    with wire.writing(server.grpc, wire.hello("nothing")) as stream:
        refused = stream.commit(wire.batch(1, ["", "y" * 2000], [1, 2], [[1, 2], [3, 4]]))
        assert sum(one.points for one in refused) == 4
        assert stream.commit(wire.batch(2, ["fine"], [1], [[1]])) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"protocol": 0}, "protocol 0"),
        ({"protocol": 99}, "protocol 99"),
        ({"writer": ""}, "writer"),
        ({"writer": "X" * 32}, "writer"),
        ({"project": ""}, "project"),
        ({"project": "a/b"}, "project"),
        ({"project": "é" * 65}, "project"),
        ({"run_id": ""}, "run_id"),
        ({"run_id": "tab\there"}, "run_id"),
        ({"run_id": ".."}, "run_id"),
        ({"rank": 65_536}, "rank"),
    ],
)
def test_a_bad_hello_is_refused_for_good(server: ServerProcess, change: dict[str, Any], told: str) -> None:
    """INVALID_ARGUMENT, with a sentence that names the field: the sender will not try again."""
    greeting = wire.hello("hello")
    for key, value in change.items():
        setattr(greeting, key, value)
    with wire.writing(server.grpc, greeting) as stream:
        code, details = stream.ending()
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert told in details


def test_what_was_said_before_the_end_is_answered(server: ServerProcess) -> None:
    """A client that closes its side gets the acks of everything it sent, then OK."""
    with wire.writing(server.grpc, wire.hello("closing")) as stream:
        for number in range(20):
            stream.send(wire.batch(number + 1, ["loss"], [number], [[number]]))
        words = stream.end()
    assert [word.sequence for word in words] == list(range(1, 21))
    assert len(exact(server, "closing", "loss")) == 20


def _acked_from(stream: wire.WriterStream, last: int) -> int:
    """Reads all answers after `last`; the last sequence that was acknowledged. Asserts that none is left out."""
    try:
        while True:
            word = stream.answer()
            assert word.sequence == last + 1, (word, last)
            last = word.sequence
    except (grpc.RpcError, StopIteration):
        return last


@pytest.mark.parametrize("kill", [False, True])
def test_what_was_acked_survives_the_end_of_the_server(tmp_path: Path, kill: bool) -> None:
    """SIGTERM or kill -9 in the middle of a stream: every acknowledged batch is there after a restart."""
    server = ServerProcess(tmp_path / "data")
    with wire.writing(server.grpc, wire.hello("survivor")) as stream:
        stream.commit(wire.batch(1, ["a", "b"], [1], [[1, 2]]))
        for number in range(2, 400):
            stream.send(pb.Batch(sequence=number, frames=[wire.group(1, [number], [[number, 2 * number]])]))
        if kill:
            wait_until(lambda: len(exact(server, "survivor", "a")) > 1)
            server.kill()
            last = _acked_from(stream, 1)
        else:
            server.process.terminate()
            last = _acked_from(stream, 1)
            server.process.wait(STOP_TIMEOUT_S)  # first: a second signal would end it at once
            assert server.stop() == 0
    assert last >= 1
    with running_server(tmp_path / "data") as again:
        for name, factor in (("a", 1), ("b", 2)):
            points = exact(again, "survivor", name)
            assert {step: points.get(step) for step in map(float, range(1, last + 1))} == {
                float(step): float(factor * step) for step in range(1, last + 1)
            }
        listed = metrics(again, "survivor")
        assert set(listed) == {"a", "b"}
        assert listed["a"]["last_step"] >= last
