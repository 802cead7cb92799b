"""Many small writers in one process: each a stream of the protocol of its own, as hundreds of trainings would open.

Without SDK and spool, of which five hundred do not fit on one machine; they send as the SDK's sender does.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from thalweg.api_client import ApiClient
from thalweg.bench.frames import Frames
from thalweg.bench.numbers import quantile
from thalweg.bench.read_back import verify
from thalweg.bench.words import Words
from thalweg.errors import ThalwegError
from thalweg.sender.channels import bearer_metadata, open_channel
from thalweg.settings import read_token
from thalweg.wire.run_ids import generate_run_id
from thalweg.wire.v1 import ingest_pb2, ingest_pb2_grpc

_CHANNELS: Final = 8
_BEGUN_MOST_S: Final = 120.0
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
    """What came of it. If they were checked, all points were read back and are right.

    `points_per_s`: while frames were made; each was acknowledged `visible_worst_ms` later at most. `visible_*_ms`: from
    the making of a frame until the word came that it is committed, and so can be read. `late_p99_ms`: by how much
    frames were made later than they should have been, by a client that is slow itself.
    """

    load: StreamsLoad
    points: int
    points_per_s: float
    visible_p50_ms: float
    visible_p99_ms: float
    visible_worst_ms: float
    late_p99_ms: float
    runs: tuple[str, ...]


def run_streams(url: str, project: str, load: StreamsLoad, *, check: bool = True) -> StreamsResult:
    """Puts the load on a server, waits until all is acknowledged, reads all back if asked to. Raises ThalwegError."""
    try:
        writers, visible_ms, seconds, late_ms = asyncio.run(_drive(url, project, load))
    except grpc.RpcError as error:
        raise StreamEndedError(f"the server ended a stream: {error}") from error
    for one in writers if check else []:
        verify(ApiClient(url, read_token(os.environ.get("THALWEG_TOKEN"))), project, one.run_id, one.frames, one.steps)
    points = load.metrics * sum(one.steps for one in writers)
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
    """The writers when all is acknowledged, how long frames were under way and made, and how late they were made."""
    async with _calls(url, load.writers) as calls:
        writers = [
            _Writer(call, Words(project, generate_run_id(), Frames.of(load.metrics, seed)))
            for seed, call in enumerate(calls)
        ]
        await _all([writer.begin() for writer in writers], _BEGUN_MOST_S)
        late_ms: list[float] = []
        begin = time.perf_counter()
        # Those of the writers are spread over the interval.
        logs = [
            writer.log(begin + place / load.writers / load.steps_per_s, load, late_ms)
            for place, writer in enumerate(writers)
        ]
        acks = [writer.take_acks() for writer in writers]
        found = await _all([*acks, *logs], load.seconds + _ACKED_MOST_S)
        visible_ms = [ms for some in found[: len(writers)] for ms in some]
        made_s = max(load.seconds, max(found[len(writers) :]) - begin)
        return [writer.words for writer in writers], visible_ms, made_s, late_ms


async def _all(jobs: list[Coroutine[Any, Any, Any]], most_s: float) -> list[Any]:
    """The results, in order. The first failure ends the others."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        return await asyncio.wait_for(asyncio.gather(*tasks), most_s)
    except asyncio.TimeoutError:
        raise StreamEndedError(f"the server did not acknowledge everything within {most_s:g} s") from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(slots=True)
class _Writer:
    """A writer and its stream."""

    call: Any
    words: Words
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def begin(self) -> None:
        """Says who it is, and waits until the server has it."""
        await self.call.write(self.words.hello())
        await self.call.write(self.words.start())
        await self._answer()

    async def log(self, begin: float, load: StreamsLoad, late_ms: list[float]) -> float:
        """Frames at their times, then the end. Returns when the last frame was made."""
        made = begin
        for step in range(round(load.seconds * load.steps_per_s)):
            due = begin + step / load.steps_per_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            made = time.perf_counter()
            late_ms.append(max(0.0, made - due) * 1e3)
            self.words.log()
            await self._say()
        self.words.end()
        await self._say()
        return made

    async def take_acks(self) -> list[float]:
        """Until the last word is acknowledged: for how long frames were under way. Raises StreamEndedError."""
        visible_ms: list[float] = []
        while True:
            sequence = await self._answer()
            visible_ms += self.words.acknowledged_ms(sequence)
            if self.words.is_done(sequence):
                return visible_ms
            await self._say()

    async def _say(self) -> None:
        async with self._turn:
            message = self.words.next()
            if message is not None:
                await self.call.write(message)

    async def _answer(self) -> int:
        answer = await self.call.read()
        if not isinstance(answer, ingest_pb2.ServerRecords):
            raise StreamEndedError(f"the server ended the stream of {self.words.run_id}: {await self.call.details()}")
        if answer.WhichOneof("kind") == "rejected":
            raise StreamEndedError(f"the server refused a part of {self.words.run_id}: {answer.rejected.message}")
        return answer.ack.sequence


@asynccontextmanager
async def _calls(url: str, count: int) -> AsyncIterator[list[Any]]:
    """So many streams, over a few connections."""
    address = os.environ.get("THALWEG_GRPC") or ApiClient(url).get("/health")["grpc"]
    metadata = bearer_metadata(read_token(os.environ.get("THALWEG_TOKEN")))
    channels = [open_channel(address) for _ in range(min(_CHANNELS, count))]
    try:
        stubs = [ingest_pb2_grpc.IngestStub(channel) for channel in channels]  # type: ignore[no-untyped-call]  # generated
        yield [stubs[number % len(stubs)].Stream(metadata=metadata) for number in range(count)]
    finally:
        for channel in channels:
            await channel.close()
