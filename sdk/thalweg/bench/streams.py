"""Many small writers in one process: each a stream of the protocol of its own, as hundreds of trainings would open.

Without SDK and spool, of which five hundred do not fit on one machine: a frame is sent the moment that it is made.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc

from thalweg.api_client import ApiClient
from thalweg.bench.frames import Frames
from thalweg.bench.numbers import quantile
from thalweg.bench.read_back import verify
from thalweg.bench.words import Words
from thalweg.errors import ThalwegError
from thalweg.wire import policy
from thalweg.wire.run_ids import generate_run_id
from thalweg.wire.v1 import ingest_pb2, ingest_pb2_grpc

_CHANNELS: Final = 8
_ACKED_MOST_S: Final = 120.0


class StreamEndedError(ThalwegError):
    """The server ended a stream, or did not acknowledge in time."""


@dataclass(frozen=True, slots=True)
class StreamsLoad:
    """So many writers, each a run."""

    writers: int = 500
    metrics: int = 10
    steps_per_s: float = 10.0
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class StreamsResult:
    """What came of it. All points were read back and are right.

    `visible_*_ms`: from the making of a frame until the word came that it is committed, and so can be read.
    `late_p99_ms`: by how much frames were made later than they should have been, by a client that is slow itself.
    """

    load: StreamsLoad
    points: int
    points_per_s: float
    visible_p50_ms: float
    visible_p99_ms: float
    visible_worst_ms: float
    late_p99_ms: float
    runs: tuple[str, ...]


def run_streams(url: str, project: str, load: StreamsLoad) -> StreamsResult:
    """Puts the load on a server, waits until all is acknowledged, reads all back. Raises ThalwegError."""
    try:
        writers, visible_ms, seconds, late_ms = asyncio.run(_drive(url, project, load))
    except grpc.RpcError as error:
        raise StreamEndedError(f"the server ended a stream: {error}") from error
    client = ApiClient(url)
    points = sum(verify(client, project, one.run_id, one.frames, one.steps) for one in writers)
    return StreamsResult(
        load=load,
        points=points,
        points_per_s=points / seconds,
        visible_p50_ms=quantile(visible_ms, 0.5),
        visible_p99_ms=quantile(visible_ms, 0.99),
        visible_worst_ms=max(visible_ms),
        late_p99_ms=quantile(late_ms, 0.99),
        runs=tuple(one.run_id for one in writers),
    )


async def _drive(url: str, project: str, load: StreamsLoad) -> tuple[list[Words], list[float], float, list[float]]:
    """The writers when all is acknowledged, how long frames were under way, seconds in all, how late frames were."""
    async with _calls(url, load.writers) as calls:
        writers = [Words(project, generate_run_id(), Frames.of(load.metrics, seed)) for seed in range(load.writers)]
        for call, words in zip(calls, writers, strict=True):
            await call.write(words.hello())
            await call.write(words.start())
        visible_ms: list[float] = []
        acks = [
            asyncio.create_task(_take_acks(call, words, visible_ms)) for call, words in zip(calls, writers, strict=True)
        ]
        late_ms: list[float] = []
        begin = time.perf_counter()
        await asyncio.gather(
            *(
                _log(call, words, begin + place / load.writers / load.steps_per_s, load, late_ms)
                for place, (call, words) in enumerate(zip(calls, writers, strict=True))
            )
        )
        done, waiting = await asyncio.wait(acks, timeout=_ACKED_MOST_S)
        for task in waiting:
            task.cancel()
        for task in done:
            task.result()
        if waiting:
            raise StreamEndedError(f"{len(waiting)} writers were not acknowledged within {_ACKED_MOST_S:g} s")
        return writers, visible_ms, time.perf_counter() - begin, late_ms


async def _log(call: Any, words: Words, begin: float, load: StreamsLoad, late_ms: list[float]) -> None:
    """Frames at their times, then the end."""
    for step in range(round(load.seconds * load.steps_per_s)):
        due = begin + step / load.steps_per_s
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        late_ms.append(max(0.0, time.perf_counter() - due) * 1e3)
        await call.write(words.frame())
    await call.write(words.end())


async def _take_acks(call: Any, words: Words, visible_ms: list[float]) -> None:
    """Until the last word is acknowledged. Raises StreamEndedError."""
    while True:
        answer = await call.read()
        if not isinstance(answer, ingest_pb2.ServerRecords):
            raise StreamEndedError(f"the server ended the stream of {words.run_id}: {await call.details()}")
        if answer.WhichOneof("kind") == "rejected":
            raise StreamEndedError(f"the server refused a part of {words.run_id}: {answer.rejected.message}")
        visible_ms += words.acknowledged_ms(answer.ack.sequence)
        if words.is_done(answer.ack.sequence):
            return


@asynccontextmanager
async def _calls(url: str, count: int) -> AsyncIterator[list[Any]]:
    """So many streams, over a few connections."""
    address = os.environ.get("THALWEG_GRPC") or ApiClient(url).get("/health")["grpc"]
    channels = [grpc.aio.insecure_channel(address, options=policy.CLIENT_OPTIONS) for _ in range(min(_CHANNELS, count))]
    try:
        stubs = [ingest_pb2_grpc.IngestStub(channel) for channel in channels]  # type: ignore[no-untyped-call]  # generated
        yield [stubs[number % len(stubs)].Stream() for number in range(count)]
    finally:
        for channel in channels:
            await channel.close()
