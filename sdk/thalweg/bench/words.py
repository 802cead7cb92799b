"""What one small writer says to the ingest, as the SDK's sender would say it, and when its frames were acknowledged."""

from __future__ import annotations

import os
import secrets
import struct
import time
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

    As the SDK's sender does it, small batches go one at a time: frames wait for the acknowledgement of those before.
    However many wait, a batch has no more of them than fit into BATCH_TARGET_BYTES.

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
    _is_end_due: bool = False
    _made: list[float] = field(default_factory=list)  # when the frames that wait were made
    _under_way: list[float] = field(default_factory=list)
    _steps: bytearray = field(default_factory=bytearray)
    _times: bytearray = field(default_factory=bytearray)
    _values: bytearray = field(default_factory=bytearray)
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

    def log(self) -> None:
        """Makes the next frame."""
        self._steps += struct.pack("<d", self.first_step + self.steps)
        self._times += struct.pack("<q", self._now_us())
        self._values += self.frames.frame(self.steps).tobytes()
        self._made.append(time.perf_counter())
        self.steps += 1

    def next(self) -> ingest_pb2.ClientRecords | None:
        """What to say now, if anything: the frames that were made while the last ones were under way."""
        if self._under_way or (self._has_ended and not self._is_end_due):
            return None
        batch = pb.Batch()
        if self._made:
            batch.frames.append(self._take_frames())
        if self._is_end_due and not self._made:
            self._is_end_due = False
            ended = pb.WriterEnded(outcome=pb.WriterEnded.FINISHED, exit_code=0)
            batch.events.append(pb.Event(time_us=self._now_us(), ended=ended))
        return self._batch(batch) if batch.frames or batch.events else None

    def _take_frames(self) -> pb.FrameGroup:
        """The first of the frames that wait, as many as a batch holds."""
        width = len(self.frames.names)
        count = min(len(self._made), max(1, limits.BATCH_TARGET_BYTES // (8 * (2 + width))))
        self._under_way, self._made = self._made[:count], self._made[count:]
        steps = _cut(self._steps, 8 * count)
        times = _cut(self._times, 8 * count)
        values = _cut(self._values, 8 * count * width)
        return pb.FrameGroup(schema=_SCHEMA, steps=steps, times=times, values=values)

    def end(self) -> None:
        """The process ended well: `next` says so after the last frame."""
        self._has_ended = self._is_end_due = True

    def acknowledged_ms(self, sequence: int) -> list[float]:
        """For how long each of the frames that this acknowledges was there before."""
        if sequence < self._sequence:
            return []
        now = time.perf_counter()
        took_ms = [(now - made) * 1e3 for made in self._under_way]
        self._under_way = []
        return took_ms

    def is_done(self, sequence: int) -> bool:
        """Whether this acknowledges the last word."""
        return self._has_ended and not self._is_end_due and sequence == self._sequence

    def _batch(self, batch: pb.Batch) -> ingest_pb2.ClientRecords:
        self._sequence += 1
        batch.sequence = self._sequence
        return ingest_pb2.ClientRecords(batch=batch)

    def _now_us(self) -> int:
        """Later than the time before, whatever the clock says."""
        self._last_us = max(time.time_ns() // 1000, self._last_us + 1)
        return self._last_us


def _cut(waiting: bytearray, size: int) -> bytes:
    """Takes so many bytes off the front."""
    taken = bytes(waiting[:size])
    del waiting[:size]
    return taken
