"""The gRPC service: one stream, one writer. Owns the order of acks; knows nothing of SQL."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Final

import grpc

from thalweg.wire import policy
from thalweg.wire.v1 import ingest_pb2, ingest_pb2_grpc
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.access.doors import Doors
from thalweg_tracker.access.grants import Grant, Role
from thalweg_tracker.access.rates import DEBT_MOST_S
from thalweg_tracker.errors import (
    AccessError,
    EngineError,
    ForbiddenError,
    LimitedError,
    RejectedError,
    SettingError,
    UnauthenticatedError,
)
from thalweg_tracker.ingest.committer import Committer
from thalweg_tracker.ingest.decode import Decoded, Greeting, StreamDecoder, decode_hello
from thalweg_tracker.ingest.deleted import DeletedRuns
from thalweg_tracker.ingest.events import WriterNews
from thalweg_tracker.ingest.gather import Gather
from thalweg_tracker.ingest.registry import Named, Naming, Placed, Registry
from thalweg_tracker.ingest.streams import Streams, StreamWatch
from thalweg_tracker.model import limits
from thalweg_tracker.model.access import TlsFiles
from thalweg_tracker.model.settings import Address
from thalweg_tracker.telemetry.grpc_health import HealthService
from thalweg_tracker.telemetry.telemetry import Telemetry

SERVICE: Final = ingest_pb2.DESCRIPTOR.services_by_name["Ingest"].full_name
_COUNTERS_MAX: Final = 64
_SWEEP_S: Final = 1.0
_HELLO_WITHIN_S: Final = 30.0
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
    first_us: int  # time of the first point; 0 if there is none


@dataclass(slots=True)
class _Visit:
    """What a stream is let in for."""

    since_s: float
    grant: Grant | None = None
    has_greeted: bool = False
    ended_by: AccessError | None = None
    """Why the server ends it."""


class IngestService(ingest_pb2_grpc.IngestServicer):
    """Serves `Ingest.Stream`."""

    def __init__(
        self,
        registry: Registry,
        committer: Committer,
        deleted: DeletedRuns,
        doors: Doors,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._streams = Streams((telemetry or Telemetry()).metrics.ingest)
        self._registry = registry
        self._gate, self._limiter = doors.gate, doors.limiter
        self._place: Gather[Greeting, Placed] = Gather(self._place_all, limits.GREETINGS_AT_ONCE)
        self._name: Gather[Naming, Named] = Gather(registry.register_all, limits.GREETINGS_AT_ONCE)
        self._committer = committer
        self._deleted = deleted
        self._intakes: dict[asyncio.Task[None], _Visit] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._is_stopping = False

    def _place_all(self, greetings: Sequence[Greeting]) -> list[Placed | RejectedError]:
        return self._registry.place_all(greetings, time.time_ns() // 1000)

    def stop(self) -> None:
        """Reads no more: each stream gets the acks of what was taken in, and ends with UNAVAILABLE."""
        self._is_stopping = True
        if self._sweeper:
            self._sweeper.cancel()
        for intake in self._intakes:
            intake.cancel()

    async def Stream(  # the name is the protocol's
        self, requests: AsyncIterator[ingest_pb2.ClientRecords], context: _Context
    ) -> AsyncIterator[ingest_pb2.ServerRecords]:
        """Answers each batch in order, after its commit."""
        answers: asyncio.Queue[_Answer | None] = asyncio.Queue(limits.UNACKED_BATCHES_PER_STREAM)
        watch = self._streams.open()
        visit = _Visit(time.monotonic())
        intake = asyncio.create_task(self._take_in(requests, answers, watch, visit, _authorization(context)))
        self._intakes[intake] = visit
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        try:
            while (answer := await answers.get()) is not None:
                await answer.done
                watch.committed(answer.first_us, answer.rejected)
                for refusal in answer.rejected:
                    yield ingest_pb2.ServerRecords(rejected=refusal)
                yield ingest_pb2.ServerRecords(ack=answer.ack)
            await intake
            watch.ends("ended")
        except RejectedError as error:
            watch.ends("refused", error.message)
            # A new stream begins without names, so that one may be tried again.
            again = error.code == "too_many_names"
            code = grpc.StatusCode.RESOURCE_EXHAUSTED if again else grpc.StatusCode.INVALID_ARGUMENT
            await context.abort(code, error.message)
        except AccessError as error:
            watch.ends("limited" if isinstance(error, LimitedError) else "no_access")
            await _refuse(context, error)
        except _StoppingError:
            watch.ends("stopping")
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        except EngineError as error:
            watch.ends("database")
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"the database failed: {error}"[:1000])
        except Exception:
            watch.ends("defect")
            raise
        finally:
            watch.close()
            del self._intakes[intake]
            intake.cancel()
            await asyncio.gather(intake, return_exceptions=True)

    async def _take_in(
        self,
        requests: AsyncIterator[ingest_pb2.ClientRecords],
        answers: asyncio.Queue[_Answer | None],
        watch: StreamWatch,
        visit: _Visit,
        authorization: str | None,
    ) -> None:
        """Reads the stream as fast as the committer takes it, and queues what must be answered. None ends the queue."""
        try:
            if self._is_stopping:
                raise _StoppingError
            visit.grant = grant = await self._gate.admit(authorization)
            with ExitStack() as places:
                await self._read(requests, answers, watch, visit, grant, places)
        except asyncio.CancelledError:
            if not self._is_stopping and visit.ended_by is None:
                raise  # the stream is gone: nobody takes an answer
            await answers.put(None)
            raise (visit.ended_by or _StoppingError()) from None
        except Exception:  # whatever it is, what came before is answered first
            await answers.put(None)
            raise
        await answers.put(None)

    async def _read(
        self,
        requests: AsyncIterator[ingest_pb2.ClientRecords],
        answers: asyncio.Queue[_Answer | None],
        watch: StreamWatch,
        visit: _Visit,
        grant: Grant,
        places: ExitStack,
    ) -> None:
        decoder: StreamDecoder | None = None
        async for request in requests:
            kind = request.WhichOneof("kind")
            if decoder is None:
                if kind != "hello":
                    raise RejectedError("no_hello", "cannot take records: the first message must be Hello")
                greeting = decode_hello(request.hello)
                if not grant.allows(Role.WRITE, greeting.project):
                    raise ForbiddenError(f"this token may not write to a project {greeting.project!r}, if there is one")
                places.enter_context(self._limiter.stream(grant, greeting.project))
                decoder = await self._greet(greeting, request.hello.acknowledged)
                watch.greeted(decoder.writer)
                visit.has_greeted = True
            elif kind == "batch":
                await self._gate.check(grant)
                points = _points_of(request.batch)
                pause_s = self._limiter.points(grant, decoder.writer.project, points) if points else 0.0
                await self._take_batch(decoder, request.batch, answers, grant)
                if pause_s:  # meanwhile nothing more is read: the sender waits, and its records with it
                    await asyncio.sleep(min(pause_s, DEBT_MOST_S))
            else:
                raise RejectedError("not_a_batch", f"cannot take {kind or 'an unknown message'} after Hello")

    async def _sweep(self) -> None:
        """Ends streams whose token is good no longer, though they say nothing, and those that never say Hello."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            for intake, visit in list(self._intakes.items()):
                if visit.grant is not None and not self._gate.is_good(visit.grant):
                    visit.ended_by = UnauthenticatedError("the token is good no longer")
                elif not visit.has_greeted and time.monotonic() - visit.since_s > _HELLO_WITHIN_S:
                    visit.ended_by = LimitedError(f"no Hello came within {_HELLO_WITHIN_S:g} s", 0.0)
                if visit.ended_by is not None:
                    intake.cancel()

    async def _greet(self, greeting: Greeting, acknowledged: int) -> StreamDecoder:
        placed = await self._place(greeting)
        return StreamDecoder(placed.writer, begins_after=acknowledged, committed=placed.committed)

    async def _take_batch(
        self, decoder: StreamDecoder, batch: pb.Batch, answers: asyncio.Queue[_Answer | None], grant: Grant
    ) -> None:
        await self._deleted.check(decoder.writer)
        is_short = batch.ByteSize() < _DECODE_HERE_BYTES
        decoded = decoder.decode(batch) if is_short else await asyncio.to_thread(decoder.decode, batch)
        if decoded.new_names:
            await self._register(decoder, decoded, self._limiter.least("metrics_per_run", grant))
        seen_us = time.time_ns() // 1000
        news = WriterNews(decoder.writer, decoded.events, _counters(batch), seen_us, batch.sequence, *decoded.span)
        done = await self._committer.submit(decoded.blocks, news)
        ack = pb.Ack(writer=decoder.writer.writer_id, sequence=batch.sequence)
        first_us = int(decoded.blocks[0].times[0]) if decoded.blocks else 0  # writers send in the order of logging
        await answers.put(_Answer(decoded.rejected.values(), ack, done, first_us))

    async def _register(self, decoder: StreamDecoder, decoded: Decoded, most: float) -> None:
        """Registers new names before the first point that uses them is committed. `most`: metrics of a run; 0: any."""
        writer = decoder.writer
        unknown = self._registry.unknown_names(writer.project, writer.run, decoded.new_names)
        if not unknown:
            return
        named = await self._name(Naming(writer.project, writer.run, unknown, most))
        if named.taken:
            others = ", ".join(map(repr, islice(named.taken.values(), 3)))
            why = f"these names have the same key as {others}"
            decoder.refuse_names(named.taken, decoded, pb.Rejected.REJECTED_COLLISION, why)
        if named.too_many:
            why = f"the run has {most:g} metrics, the most that it may have"
            decoder.refuse_names(named.too_many, decoded, pb.Rejected.REJECTED_LIMIT, why)


def _authorization(context: _Context) -> str | None:
    """The `authorization` of a call. Several are none."""
    found = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    return found[0] if len(found) == 1 and isinstance(found[0], str) else None


def _points_of(batch: pb.Batch) -> int:
    return sum(len(group.values) for group in batch.frames) // 8


async def _refuse(context: _Context, error: AccessError) -> None:
    if isinstance(error, LimitedError):
        context.set_trailing_metadata(((policy.RETRY_AFTER, str(math.ceil(error.retry_after_s * 1e3))),))
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
    is_known = isinstance(error, ForbiddenError)
    await context.abort(grpc.StatusCode.PERMISSION_DENIED if is_known else grpc.StatusCode.UNAUTHENTICATED, str(error))


def _counters(batch: pb.Batch) -> dict[str, int]:
    """The writer's counters, as far as they look like some."""
    return {c.reason: c.points for c in batch.counters[:_COUNTERS_MAX] if c.reason.isascii() and len(c.reason) <= 64}


async def start_grpc(
    service: IngestService,
    address: Address,
    health: HealthService,
    tls: TlsFiles | None = None,
    *,
    is_shared: bool = False,
) -> tuple[grpc.aio.Server, Address]:
    """A started server and the address that it listens on, with `is_shared` beside others. Raises SettingError."""
    options = dict(policy.SERVER_OPTIONS) | {"grpc.so_reuseport": int(is_shared)}
    server = grpc.aio.server(options=list(options.items()))
    health.add_to(server)
    ingest_pb2_grpc.add_IngestServicer_to_server(service, server)  # type: ignore[no-untyped-call]  # generated
    try:
        port = (
            server.add_secure_port(str(address), _credentials(tls)) if tls else server.add_insecure_port(str(address))
        )
    except RuntimeError as error:
        raise SettingError("--grpc", str(address), "an address that is free") from error
    await server.start()
    return server, Address(address.host, port)


def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    client_ca = tls.client_ca.read_bytes() if tls.client_ca else None
    pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], client_ca, require_client_auth=client_ca is not None)
