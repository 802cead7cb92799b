"""Batches as a server reads them: frames again, with every rule of the protocol asserted."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from thalweg.wire.v1 import records_pb2 as pb


@dataclass(frozen=True)
class Sent:
    """One frame of a batch."""

    names: tuple[str, ...]
    step: float
    time_us: int
    values: bytes
    relogged: bool
    resent: bool

    @property
    def numbers(self) -> tuple[float, ...]:
        """The values."""
        return struct.unpack(f"<{len(self.names)}d", self.values)

    @property
    def key(self) -> tuple[tuple[str, ...], float]:
        """What identifies its points."""
        return self.names, self.step


@dataclass
class StreamReader:
    """One stream: what it has declared so far."""

    schemas: dict[int, tuple[str, ...]] = field(default_factory=dict)
    sequence: int = 0

    def take(self, batch: pb.Batch) -> list[Sent]:
        """Frames of a batch, group by group. Asserts what the protocol promises."""
        assert batch.sequence >= self.sequence, (batch.sequence, self.sequence)
        self.sequence = batch.sequence
        ids = [schema.id for schema in batch.schemas]
        assert len(set(ids)) == len(ids), "an id with two meanings in one batch"
        self.schemas.update({schema.id: tuple(schema.names) for schema in batch.schemas})
        frames = []
        for group in batch.frames:
            names = self.schemas[group.schema]
            count, width = len(group.steps) // 8, 8 * len(names)
            assert len(group.times) == 8 * count
            assert len(group.values) == count * width
            steps, times = struct.unpack(f"<{count}d", group.steps), struct.unpack(f"<{count}q", group.times)
            for index in range(count):
                values = group.values[index * width : (index + 1) * width]
                frames.append(Sent(names, steps[index], times[index], values, group.relogged, batch.resent))
        return frames


def frames_of(batches: Iterable[pb.Batch]) -> list[Sent]:
    """Frames of batches of one stream."""
    reader = StreamReader()
    return [frame for batch in batches for frame in reader.take(batch)]
