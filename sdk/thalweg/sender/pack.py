"""Spool records to batches for the wire. One thread; no socket, no clock.

Guarantees: batches name ascending sequence numbers; every schema is in a batch at or before the first
frame that uses it, after each `restart()` anew.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from thalweg.spool.reader import Record, SpoolReader
from thalweg.spool.records import EVENT, FRAME, FRAME_BODY, FRAME_BYTES, HEADER_BYTES, SCHEMA, read_text
from thalweg.spool.state import State
from thalweg.spool.writer import SCHEMAS_MAX
from thalweg.wire import limits
from thalweg.wire.v1 import records_pb2 as pb

log = logging.getLogger(__name__)

FAMILY_NAMES_MAX: Final = 2_000_000
"""Names that the detector of repeated steps remembers."""
RELOGGED_MAX: Final = 100_000
"""Frames with repeated steps that are remembered until their ack, before the acknowledged ones are forgotten."""

_OUTCOMES: Final = {
    "finished": pb.WriterEnded.FINISHED,
    "failed": pb.WriterEnded.FAILED,
    "killed": pb.WriterEnded.KILLED,
    "lost": pb.WriterEnded.LOST,
}
_CHECKPOINT_STATES: Final = {"staged": pb.CheckpointSaved.STAGED, "durable": pb.CheckpointSaved.DURABLE}


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch and what the sender must know about it."""

    message: pb.Batch
    points: int
    segment: int  # all earlier segments hold only records up to this batch
    size_bytes: int = 0  # of its records


@dataclass(slots=True)
class _Group:
    """Frames of one schema in the batch that is being filled."""

    steps: bytearray = field(default_factory=bytearray)
    times: bytearray = field(default_factory=bytearray)
    values: bytearray = field(default_factory=bytearray)
    relogged: bool = False

    def message(self, schema: int) -> pb.FrameGroup:
        return pb.FrameGroup(
            schema=schema,
            steps=bytes(self.steps),
            times=bytes(self.times),
            values=bytes(self.values),
            relogged=self.relogged,
        )


class RelogDetector:
    """Sees whether a frame may repeat a step of one of its metrics. Errs on the side of yes.

    Metrics that were ever logged together, over any number of steps, are a family with one highest step: a
    frame costs one comparison, however many schemas there are.
    """

    def __init__(self, highest_step: float) -> None:
        """`highest_step`: no frame of an unknown past had a higher one; -inf where there is no past."""
        self._floor = highest_step
        self._forget()

    def _forget(self) -> None:
        self._family_of_name: dict[str, int] = {}
        self._family_of_schema: dict[int, int] = {}
        self._highest: dict[int, float] = {}

    def declare(self, schema: int, names: Sequence[str]) -> None:
        """Takes note of a schema, whose id may have had another meaning before."""
        if len(self._family_of_name) + len(names) > FAMILY_NAMES_MAX:  # doubt every step up to the highest
            self._floor = self.highest
            self._forget()
        known = {self._family_of_name[name] for name in names if name in self._family_of_name}
        family = min(known, default=len(self._highest))
        self._highest[family] = max((self._highest[one] for one in known), default=self._floor)
        if len(known) > 1:
            self._merge(known, family)
        self._family_of_name.update(dict.fromkeys(names, family))
        self._family_of_schema[schema] = family

    def _merge(self, families: set[int], family: int) -> None:
        for name, one in self._family_of_name.items():
            if one in families:
                self._family_of_name[name] = family
        for schema, one in self._family_of_schema.items():
            if one in families:
                self._family_of_schema[schema] = family

    def is_relogged(self, schema: int, step: float) -> bool:
        """Whether the frame is not certainly new; remembers it."""
        family = self._family_of_schema.get(schema)
        if family is None or step <= self._highest[family]:  # None: forgotten since it was declared
            return True
        self._highest[family] = step
        return False

    @property
    def highest(self) -> float:
        """Highest step seen, or the floor."""
        return max(self._highest.values(), default=self._floor)


class Packer:
    """Fills batches from a reader."""

    def __init__(self, reader: SpoolReader, state: State) -> None:
        self.ended: dict[str, Any] | None = None
        """The writer's last word, once it was read."""
        self.sequence = 0
        """Sequence number of the last record read."""
        self._reader = reader
        self._state = state
        self._relogs = RelogDetector(state.highest_step if state.sent else float("-inf"))
        self._judged_to = 0
        self._relogged: set[int] = set()
        self.restart()

    def restart(self) -> None:
        """Begins again after the last acknowledged record: a new stream knows nothing."""
        self._reader.rewind()
        self._carried: Record | None = None
        self._acked = self._state.acked
        self.sequence = 0
        self._declared: dict[int, tuple[int, list[str]]] = {}
        """Id in the spool and names by id on the wire. The wire's ids begin again, so that the server stays bounded."""

    def next(self, *, writer_ended: bool) -> Packed | None:
        """The next batch, or None if there is nothing new to send."""
        batch = pb.Batch()
        groups: dict[int, _Group] = {}
        size = points = 0
        resent = False
        while size < limits.BATCH_TARGET_BYTES:
            record = self._carried or self._reader.advance(writer_ended=writer_ended)
            self._carried = None
            if record is None:
                break
            kind, sequence = record.header.kind, record.header.sequence
            if kind == SCHEMA and not self._declare(record, groups, batch):
                self._carried = record
                break
            self._note_sequence(sequence)
            if kind == EVENT:
                size += self._add_event(record, batch)
            elif kind == FRAME and sequence > self._acked:
                points += self._add_frame(record, groups)
                size += record.header.length
                resent = resent or sequence <= self._state.sent
            else:
                size += record.header.length if kind == SCHEMA else 0
        if not groups and not batch.events and not batch.schemas:
            return None
        batch.frames.extend(group.message(schema) for schema, group in groups.items())
        batch.sequence, batch.resent = self.sequence, resent
        return Packed(batch, points, self._reader.segment, size)

    def _add_frame(self, record: Record, groups: dict[int, _Group]) -> int:
        """Appends a frame to its schema's group and returns its number of points."""
        view, at = record.view, record.at
        spooled, count, step, _ = FRAME_BODY.unpack_from(view, at + HEADER_BYTES)
        schema = spooled % SCHEMAS_MAX
        known, names = self._declared.get(schema, (None, []))
        if known != spooled or len(names) != count:  # its schema lay in a damaged place
            log.warning("frame %d is dropped: its schema %d is missing", record.header.sequence, spooled)
            self._count_loss("rejected_unknown_schema", count, record.header.sequence)
            return 0
        group = groups.get(schema)
        if group is None:
            group = groups[schema] = _Group()
        body = at + HEADER_BYTES
        group.steps += view[body + 8 : body + 16]
        group.times += view[body + 16 : body + 24]
        group.values += view[at + FRAME_BYTES : at + FRAME_BYTES + 8 * count]
        if self._is_relogged(record.header.sequence, schema, step):
            group.relogged = True
        return int(count)

    def _is_relogged(self, sequence: int, schema: int, step: float) -> bool:
        """Whether the frame may repeat a step. One that is read again after a break keeps its verdict."""
        if sequence > self._judged_to:
            self._judged_to = sequence
            if self._relogs.is_relogged(schema, step):
                self._relogged.add(sequence)
            if len(self._relogged) > RELOGGED_MAX:
                self._relogged = {one for one in self._relogged if one > self._state.acked}
        return sequence in self._relogged

    def _declare(self, record: Record, groups: dict[int, _Group], batch: pb.Batch) -> bool:
        """Adds a schema to the batch. False if this batch uses its id with another meaning."""
        document = read_text(record.view, record.at)
        spooled, names = document["id"], document["names"]
        schema = spooled % SCHEMAS_MAX
        known = self._declared.get(schema)
        if known == (spooled, names):
            return True
        if known is not None and (schema in groups or any(s.id == schema for s in batch.schemas)):
            return False
        self._declared[schema] = (spooled, names)
        self._relogs.declare(schema, names)
        batch.schemas.append(pb.Schema(id=schema, names=names))
        return True

    def _add_event(self, record: Record, batch: pb.Batch) -> int:
        """Adds an event that is not acknowledged yet; takes note of the writer's last word in any case."""
        document = read_text(record.view, record.at)
        if document.get("kind") == "ended":
            self.ended = document
        if record.header.sequence <= self._acked:
            return 0
        try:
            batch.events.append(to_event(document))
        except (KeyError, TypeError, ValueError) as error:  # one bad event must not hold up all that follows
            log.warning("event %d is dropped: %r", record.header.sequence, error)
            self._count_loss("rejected_event", 1, record.header.sequence)
            return 0
        return record.header.length

    def _note_sequence(self, sequence: int) -> None:
        missing = sequence - (self.sequence or min(self._acked, sequence - 1)) - 1
        if missing > 0:
            log.warning("%d records before record %d are missing in the spool", missing, sequence)
            self._count_loss("records_missing", missing, sequence - 1)
        self.sequence = sequence

    def _count_loss(self, counter: str, lost: int, sequence: int) -> None:
        """Counts what was lost at a record, unless that was done when the record was read before."""
        if sequence > self._state.losses_counted_to:
            self._state.count(counter, lost)
            self._state.losses_counted_to = sequence

    @property
    def highest_step(self) -> float:
        """Highest step packed so far."""
        return self._relogs.highest


def to_event(document: dict[str, Any]) -> pb.Event:
    """An event record's JSON object as a message."""
    event = pb.Event(time_us=document["time_us"])
    kind = document["kind"]
    if kind == "started":
        event.started.CopyFrom(
            pb.WriterStarted(primary=document["primary"], host=document["host"], pid=document["pid"])
        )
    elif kind == "attributes":
        attributes = (pb.Attribute(path=_utf8(path), json=text) for path, text in document["attributes"].items())
        event.attributes.attributes.extend(attributes)
    elif kind == "ended":
        event.ended.CopyFrom(
            pb.WriterEnded(
                outcome=_OUTCOMES[document["outcome"]],
                exit_code=document.get("exit_code"),
                signal=document.get("signal"),
                exception=_utf8(document.get("exception", "")),
                traceback=_utf8(document.get("traceback", "")),
            )
        )
    elif kind == "checkpoint":
        event.checkpoint.CopyFrom(_to_checkpoint(document["checkpoint"]))
    else:
        raise ValueError(f"cannot send event of kind {kind!r}: unknown")
    return event


def _to_checkpoint(document: dict[str, Any]) -> pb.CheckpointSaved:
    """What `thalweg.checkpoints.record` has written."""
    files = (
        pb.CheckpointFile(path=_utf8(file["path"]), size_bytes=file["size_bytes"], digest=file["digest"])
        for file in document["files"]
    )
    return pb.CheckpointSaved(
        step=document["step"],
        kind=document["kind"],
        uri=_utf8(document["uri"]),
        state=_CHECKPOINT_STATES[document["state"]],
        shard=document["shard"],
        shards=document["shards"],
        size_bytes=document["size_bytes"],
        digest=document["digest"],
        files=files,
        staged_us=document["staged_us"],
        saved_us=document["saved_us"],
        blocked_s=document["blocked_s"],
        metrics_json=json.dumps(document["metrics"]) if document["metrics"] else "",
        metadata_json=json.dumps(document["metadata"]) if document["metadata"] else "",
    )


def _utf8(text: str) -> str:
    """The text with what UTF-8 cannot hold written out: file names in messages may have lone surrogates."""
    return text.encode(errors="backslashreplace").decode()
