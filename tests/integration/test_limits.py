"""Limits of tokens and projects over real sockets: clear answers, and nothing lost on the writer's side."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import httpx
import pytest

from tests.support import wire
from tests.support.access import Guarded, guarded
from tests.support.spools import append, new_folder, small_writer
from thalweg.api_client import ApiClient
from thalweg.checkpoints.transfer import Pace
from thalweg.checkpoints.upload import Uploaded, upload
from thalweg.checkpoints.upload_state import Target
from thalweg.errors import CheckpointError, ServerError
from thalweg.sender.delivery import Delivery
from thalweg.sender.transport import GrpcTransport, RetryLaterError, Stream
from thalweg.sender.watch import Ending
from thalweg.wire import policy
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.model.access import LIMIT_VARIABLES


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server without limits of its own: tokens bring theirs."""
    with guarded(tmp_path_factory.mktemp("limits") / "data") as running:
        yield running


def values(running: Guarded, run_id: str) -> list[float]:
    """The points of a run's metric `loss`."""
    body = {"runs": [run_id], "metrics": ["loss"], "points": None}
    answer = running.ask("POST", "/projects/p/series", running.admin, json=body)
    found: list[float] = answer.json()["series"][0]["value"]
    return found


def test_requests_past_their_rate(running: Guarded) -> None:
    """429 with the seconds to wait; another token is not concerned."""
    slow = running.token("read", "p", limits={"requests_per_s": 0.001})
    assert running.ask("GET", "/projects", slow).status_code == 200
    refused = running.ask("GET", "/projects", slow)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 1000
    assert refused.json()["error"]["code"] == "limited"
    assert running.ask("GET", "/projects", running.admin).status_code == 200


def test_queries_past_their_cost(running: Guarded) -> None:
    """What an answer took is paid off before the next one;"""
    slow = running.token("read", "p", limits={"query_seconds_per_s": 1e-9})
    statuses = [running.ask("GET", "/projects", slow).status_code for _ in range(3)]
    assert statuses == [200, 429, 429]


def test_streams_past_their_number(running: Guarded) -> None:
    """RESOURCE_EXHAUSTED with a delay; one that ends makes room."""
    token = running.token("write", "p", limits={"streams": 1})
    with wire.writing(running.server.grpc, wire.hello("one", writer=1), token) as first:
        assert first.commit(wire.batch(1, ["loss"], [1], [[1.0]])) == []
        with wire.writing(running.server.grpc, wire.hello("two", writer=2), token) as second:
            code, details = second.ending()
            delays = [value for key, value in second.call.trailing_metadata() if key == policy.RETRY_AFTER]
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "1 open streams, its most" in details
        assert [int(delay) > 0 for delay in delays] == [True]
        first.end()
    with wire.writing(running.server.grpc, wire.hello("two", writer=2), token) as second:
        assert second.commit(wire.batch(1, ["loss"], [1], [[1.0]])) == []


def test_points_past_their_rate(running: Guarded) -> None:
    """A batch that goes beyond it is taken in, and delays the next; far beyond it the stream ends, with its delay.

    What was acknowledged is there, what was refused is not.
    """
    token = running.token("write", "p", limits={"points_per_s": 1})
    many = [float(number) for number in range(1000)]
    with wire.writing(running.server.grpc, wire.hello("fast", writer=3), token) as stream:
        assert stream.commit(wire.batch(1, ["loss"], many, [[one] for one in many])) == []
    with wire.writing(running.server.grpc, wire.hello("fast", writer=3), token) as stream:
        stream.send(wire.batch(2, ["loss"], [2000], [[1.0]]))
        code, details = stream.ending()
        (delay,) = [value for key, value in stream.call.trailing_metadata() if key == policy.RETRY_AFTER]
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "points per s of 1" in details
    assert 900_000 < int(delay) <= 1_000_000
    assert values(running, "fast") == many


def test_the_sender_is_told_the_delay(running: Guarded) -> None:
    """As what it waits for, at most ten minutes of it."""
    token = running.token("write", "p", limits={"points_per_s": 1})
    big = wire.batch(1, ["loss"], range(5000), [[0.0]] * 5000)

    async def told() -> RetryLaterError:
        transport = GrpcTransport(running.server.url, token)
        async with transport.open(wire.hello("told", writer=4)) as stream:
            await stream.send(big)
            assert isinstance(await stream.receive(), pb.Ack)
        async with transport.open(wire.hello("told", writer=4)) as stream:
            await stream.send(wire.batch(2, ["loss"], [9000], [[0.0]]))
            with pytest.raises(RetryLaterError) as caught:
                await stream.receive()
        return caught.value

    assert asyncio.run(told()).after_s == policy.RETRY_AFTER_MOST_MS / 1e3


class Listening(GrpcTransport):
    """Keeps what streams ended with."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(url, token)
        self.endings: list[RetryLaterError] = []

    @asynccontextmanager
    async def open(self, hello: pb.Hello) -> AsyncIterator[Stream]:
        try:
            async with super().open(hello) as stream:
                yield stream
        except RetryLaterError as error:
            self.endings.append(error)
            raise


def test_a_sender_that_is_refused_comes_back(running: Guarded, tmp_path: Path) -> None:
    """After the delay, and nothing is lost: one writer's points are another's delay."""
    token = running.token("write", "p", limits={"points_per_s": 10_000})
    many = [float(number) for number in range(130_000)]
    with wire.writing(running.server.grpc, wire.hello("first", writer=7), token) as stream:
        assert stream.commit(wire.batch(1, ["loss"], many, [[one] for one in many])) == []
    folder = new_folder(tmp_path / "spool", run_id="second", url=running.server.url)
    spool = small_writer(folder)
    for step in range(10):
        append(spool, {"loss": float(step)}, step)
    spool.close()
    transport = Listening(running.server.url, token)
    delivery = Delivery(folder, transport, ending=lambda: Ending(0, None))
    asyncio.run(delivery.run())
    delivery.close()
    assert any(one.after_s > 0 and "RESOURCE_EXHAUSTED" in str(one) for one in transport.endings), transport.endings
    assert values(running, "second") == [float(step) for step in range(10)]


def test_the_client_is_told_the_delay(running: Guarded) -> None:
    """In words, and as a number."""
    client = ApiClient(running.server.url, running.token("read", "p", limits={"requests_per_s": 0.001}))
    client.get("/projects")
    with pytest.raises(ServerError, match=r"past its requests per s of 0.001. Ask again in \d+ s\.") as caught:
        client.get("/projects")
    assert caught.value.code == "limited"
    assert 900 < caught.value.retry_after_s <= 1000


def test_an_upload_waits_for_its_turn(running: Guarded, tmp_path: Path) -> None:
    """As long as it is told, and arrives; what is told to come later than it would wait, it gives up at once."""
    waits_s: list[float] = []

    def wait(stopped: threading.Event, seconds: float) -> None:
        waits_s.append(seconds)
        stopped.wait(seconds)

    def send(token: str, number: int) -> Uploaded:
        while running.ask("GET", "/projects", token).status_code == 200:
            pass
        client, target = ApiClient(running.server.url, token), Target("p", "saved", None, number, "full")
        return upload(client, source, target, state_path=tmp_path / f"{number}.json", pace=Pace(wait))

    running.log("p", "saved", {3.0: 0.5}, writer=8)
    source = tmp_path / "weights"
    source.write_bytes(b"w" * 1000)
    done = send(running.token("write", "p", limits={"requests_per_s": 0.5}), 1)
    assert done.size_bytes == 1000
    assert waits_s
    assert min(waits_s) >= 1
    waits_s.clear()
    with pytest.raises(CheckpointError, match=r"Ask again in \d+ s\. Tried once"):
        send(running.token("write", "p", limits={"requests_per_s": 0.001}), 2)
    assert waits_s == []


def test_metrics_past_their_number(running: Guarded) -> None:
    """Refused with a reason and counted; those that the run has go on, on a new stream too."""
    token = running.token("write", "p", limits={"metrics_per_run": 2})
    for writer in (5, 6):
        with wire.writing(running.server.grpc, wire.hello("wide", writer=writer), token) as stream:
            refused = stream.commit(wire.batch(1, ["loss", "acc", "more"], [writer], [[1.0, 2.0, 3.0]]))
        ((reason, points),) = [(one.reason, one.points) for one in refused]
        assert (reason, points) == (pb.Rejected.REJECTED_LIMIT, 1)
    listed = running.ask("GET", "/projects/p/runs/wide/metrics", running.admin).json()["metrics"]
    assert [one["name"] for one in listed] == ["acc", "loss"]
    assert values(running, "wide") == [1.0, 1.0]


def test_limits_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold for each project over all of its tokens; a token's own limit does not lift that of the project."""
    monkeypatch.setenv("THALWEG_LIMIT_REQUESTS_PER_S", "0.001")
    with guarded(tmp_path / "data") as running:
        headers = [{"Authorization": f"Bearer {running.admin}"}]
        made = httpx.post(
            f"{running.server.url}/api/v1/tokens",
            json={"role": "read", "limits": {"requests_per_s": 0}},
            headers=headers[0],
        )
        free = made.json()["token"]
        statuses = [running.ask("GET", "/projects/p/runs", free).status_code for _ in range(2)]
        assert statuses == [200, 429]
        assert running.ask("GET", "/projects/q/runs", free).status_code == 200
        assert running.ask("GET", "/projects", running.admin).status_code == 429


@contextmanager
def reading(running: Guarded, token: str, project: str, writer: int) -> Iterator[str]:
    """One request about a project; what is said of its refusal."""
    answer = running.ask("GET", f"/projects/{project}/runs", token)
    yield "" if answer.status_code == 200 else answer.json()["error"]["message"]


@contextmanager
def writing(running: Guarded, token: str, project: str, writer: int) -> Iterator[str]:
    """A stream that stays open, with many points of two metrics of its own; what is said of the refusal of any."""
    told = ""
    with wire.writing(running.server.grpc, wire.hello("run", writer=writer, project=project), token) as stream:
        names, steps = [f"loss{writer}", f"acc{writer}"], range(1000)
        try:
            for refused in stream.commit(wire.batch(1, names, steps, [[1.0, 2.0]] * len(steps))):
                told = pb.Rejected.Reason.Name(refused.reason)
        except grpc.RpcError:
            told = stream.ending()[1]
        yield told


@pytest.mark.parametrize(
    ("name", "limit", "using", "told"),
    [
        ("requests_per_s", 0.001, reading, "project p is past its requests per s of 0.001"),
        ("query_seconds_per_s", 1e-9, reading, "project p is past its query seconds per s of 1e-09"),
        ("points_per_s", 1, writing, "project p is past its points per s of 1"),
        ("streams", 1, writing, "project p has 1 open streams, its most"),
        ("metrics_per_run", 2, writing, "REJECTED_LIMIT"),
    ],
)
def test_a_project_has_one_limit_for_all_its_tokens(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    limit: float,
    using: Callable[[Guarded, str, str, int], AbstractContextManager[str]],
    told: str,
) -> None:
    """Each kind: what one token uses another one of the project lacks, though neither has a limit of its own.

    Another project is not concerned.
    """
    monkeypatch.setenv(LIMIT_VARIABLES[name], str(limit))
    with guarded(tmp_path / "data") as running:
        free = replace(running, admin=running.token("admin", limits={name: 0}))
        one, two, other = (free.token("write", project, limits={name: 0}) for project in ("p", "p", "q"))
        with (
            using(running, one, "p", 1) as first,
            using(running, two, "p", 2) as second,
            using(running, other, "q", 3) as third,
        ):
            assert (first, told in second, third) == ("", True, ""), second
