"""The open streams: what is told of each in the log, and of all in the metrics. Lives on one event loop.

A batch costs one observation here; what is asked only when Prometheus does is read then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.ingest.decode import Writer
from thalweg_tracker.telemetry.logs import facts
from thalweg_tracker.telemetry.metrics import IngestMetrics

log = logging.getLogger(__name__)


class Streams:
    """All streams of one process."""

    def __init__(self, metrics: IngestMetrics) -> None:
        self.metrics = metrics
        self.open_ones: set[StreamWatch] = set()
        metrics.streams.set_function(lambda: len(self.open_ones))
        metrics.worst_point_age_s.set_function(self._worst_age_s)

    def open(self) -> StreamWatch:
        """A stream that has just begun."""
        watch = StreamWatch(self)
        self.open_ones.add(watch)
        return watch

    def _worst_age_s(self) -> float:
        """May be called from any thread."""
        return max((one.age_s for one in list(self.open_ones)), default=0.0)


class StreamWatch:
    """One stream, from its begin to its end."""

    def __init__(self, streams: Streams) -> None:
        self.age_s = 0.0
        """Of the first point of the last batch, at its commit; 0 where that had none: nothing waits then."""
        self._streams = streams
        self._writer: Writer | None = None
        self._reason, self._detail = "gone", ""
        self._begun_s = time.monotonic()

    def greeted(self, writer: Writer) -> None:
        """Its writer is known."""
        self._writer = writer
        log.info(
            "stream opened: writer %s of run %s/%s (branch %d, rank %d)",
            writer.writer_id,
            writer.project,
            writer.run_id,
            writer.branch,
            writer.rank,
            extra=facts(**_who(writer)),
        )

    def committed(self, first_us: int, rejected: Collection[pb.Rejected]) -> None:
        """A batch was committed whose first point has this time; 0: it had none. And what was refused of it."""
        for one in rejected:
            self._streams.metrics.rejected.labels(_reason(one)).inc(one.points)
        if first_us:
            self.age_s = max(0.0, time.time() - first_us / 1e6)
            self._streams.metrics.point_age_s.observe(self.age_s)
        else:
            self.age_s = 0.0

    def ends(self, reason: str, detail: str = "") -> None:
        """Why it is about to end: one of STREAM_ENDS. Without this word its connection broke."""
        self._reason, self._detail = reason, detail

    def close(self) -> None:
        """It has ended."""
        self._streams.open_ones.discard(self)
        self._streams.metrics.stream_ends.labels(self._reason).inc()
        writer = self._writer
        of_whom = f"writer {writer.writer_id} of run {writer.project}/{writer.run_id}" if writer else "nobody greeted"
        why = f"{self._reason}: {self._detail}" if self._detail else self._reason
        lasted_s = round(time.monotonic() - self._begun_s, 1)
        told = facts(**_who(writer), reason=self._reason, duration_s=lasted_s)
        log.info("stream closed after %s s: %s (%s)", lasted_s, of_whom, why, extra=told)


def _who(writer: Writer | None) -> dict[str, object]:
    if writer is None:
        return {}
    return {"writer": writer.writer_id, "project": writer.project, "run": writer.run_id, "branch": writer.branch}


def _reason(rejected: pb.Rejected) -> str:
    """`step` for REJECTED_STEP."""
    name: str = pb.Rejected.Reason.Name(rejected.reason)
    return name.removeprefix("REJECTED_").lower()
