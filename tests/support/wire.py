"""The protocol by hand: builders of its messages, and a client that says exactly what a test wants said."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import grpc
import numpy as np

from thalweg.sender.channels import bearer_metadata
from thalweg.wire import limits, policy
from thalweg.wire.v1 import ingest_pb2, ingest_pb2_grpc
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.ingest.decode import Writer, decode_hello
from thalweg_tracker.model.keys import run_key

PROJECT: Final = "p"
START_US: Final = 1_700_000_000_000_000
STREAM_TIMEOUT_S: Final = 600


def writer_id(number: int) -> str:
    """An id of a writer; different numbers have different keys."""
    return f"{number:016x}" * 2


def hello(run_id: str, writer: int = 1, rank: int = 0, project: str = PROJECT) -> pb.Hello:
    """A greeting that the server takes."""
    return pb.Hello(
        protocol=limits.PROTOCOL, writer=writer_id(writer), project=project, run_id=run_id, rank=rank, sdk_version="0"
    )


def writer(greeting: pb.Hello) -> Writer:
    """Who says that, as a server sees it that knows of no forks: branch 0."""
    one = decode_hello(greeting)
    key = run_key(one.project, one.run_id)
    return Writer(one.project, one.run_id, 0, key, one.rank, one.writer_id, one.writer)


def group(
    schema: int,
    steps: Sequence[float],
    rows: Sequence[Sequence[float]],
    times: Sequence[int] | None = None,
    *,
    relogged: bool = False,
) -> pb.FrameGroup:
    """Frames of one schema, one row each. Times: one microsecond apart where none are given."""
    told = range(START_US, START_US + len(steps)) if times is None else times
    return pb.FrameGroup(
        schema=schema,
        steps=np.asarray(steps, "<f8").tobytes(),
        times=np.asarray(told, "<i8").tobytes(),
        values=np.asarray(rows, "<f8").tobytes(),
        relogged=relogged,
    )


def batch(
    sequence: int,
    names: Sequence[str] = (),
    steps: Sequence[float] = (),
    rows: Sequence[Sequence[float]] = (),
    times: Sequence[int] | None = None,
    *,
    resent: bool = False,
    relogged: bool = False,
    events: Iterable[pb.Event] = (),
    counters: dict[str, int] | None = None,
) -> pb.Batch:
    """A batch with one schema (id 1) and its frames."""
    return pb.Batch(
        sequence=sequence,
        schemas=[pb.Schema(id=1, names=names)] if names else [],
        frames=[group(1, steps, rows, times, relogged=relogged)] if steps else [],
        events=events,
        resent=resent,
        counters=[pb.Counter(reason=reason, points=points) for reason, points in (counters or {}).items()],
    )


def started(time_us: int = START_US, *, primary: bool = True) -> pb.Event:
    """A writer's first word."""
    return pb.Event(time_us=time_us, started=pb.WriterStarted(primary=primary, host="host", pid=7))


def ended(outcome: pb.WriterEnded.Outcome.ValueType, time_us: int = START_US + 1_000_000) -> pb.Event:
    """A writer's last word."""
    return pb.Event(time_us=time_us, ended=pb.WriterEnded(outcome=outcome, exit_code=0))


def attributes(time_us: int = START_US, **values: str) -> pb.Event:
    """Attributes set; `__` in a keyword stands for the dot."""
    pairs = [pb.Attribute(path=path.replace("__", "."), json=text) for path, text in values.items()]
    return pb.Event(time_us=time_us, attributes=pb.AttributesSet(attributes=pairs))


class WriterStream:
    """One stream to a server. Not thread-safe."""

    def __init__(self, channel: grpc.Channel, greeting: pb.Hello | None, token: str | None = None) -> None:
        self._requests: queue.SimpleQueue[ingest_pb2.ClientRecords | None] = queue.SimpleQueue()
        stub = ingest_pb2_grpc.IngestStub(channel)  # type: ignore[no-untyped-call]  # generated without types
        metadata = bearer_metadata(token)
        self.call = stub.Stream(iter(self._requests.get, None), timeout=STREAM_TIMEOUT_S, metadata=metadata)
        if greeting is not None:
            self.send(greeting)

    def send(self, message: pb.Hello | pb.Batch) -> None:
        """Says it; does not wait."""
        if isinstance(message, pb.Hello):
            self._requests.put(ingest_pb2.ClientRecords(hello=message))
        else:
            self._requests.put(ingest_pb2.ClientRecords(batch=message))

    def answer(self) -> pb.Ack | pb.Rejected:
        """The server's next word. Raises grpc.RpcError where the stream fails, StopIteration at its end."""
        told = next(self.call)
        word: pb.Ack | pb.Rejected = getattr(told, told.WhichOneof("kind"))
        return word

    def commit(self, *batches: pb.Batch) -> list[pb.Rejected]:
        """Sends batches and waits for the ack of the last. Returns what was refused; asserts the order of the acks."""
        for one in batches:
            self.send(one)
        refused = []
        for one in batches:
            while isinstance(word := self.answer(), pb.Rejected):
                assert word.sequence == one.sequence, (word, one.sequence)
                refused.append(word)
            assert word.sequence == one.sequence, (word, one.sequence)
        return refused

    def end(self) -> list[pb.Ack | pb.Rejected]:
        """Says no more, and returns what the server still answers."""
        self._requests.put(None)
        return [getattr(told, told.WhichOneof("kind")) for told in self.call]

    def ending(self) -> tuple[grpc.StatusCode, str]:
        """How the server ends the stream: reads to its end."""
        try:
            for _ in self.call:
                pass
        except grpc.RpcError:
            pass
        return self.call.code(), self.call.details() or ""

    def break_off(self) -> None:
        """Ends the stream without a word, as a client that dies does."""
        self._requests.put(None)
        self.call.cancel()


@contextmanager
def writing(address: str, greeting: pb.Hello | None, token: str | None = None) -> Iterator[WriterStream]:
    """A stream on a connection of its own, broken off at the end of the block."""
    options = [*policy.CLIENT_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options=options) as channel:
        stream = WriterStream(channel, greeting, token)
        try:
            yield stream
        finally:
            stream.break_off()
