"""What one small writer says to the ingest, as the SDK's sender would say it, and when its frames were acknowledged."""

from __future__ import annotations

import os
import secrets
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from thalweg.bench.frames import Frames
from thalweg.version import __version__
from thalweg.wire import limits
from thalweg.wire.v1 import ingest_pb2
from thalweg.wire.v1 import records_pb2 as pb

_SCHEMA: Final = 1


@dataclass(slots=True)
class Words:
    """The messages of a writer in their order. No socket: whoever drives it sends them, and tells it of answers.

    `first_step`: of its frames, which are those of `Frames` from its first on.
    """

    project: str
    run_id: str
    frames: Frames
    first_step: float = 0.0
    rank: int = 0
    steps: int = 0
    _sequence: int = 0
    _has_ended: bool = False
    _made: deque[tuple[int, float]] = field(default_factory=deque)
    _last_us: int = 0

    def hello(self) -> ingest_pb2.ClientRecords:
        """Who speaks."""
        hello = pb.Hello(
            protocol=limits.PROTOCOL,
            writer=secrets.token_hex(16),
            project=self.project,
            run_id=self.run_id,
            rank=self.rank,
            sdk_version=__version__,
            began_us=self._now_us(),
        )
        return ingest_pb2.ClientRecords(hello=hello)

    def start(self) -> ingest_pb2.ClientRecords:
        """That the process began, a tag, and the names of the metrics."""
        started = pb.WriterStarted(primary=True, host="bench", pid=os.getpid())
        tags = pb.AttributesSet(attributes=[pb.Attribute(path="tags.bench", json="true")])
        now = self._now_us()
        events = [pb.Event(time_us=now, started=started), pb.Event(time_us=now, attributes=tags)]
        return self._batch(pb.Batch(schemas=[pb.Schema(id=_SCHEMA, names=self.frames.names)], events=events))

    def frame(self) -> ingest_pb2.ClientRecords:
        """The next frame, made now."""
        group = pb.FrameGroup(
            schema=_SCHEMA,
            steps=struct.pack("<d", self.first_step + self.steps),
            times=struct.pack("<q", self._now_us()),
            values=self.frames.values[self.steps % len(self.frames.values)].tobytes(),
        )
        self.steps += 1
        self._made.append((self._sequence + 1, time.perf_counter()))
        return self._batch(pb.Batch(frames=[group]))

    def end(self) -> ingest_pb2.ClientRecords:
        """That the process ended well."""
        self._has_ended = True
        ended = pb.WriterEnded(outcome=pb.WriterEnded.FINISHED, exit_code=0)
        return self._batch(pb.Batch(events=[pb.Event(time_us=self._now_us(), ended=ended)]))

    def acknowledged_ms(self, sequence: int) -> list[float]:
        """For how long each of the frames that this acknowledges was under way."""
        now = time.perf_counter()
        took_ms = []
        while self._made and self._made[0][0] <= sequence:
            took_ms.append((now - self._made.popleft()[1]) * 1e3)
        return took_ms

    def is_done(self, sequence: int) -> bool:
        """Whether this acknowledges the last word."""
        return self._has_ended and sequence == self._sequence

    def _batch(self, batch: pb.Batch) -> ingest_pb2.ClientRecords:
        self._sequence += 1
        batch.sequence = self._sequence
        return ingest_pb2.ClientRecords(batch=batch)

    def _now_us(self) -> int:
        """Later than the time before, whatever the clock says."""
        self._last_us = max(time.time_ns() // 1000, self._last_us + 1)
        return self._last_us
