"""Messages to columns: sizes, ranges and names are checked here, where the bytes enter. Pure, no loop per point.

What is wrong is refused with a reason and a count; what is right in the same batch is kept.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from thalweg.wire import limits
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.ingest.checkpoints import checkpoint_problem
from thalweg_tracker.model.checks import attribute_problem, check_attempt, check_label
from thalweg_tracker.model.keys import RunKey, WriterKey, metric_key, writer_key

_HEX: Final = frozenset("0123456789abcdef")
_ORIGINS: Final = frozenset(pb.Origin.Kind.values()) - {pb.Origin.KIND_UNSPECIFIED}
_OUTCOMES: Final = frozenset(pb.WriterEnded.Outcome.values()) - {pb.WriterEnded.OUTCOME_UNSPECIFIED}
_SCHEMA_LEAST_NAMES: Final = 64
"""A schema counts as at least so many names: that is what its arrays cost."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """Who wants to speak on a stream, checked. `origin` None: the run goes on as it stands."""

    project: str
    run_id: str
    rank: int
    writer_id: str
    writer: WriterKey
    origin: pb.Origin | None
    branch: int | None  # as the server told it; None: it did not ask
    began_us: int  # 0: not told


@dataclass(frozen=True, slots=True)
class Writer:
    """Who speaks on a stream, and to which branch of the run its records belong."""

    project: str
    run_id: str
    branch: int
    run: RunKey
    rank: int
    writer_id: str
    writer: WriterKey
    after: float = -math.inf
    """The step at which the branch was forked: its own have to come after it."""


@dataclass(frozen=True, slots=True)
class StreamSchema:
    """A schema of one stream. `keys` ascend; column `order[i]` of a frame belongs to `keys[i]`."""

    keys: NDArray[np.uint64]  # (m,)
    order: NDArray[np.intp]  # (m,)
    of_host: NDArray[np.bool_]  # (m,)
    width: int  # values in a frame; above m where names were refused

    def without(self, refused: Collection[int]) -> StreamSchema:
        """The same frames with fewer metrics."""
        return self._only(~np.isin(self.keys, np.fromiter(refused, dtype=np.uint64, count=len(refused))))

    def only_host(self) -> StreamSchema:
        """The same frames with the metrics of the host alone."""
        return self._only(self.of_host)

    def _only(self, keep: NDArray[np.bool_]) -> StreamSchema:
        return StreamSchema(self.keys[keep], self.order[keep], self.of_host[keep], self.width)


@dataclass(frozen=True, slots=True)
class FrameBlock:
    """F frames of one schema and writer."""

    writer: Writer
    schema: StreamSchema
    steps: NDArray[np.float64]  # (f,), finite
    times: NDArray[np.int64]  # (f,), microseconds
    values: NDArray[np.float64]  # (f, width)
    resent: bool
    relogged: bool

    @property
    def points(self) -> int:
        """Number of points that will be stored."""
        return len(self.steps) * len(self.schema.keys)


@dataclass(slots=True)
class Decoded:
    """What a batch holds, and what of it was refused."""

    sequence: int
    blocks: list[FrameBlock] = field(default_factory=list)
    new_names: list[tuple[int, str]] = field(default_factory=list)  # key, name
    events: list[pb.Event] = field(default_factory=list)
    rejected: dict[pb.Rejected.Reason.ValueType, pb.Rejected] = field(default_factory=dict)

    def refuse(self, reason: pb.Rejected.Reason.ValueType, points: int, problem: str) -> None:
        """Counts refused points. One answer a reason, with its first problem: a batch cannot make us say more."""
        told = self.rejected.get(reason)
        if told is None:
            self.rejected[reason] = pb.Rejected(sequence=self.sequence, reason=reason, points=points, message=problem)
        else:
            told.points += points

    @property
    def points(self) -> int:
        """Number of points that will be stored."""
        return sum(block.points for block in self.blocks)

    @property
    def span(self) -> tuple[float, float]:
        """First and last step of the points that will be stored, but for those of the host; inf and -inf of none."""
        some = [block.steps for block in self.blocks if len(block.steps) and not block.schema.of_host.all()]
        first = min((float(steps.min()) for steps in some), default=math.inf)
        return first, max((float(steps.max()) for steps in some), default=-math.inf)


def decode_hello(hello: pb.Hello) -> Greeting:
    """Checks who speaks. Raises RejectedError."""
    if hello.protocol != limits.PROTOCOL:
        raise RejectedError("protocol", f"cannot speak protocol {hello.protocol}: this server speaks {limits.PROTOCOL}")
    check_label("project", hello.project, limits.PROJECT_MAX_BYTES)
    check_label("run_id", hello.run_id, limits.RUN_ID_MAX_BYTES)
    if hello.rank > limits.RANK_MAX:
        raise RejectedError("rank", f"cannot take rank {hello.rank}: at most {limits.RANK_MAX}")
    if len(hello.writer) != 32 or not set(hello.writer) <= _HEX:
        raise RejectedError("writer", "cannot take the writer's id: it is not 32 lower-case hexadecimal digits")
    if not limits.TIME_MIN_US <= hello.began_us < limits.TIME_MAX_US:
        raise RejectedError("began", f"cannot take the start {hello.began_us}: it is before 1970 or after 2200")
    origin = hello.origin if hello.HasField("origin") else None
    if origin is not None:
        _check_origin(origin)
    return Greeting(
        project=hello.project,
        run_id=hello.run_id,
        rank=hello.rank,
        writer_id=hello.writer,
        writer=writer_key(hello.writer),
        origin=origin,
        branch=hello.branch if hello.HasField("branch") else None,
        began_us=hello.began_us,
    )


def _check_origin(origin: pb.Origin) -> None:
    """Raises RejectedError."""
    if origin.kind not in _ORIGINS:
        raise RejectedError("origin", f"cannot take an origin of kind {origin.kind}: it is not known to this server")
    if origin.kind == pb.Origin.FORK:
        check_label("run_id", origin.parent_run_id, limits.RUN_ID_MAX_BYTES)
    else:
        check_attempt(origin.attempt)
    nothing = origin.kind == pb.Origin.REWIND and origin.step == -math.inf
    if origin.kind != pb.Origin.START and not (math.isfinite(origin.step) or nothing):
        raise RejectedError("origin", f"cannot fork at step {origin.step}: it is not finite")


class StreamDecoder:
    """Decodes the batches of one stream, whose schemas it remembers."""

    def __init__(self, writer: Writer, *, begins_after: int = 0, committed: int = 0) -> None:
        """`begins_after`: sequence number before the stream's first record. `committed`: the highest that was
        stored for this writer, on whatever stream.
        """
        self.writer = writer
        self._committed = committed
        self._sequence = begins_after
        self._schemas: dict[int, StreamSchema] = {}
        self._names = 0

    def decode(self, batch: pb.Batch) -> Decoded:
        """Columns of a batch. Raises RejectedError if the stream cannot go on."""
        parts = len(batch.schemas) + len(batch.frames) + len(batch.events)
        if parts > limits.BATCH_MAX_PARTS:
            raise RejectedError(
                "too_many_parts",
                f"cannot take batch {batch.sequence}: it has {parts} schemas, groups and events,"
                f" over {limits.BATCH_MAX_PARTS}",
            )
        decoded = Decoded(batch.sequence)
        # The sender's own word is not enough: its state may have been set back by a power loss or a copied folder.
        resent = batch.resent or self._sequence < self._committed
        self._sequence = max(self._sequence, batch.sequence)
        for schema in batch.schemas:
            self._take_schema(schema, decoded)
        for group in batch.frames:
            self._take_group(group, resent, decoded)
        for event in batch.events:
            self._take_event(event, decoded)
        return decoded

    def refuse_names(
        self, refused: Collection[int], decoded: Decoded, reason: pb.Rejected.Reason.ValueType, message: str
    ) -> None:
        """Takes metrics, given by their keys, out of this stream's schemas and of a batch."""
        self._schemas = {number: schema.without(refused) for number, schema in self._schemas.items()}
        for at, block in enumerate(decoded.blocks):
            smaller = replace(block, schema=block.schema.without(refused))
            lost = block.points - smaller.points
            if lost:
                decoded.blocks[at] = smaller
                decoded.refuse(reason, lost, message)

    def _take_schema(self, schema: pb.Schema, decoded: Decoded) -> None:
        """Remembers a schema with its good names. Raises RejectedError past the limit of a stream."""
        old = self._schemas.pop(schema.id, None)
        width = len(schema.names)
        if not 1 <= width <= limits.FRAME_MAX_POINTS:
            problem = f"schema {schema.id} has {width} names; 1 to {limits.FRAME_MAX_POINTS} are allowed"
            decoded.refuse(pb.Rejected.REJECTED_MALFORMED, 0, problem)
            return
        self._names += max(width, _SCHEMA_LEAST_NAMES) - (max(old.width, _SCHEMA_LEAST_NAMES) if old else 0)
        if self._names > limits.SCHEMAS_MAX_NAMES_PER_STREAM:
            limit = limits.SCHEMAS_MAX_NAMES_PER_STREAM
            raise RejectedError("too_many_names", f"cannot take schema {schema.id}: over {limit} names on this stream")
        columns: dict[int, int] = {}  # key -> column
        of_host = []
        for column, name in enumerate(schema.names):
            key, size = metric_key(name), len(name.encode())
            if not 1 <= size <= limits.METRIC_NAME_MAX_BYTES:
                problem = f"name {name[:60]!r} has {size} bytes; 1 to {limits.METRIC_NAME_MAX_BYTES} are allowed"
            elif key in columns:
                problem = f"name {name[:60]!r} is there twice, or has the key of another name"
            else:
                columns[key] = column
                of_host.append(name.startswith(limits.SYSTEM_PREFIX))
                decoded.new_names.append((key, name))
                continue
            decoded.refuse(pb.Rejected.REJECTED_NAME, 0, problem)
        keys = np.fromiter(columns.keys(), dtype=np.uint64, count=len(columns))
        order = np.fromiter(columns.values(), dtype=np.intp, count=len(columns))
        ascending = np.argsort(keys)
        hosts = np.array(of_host, dtype=np.bool_)
        self._schemas[schema.id] = StreamSchema(keys[ascending], order[ascending], hosts[ascending], width)

    def _take_group(self, group: pb.FrameGroup, resent: bool, decoded: Decoded) -> None:
        """Adds a group's good frames, and refuses the others."""
        schema = self._schemas.get(group.schema)
        if schema is None:
            reason, problem = pb.Rejected.REJECTED_UNKNOWN_SCHEMA, f"schema {group.schema} was not sent on this stream"
            decoded.refuse(reason, len(group.values) // 8, problem)
            return
        frames = len(group.steps) // 8
        expected = (8 * frames, 8 * frames, 8 * frames * schema.width)
        found = (len(group.steps), len(group.times), len(group.values))
        if found != expected:
            problem = f"steps, times and values have {found} bytes; a schema of {schema.width} names wants {expected}"
            decoded.refuse(pb.Rejected.REJECTED_MALFORMED, len(group.values) // 8, problem)
            return
        steps = np.frombuffer(group.steps, dtype="<f8")
        times = np.frombuffer(group.times, dtype="<i8")
        values = np.frombuffer(group.values, dtype="<f8").reshape(frames, schema.width)
        finite = np.isfinite(steps)
        timely = (times >= limits.TIME_MIN_US) & (times < limits.TIME_MAX_US)
        good = finite & timely
        if not good.all():
            for bad, reason, problem in (
                (~finite, pb.Rejected.REJECTED_STEP, "a step is not finite"),
                (finite & ~timely, pb.Rejected.REJECTED_TIME, "a time is before 1970 or after 2200"),
            ):
                if bad.any():
                    decoded.refuse(reason, int(bad.sum()) * schema.width, problem)
            steps, times, values = steps[good], times[good], values[good]
        without_name = len(steps) * (schema.width - len(schema.keys))
        if without_name:
            problem = "these points have names that were refused before"
            decoded.refuse(pb.Rejected.REJECTED_NAME, without_name, problem)
        block = FrameBlock(self.writer, schema, steps, times, values, resent, group.relogged)
        decoded.blocks.extend(part for part in self._without_history(block, decoded) if part.points)

    def _without_history(self, block: FrameBlock, decoded: Decoded) -> list[FrameBlock]:
        """The frames after the step at which the branch was forked; of the others only the metrics of the host."""
        early = block.steps <= self.writer.after
        if not early.any():
            return [block]
        parts = [
            replace(
                block, schema=schema, steps=block.steps[those], times=block.times[those], values=block.values[those]
            )
            for schema, those in ((block.schema, ~early), (block.schema.only_host(), early))
        ]
        refused = block.points - sum(part.points for part in parts)
        if refused:
            problem = f"step {block.steps[early][0]:g} is not after the fork step {self.writer.after:g}"
            decoded.refuse(pb.Rejected.REJECTED_BEFORE_FORK, refused, problem)
        return parts

    def _take_event(self, event: pb.Event, decoded: Decoded) -> None:
        """Adds an event, of attributes those that are good."""
        problem = event_problem(event)
        if problem:
            decoded.refuse(pb.Rejected.REJECTED_EVENT, 0, problem)
            return
        step, after = event.checkpoint.step, self.writer.after
        if event.WhichOneof("kind") == "checkpoint" and step <= after:
            problem = f"the checkpoint's step {step:g} is not after the fork step {after:g}"
            decoded.refuse(pb.Rejected.REJECTED_BEFORE_FORK, 0, problem)
            return
        problems = [attribute_problem(attribute) for attribute in event.attributes.attributes]
        if any(problems):
            decoded.refuse(pb.Rejected.REJECTED_EVENT, 0, next(filter(None, problems)))
            pairs = zip(event.attributes.attributes, problems, strict=True)
            good = pb.AttributesSet(attributes=[attribute for attribute, problem in pairs if not problem])
            event = pb.Event(time_us=event.time_us, attributes=good)
        decoded.events.append(event)


def event_problem(event: pb.Event) -> str:
    """What is wrong with an event as a whole; empty if nothing is."""
    if not limits.TIME_MIN_US <= event.time_us < limits.TIME_MAX_US:
        return f"its time {event.time_us} is before 1970 or after 2200"
    kind = event.WhichOneof("kind")
    if kind is None:
        return "its kind is not known to this server"
    if kind == "started" and len(event.started.host.encode()) > limits.HOST_MAX_BYTES:
        return f"its host has more than {limits.HOST_MAX_BYTES} bytes"
    if kind == "ended":
        return _end_problem(event.ended)
    if kind == "checkpoint":
        return checkpoint_problem(event.checkpoint)
    return ""


def _end_problem(ended: pb.WriterEnded) -> str:
    if ended.outcome not in _OUTCOMES:
        return f"its outcome {ended.outcome} is not known to this server"
    if max(len(ended.traceback.encode()), len(ended.exception.encode())) > limits.TRACEBACK_MAX_BYTES:
        return f"its exception or traceback has more than {limits.TRACEBACK_MAX_BYTES} bytes"
    return ""
