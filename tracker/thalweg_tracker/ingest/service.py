"""The gRPC service: one stream, one writer. Owns the order of acks; knows nothing of SQL."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import grpc

from thalweg.wire import policy
from thalweg.wire.v1 import ingest_pb2, ingest_pb2_grpc
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.errors import EngineError, RejectedError, SettingError
from thalweg_tracker.ingest.committer import Committer
from thalweg_tracker.ingest.decode import Decoded, Greeting, StreamDecoder, decode_hello
from thalweg_tracker.ingest.events import WriterNews
from thalweg_tracker.ingest.gather import Gather
from thalweg_tracker.ingest.registry import Naming, Placed, Registry
from thalweg_tracker.model import limits
from thalweg_tracker.model.settings import Address

log = logging.getLogger(__name__)

_COUNTERS_MAX: Final = 64
_DECODE_HERE_BYTES: Final = 64 << 10
"""Larger batches are decoded in a thread: the other streams are not held up."""
_Context = grpc.aio.ServicerContext[ingest_pb2.ClientRecords, ingest_pb2.ServerRecords]


class _StoppingError(Exception):
    """The server stops, so it reads no more."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is said of a batch once `done` is."""

    rejected: Collection[pb.Rejected]
    ack: pb.Ack
    done: asyncio.Future[None]


class IngestService(ingest_pb2_grpc.IngestServicer):
    """Serves `Ingest.Stream`."""

    def __init__(self, registry: Registry, committer: Committer) -> None:
        self._registry = registry
        self._place: Gather[Greeting, Placed] = Gather(self._place_all, limits.GREETINGS_AT_ONCE)
        self._name: Gather[Naming, Mapping[int, str]] = Gather(registry.register_all, limits.GREETINGS_AT_ONCE)
        self._committer = committer
        self._intakes: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    def _place_all(self, greetings: Sequence[Greeting]) -> list[Placed | RejectedError]:
        return self._registry.place_all(greetings, time.time_ns() // 1000)

    def stop(self) -> None:
        """Reads no more: each stream gets the acks of what was taken in, and ends with UNAVAILABLE."""
        self._is_stopping = True
        for intake in self._intakes:
            intake.cancel()

    async def Stream(  # the name is the protocol's
        self, requests: AsyncIterator[ingest_pb2.ClientRecords], context: _Context
    ) -> AsyncIterator[ingest_pb2.ServerRecords]:
        """Answers each batch in order, after its commit."""
        answers: asyncio.Queue[_Answer | None] = asyncio.Queue(limits.UNACKED_BATCHES_PER_STREAM)
        intake = asyncio.create_task(self._take_in(requests, answers))
        self._intakes.add(intake)
        try:
            while (answer := await answers.get()) is not None:
                await answer.done
                for refusal in answer.rejected:
                    yield ingest_pb2.ServerRecords(rejected=refusal)
                yield ingest_pb2.ServerRecords(ack=answer.ack)
            await intake
        except RejectedError as error:
            # A new stream begins without names, so that one may be tried again.
            again = error.code == "too_many_names"
            code = grpc.StatusCode.RESOURCE_EXHAUSTED if again else grpc.StatusCode.INVALID_ARGUMENT
            await context.abort(code, error.message)
        except _StoppingError:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        except EngineError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"the database failed: {error}"[:1000])
        finally:
            self._intakes.discard(intake)
            intake.cancel()
            await asyncio.gather(intake, return_exceptions=True)

    async def _take_in(
        self, requests: AsyncIterator[ingest_pb2.ClientRecords], answers: asyncio.Queue[_Answer | None]
    ) -> None:
        """Reads the stream as fast as the committer takes it, and queues what must be answered. None ends the queue."""
        try:
            if self._is_stopping:
                raise _StoppingError
            await self._read(requests, answers)
        except asyncio.CancelledError:
            if not self._is_stopping:
                raise  # the stream is gone: nobody takes an answer
            await answers.put(None)
            raise _StoppingError from None
        except Exception:  # whatever it is, what came before is answered first
            await answers.put(None)
            raise
        await answers.put(None)

    async def _read(
        self, requests: AsyncIterator[ingest_pb2.ClientRecords], answers: asyncio.Queue[_Answer | None]
    ) -> None:
        decoder: StreamDecoder | None = None
        async for request in requests:
            kind = request.WhichOneof("kind")
            if decoder is None:
                if kind != "hello":
                    raise RejectedError("no_hello", "cannot take records: the first message must be Hello")
                decoder = await self._greet(request.hello)
            elif kind == "batch":
                await self._take_batch(decoder, request.batch, answers)
            else:
                raise RejectedError("not_a_batch", f"cannot take {kind or 'an unknown message'} after Hello")

    async def _greet(self, hello: pb.Hello) -> StreamDecoder:
        placed = await self._place(decode_hello(hello))
        writer = placed.writer
        log.info(
            "writer %s of run %s/%s (branch %d, rank %d) is here",
            writer.writer_id,
            writer.project,
            writer.run_id,
            writer.branch,
            writer.rank,
        )
        return StreamDecoder(writer, begins_after=hello.acknowledged, committed=placed.committed)

    async def _take_batch(
        self, decoder: StreamDecoder, batch: pb.Batch, answers: asyncio.Queue[_Answer | None]
    ) -> None:
        is_short = batch.ByteSize() < _DECODE_HERE_BYTES
        decoded = decoder.decode(batch) if is_short else await asyncio.to_thread(decoder.decode, batch)
        if decoded.new_names:
            await self._register(decoder, decoded)
        seen_us = time.time_ns() // 1000
        news = WriterNews(decoder.writer, decoded.events, _counters(batch), seen_us, batch.sequence, *decoded.span)
        done = await self._committer.submit(decoded.blocks, news)
        ack = pb.Ack(writer=decoder.writer.writer_id, sequence=batch.sequence)
        await answers.put(_Answer(decoded.rejected.values(), ack, done))

    async def _register(self, decoder: StreamDecoder, decoded: Decoded) -> None:
        """Registers new names before the first point that uses them is committed."""
        writer = decoder.writer
        unknown = self._registry.unknown_names(writer.project, writer.run, decoded.new_names)
        if not unknown:
            return
        refused = await self._name(Naming(writer.project, writer.run, unknown))
        if refused:
            decoder.refuse_names(refused, decoded)


def _counters(batch: pb.Batch) -> dict[str, int]:
    """The writer's counters, as far as they look like some."""
    return {c.reason: c.points for c in batch.counters[:_COUNTERS_MAX] if c.reason.isascii() and len(c.reason) <= 64}


async def start_grpc(
    service: IngestService, address: Address, *, is_shared: bool = False
) -> tuple[grpc.aio.Server, Address]:
    """A started server and the address that it listens on, with `is_shared` beside others. Raises SettingError."""
    options = dict(policy.SERVER_OPTIONS) | {"grpc.so_reuseport": int(is_shared)}
    server = grpc.aio.server(options=list(options.items()))
    ingest_pb2_grpc.add_IngestServicer_to_server(service, server)  # type: ignore[no-untyped-call]  # generated
    try:
        port = server.add_insecure_port(str(address))
    except RuntimeError as error:
        raise SettingError("--grpc", str(address), "an address that is free") from error
    await server.start()
    return server, Address(address.host, port)
