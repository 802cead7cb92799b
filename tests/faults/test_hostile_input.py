"""Whatever one client sends, the server stays up and its other clients notice nothing."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import grpc
import httpx
import psutil
import pytest

from tests.support import wire
from tests.support.waiting import wait_until
from thalweg.testing import ServerProcess, running_server
from thalweg.wire import limits
from thalweg.wire.v1 import records_pb2 as pb

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The server that must survive all of this."""
    with running_server(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def stream_of_neighbour(server: ServerProcess) -> Iterator[wire.WriterStream]:
    """One stream that is open all the time."""
    with wire.writing(server.grpc, wire.hello("neighbour", writer=1)) as stream:
        stream.commit(wire.batch(next(_numbers), ["loss"], [0], [[0]]))
        yield stream


@pytest.fixture(autouse=True)
def neighbour(server: ServerProcess, stream_of_neighbour: wire.WriterStream) -> Iterator[Callable[[], None]]:
    """Another client: it logs, is acknowledged and reads its points back; after each test, and when asked."""

    def goes_on() -> None:
        step = next(_numbers)
        message = pb.Batch(sequence=step, frames=[wire.group(1, [step], [[step]], [wire.START_US + step])])
        assert stream_of_neighbour.commit(message) == []
        body = {"runs": ["neighbour"], "metrics": ["loss"], "points": None, "from": step}
        assert server.client.post("/projects/p/series", body)["series"][0]["value"] == [step]

    yield goes_on
    assert server.process.poll() is None
    goes_on()


def port_of(server: ServerProcess, what: str) -> tuple[str, int]:
    """Host and port of one of the server's doors."""
    host, _, port = (server.grpc if what == "grpc" else urlsplit(server.url).netloc).rpartition(":")
    return host, int(port)


GARBAGE = [
    b"\0" * 4096,
    b"\xff\xfe\xfd" * 1000,
    b"GET /../../etc/passwd HTTP/9.9\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 2000,
    b"POST /api/v1/projects/p/series HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n{}",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000,
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("what", ["grpc", "http"])
@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_on_a_port_hurts_nobody(server: ServerProcess, what: str, garbage: bytes) -> None:
    """The connection may end; the server does not."""
    with socket.create_connection(port_of(server, what), timeout=30) as peer:
        try:
            peer.sendall(garbage)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(65_536):
                pass
        except OSError:
            pass  # the server hung up first
    assert server.process.poll() is None
    assert server.client.get("/health")["status"] == "ok"
    with wire.writing(server.grpc, wire.hello("after-garbage", writer=6)) as stream:
        assert stream.commit(wire.batch(1, ["loss"], [1], [[1]])) == []


def test_a_message_that_is_no_message_ends_its_stream(server: ServerProcess) -> None:
    """Bytes that are not protobuf: an error, not a stream that hangs."""
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.stream_stream("/thalweg.wire.v1.Ingest/Stream")(iter([b"\xff" * 100]), timeout=30)
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
    assert caught.value.code() != grpc.StatusCode.DEADLINE_EXCEEDED


def test_an_unknown_method_is_unimplemented(server: ServerProcess) -> None:
    """A client of another protocol is told so."""
    with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/other.Service/Method")(b"", timeout=30)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_an_oversized_message_ends_its_stream(server: ServerProcess) -> None:
    """More than MESSAGE_MAX_BYTES: RESOURCE_EXHAUSTED, not memory."""
    with wire.writing(server.grpc, wire.hello("big", writer=2)) as stream:
        stream.send(pb.Batch(sequence=1, frames=[pb.FrameGroup(schema=1, values=bytes(limits.MESSAGE_MAX_BYTES + 1))]))
        code, _ = stream.ending()
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_batch_before_hello_is_refused(server: ServerProcess) -> None:
    """The first message must be Hello."""
    with wire.writing(server.grpc, None) as stream:
        stream.send(wire.batch(1, ["loss"], [1], [[1]]))
        assert stream.ending() == (
            grpc.StatusCode.INVALID_ARGUMENT, "cannot take records: the first message must be Hello",
        )  # fmt: skip


def test_a_second_hello_is_refused_after_the_acks(server: ServerProcess) -> None:
    """What came before it is answered first."""
    with wire.writing(server.grpc, wire.hello("second", writer=3)) as stream:
        stream.send(wire.batch(1, ["loss"], [1], [[1]]))
        stream.send(wire.hello("second", writer=3))
        assert stream.answer() == pb.Ack(writer=wire.writer_id(3), sequence=1)
        assert stream.ending()[0] == grpc.StatusCode.INVALID_ARGUMENT


def test_an_empty_message_is_refused(server: ServerProcess) -> None:
    """A message of no kind, such as a later version's, is an error with a word."""
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.stream_stream("/thalweg.wire.v1.Ingest/Stream")(iter([b""]), timeout=30)
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_silent_clients_hold_up_nobody(server: ServerProcess, neighbour: Callable[[], None]) -> None:
    """Fifty streams that say Hello, or nothing at all, and then stay."""
    with grpc.insecure_channel(server.grpc) as channel:
        streams = [
            wire.WriterStream(channel, wire.hello(f"silent-{number % 5}", writer=100 + number) if number % 2 else None)
            for number in range(50)
        ]
        neighbour()
        for stream in streams:
            stream.break_off()


def test_a_client_that_reads_no_ack_is_no_longer_read(server: ServerProcess, neighbour: Callable[[], None]) -> None:
    """Its batches are bounded; when it reads at last, all its acks come, in order."""
    with wire.writing(server.grpc, wire.hello("deaf", writer=4)) as stream:
        stream.send(wire.batch(1, ["loss"], [0], [[0]]))
        for number in range(2, 3000):
            stream.send(pb.Batch(sequence=number))
        neighbour()
        for number in range(1, 3000):
            assert stream.answer().sequence == number


def test_a_client_that_dies_in_the_middle_leaves_whole_batches(server: ServerProcess) -> None:
    """Of a batch either all frames are there or none."""
    with wire.writing(server.grpc, wire.hello("dying", writer=5)) as stream:
        stream.commit(wire.batch(1, ["a", "b"], [0], [[0, 0]]))
        for number in range(2, 200):
            steps = range(10 * number, 10 * number + 10)
            stream.send(pb.Batch(sequence=number, frames=[wire.group(1, steps, [[1, 2]] * 10)]))
    body = {"runs": ["dying"], "metrics": ["a", "b"], "points": None}

    def settled() -> bool:
        a, b = server.client.post("/projects/p/series", body)["series"]
        assert a["x"] == b["x"]
        return len(a["x"]) % 10 == 1

    wait_until(settled)


def test_a_schema_of_a_million_names_is_refused(server: ServerProcess, neighbour: Callable[[], None]) -> None:
    """More names than a frame may have: refused as a whole, with one answer; the frames are refused too."""
    names = [f"n{number}" for number in range(1_000_000)]
    with wire.writing(server.grpc, wire.hello("wide", writer=6)) as stream:
        stream.send(wire.batch(1, names, [1], [range(len(names))]))
        neighbour()
        words = [stream.answer() for _ in range(3)]
    reasons = {pb.Rejected.Reason.Name(one.reason): one.points for one in words[:2] if isinstance(one, pb.Rejected)}
    assert reasons == {"REJECTED_MALFORMED": 0, "REJECTED_UNKNOWN_SCHEMA": 1_000_000}
    assert words[2] == pb.Ack(writer=wire.writer_id(6), sequence=1)


def test_the_widest_schema_is_taken(server: ServerProcess, neighbour: Callable[[], None]) -> None:
    """As many names as a frame may have, registered while others go on."""
    names = [f"n{number}" for number in range(limits.FRAME_MAX_POINTS)]
    with wire.writing(server.grpc, wire.hello("widest", writer=7)) as stream:
        stream.send(wire.batch(1, names, [1], [range(len(names))]))
        neighbour()
        assert stream.answer() == pb.Ack(writer=wire.writer_id(7), sequence=1)


def test_a_great_many_refusals_are_one_answer_a_reason(server: ServerProcess, neighbour: Callable[[], None]) -> None:
    """A message of small wrong things is not answered by a larger one."""
    bad = pb.Batch(
        sequence=1,
        schemas=[pb.Schema(id=1, names=[""] * 100_000)],
        frames=[pb.FrameGroup(schema=9)] * 100_000,
        events=[pb.Event()] * 10_000,
    )
    with wire.writing(server.grpc, wire.hello("many", writer=8)) as stream:
        stream.send(bad)
        neighbour()
        words = [stream.answer() for _ in range(4)]
    assert isinstance(words[3], pb.Ack)
    assert sum(word.ByteSize() for word in words) < 10_000


def test_more_parts_than_a_batch_may_have_end_the_stream(server: ServerProcess) -> None:
    """Empty groups cost two bytes each: their number is limited, not only their size."""
    bad = pb.Batch(sequence=1, frames=[pb.FrameGroup(schema=9)] * (limits.BATCH_MAX_PARTS + 1))
    with wire.writing(server.grpc, wire.hello("parts", writer=9)) as stream:
        stream.send(bad)
        code, told = stream.ending()
    assert (code, "groups" in told) == (grpc.StatusCode.INVALID_ARGUMENT, True)


ODD_ATTRIBUTES = {
    "config.deep": "[" * 100_000 + "]" * 100_000,
    "config.deeper": "[" * 900 + "]" * 900,
    "config.nested": '{"a":' * 400 + "1" + "}" * 400,
    "config." + ".".join("p" * 500): "1",
    "config.nan": "NaN",
    "config.infinite": "-Infinity",
    "config.cut": '{"a": 1',
    "config.digits": "1" * 5000,
    "confg.lr": "1",
    "config": "1",
}


@pytest.mark.parametrize("path", ODD_ATTRIBUTES, ids=lambda path: path[:20])
def test_a_bad_attribute_is_refused_alone(server: ServerProcess, path: str) -> None:
    """The others of the same event are set, and the run can be read."""
    pairs = {"config.good": "1", path: ODD_ATTRIBUTES[path], "run.name": '"name"'}
    event = pb.Event(
        time_us=wire.START_US,
        attributes=pb.AttributesSet(attributes=[pb.Attribute(path=key, json=text) for key, text in pairs.items()]),
    )
    run_id = f"attributes-{list(ODD_ATTRIBUTES).index(path)}"
    with wire.writing(server.grpc, wire.hello(run_id, writer=11)) as stream:
        (refused,) = stream.commit(wire.batch(1, events=[event]))
    assert refused.reason == pb.Rejected.REJECTED_EVENT
    run = server.client.get(f"/projects/p/runs/{run_id}")
    assert (run["config"], run["name"]) == ({"good": 1}, "name")


def test_odd_values_are_stored_and_shown(server: ServerProcess) -> None:
    """JSON that programs find hard, and a name and notes that are no text: the run and the list can be read."""
    values = {
        "config.huge": "1e400",
        "config.surrogate": '"\\ud800"',
        "config.\\": '"\\u0000"',
        "config.big": "123456789012345678901234567890",
        "config." + ".".join("p" * 60): "[" * 60 + "]" * 60,
        "run.name": "[5]",
        "run.notes": '{"a": 1}',
        "run.notes.more": "null",
        "tags.": "true",
    }
    event = pb.Event(
        time_us=wire.START_US,
        attributes=pb.AttributesSet(attributes=[pb.Attribute(path=key, json=text) for key, text in values.items()]),
    )
    with wire.writing(server.grpc, wire.hello("odd", writer=12, project="odd")) as stream:
        assert stream.commit(wire.batch(1, events=[event])) == []
    run = server.client.get("/projects/odd/runs/odd")
    assert run["config"]["huge"] == "Infinity"
    assert run["config"]["big"] == 123456789012345678901234567890
    assert run["config"]["\\"] == "\0"
    assert isinstance(run["config"]["surrogate"], str)
    assert (run["name"], run["tags"]) == ("[5]", [""])
    assert server.client.get("/projects/odd/runs")["runs"][0]["run_id"] == "odd"


@pytest.mark.parametrize("outcome", [0, 99])
def test_an_unknown_outcome_is_refused(server: ServerProcess, outcome: int) -> None:
    """A last word that this version does not know neither stops others' commits nor breaks the list of runs."""
    event = pb.Event(time_us=wire.START_US, ended=pb.WriterEnded(outcome=outcome))  # type: ignore[arg-type]
    with wire.writing(server.grpc, wire.hello("outcome", writer=13, project="outcome")) as stream:
        (refused,) = stream.commit(wire.batch(1, ["loss"], [1], [[1]], events=[wire.started(), event]))
    assert refused.reason == pb.Rejected.REJECTED_EVENT
    assert [run["run_id"] for run in server.client.get("/projects/outcome/runs")["runs"]] == ["outcome"]


def test_a_large_body_is_refused_unread(server: ServerProcess) -> None:
    """413 for a body past the limit, told or chunked, without holding it in memory."""
    before = psutil.Process(server.process.pid).memory_info().rss
    host, port = port_of(server, "http")
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.putrequest("POST", "/api/v1/projects/p/series")
    connection.putheader("Content-Length", str(10 << 30))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]["code"]) == (413, "too_large")
    connection.close()

    def endless() -> Iterator[bytes]:
        for _ in range(300):
            yield bytes(1 << 20)

    try:
        found = httpx.post(f"{server.url}/api/v1/projects/p/series", content=endless(), timeout=60)
        assert (found.status_code, found.json()["error"]["code"]) == (413, "too_large")
    except httpx.TransportError:
        pass  # the server hung up while we were still talking
    assert psutil.Process(server.process.pid).memory_info().rss - before < 200 << 20
