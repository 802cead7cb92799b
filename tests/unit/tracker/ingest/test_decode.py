"""Messages to columns: every refusal, with its reason and its count; what is good beside it is kept."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.support import wire
from thalweg.wire import limits
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.ingest.decode import StreamDecoder, decode_hello, event_problem
from thalweg_tracker.model.checks import attribute_problem
from thalweg_tracker.model.keys import metric_key

R = pb.Rejected
GOOD = wire.group(1, [100], [[7, 8]])


def decoder() -> StreamDecoder:
    """The decoder of a stream that said Hello."""
    return StreamDecoder(wire.writer(wire.hello("r")))


def reasons(decoded: Any) -> dict[int, int]:
    """Reason to points."""
    return {reason: one.points for reason, one in decoded.rejected.items()}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"protocol": 0}, "protocol"),
        ({"protocol": 2}, "protocol"),
        ({"writer": ""}, "writer"),
        ({"writer": "0" * 31}, "writer"),
        ({"writer": "0" * 33}, "writer"),
        ({"writer": "A" * 32}, "writer"),
        ({"writer": "\N{ARABIC-INDIC DIGIT ZERO}" * 32}, "writer"),
        ({"project": ""}, "bad_project"),
        ({"project": "x" * 129}, "bad_project"),
        ({"project": "é" * 65}, "bad_project"),
        ({"project": "a/b"}, "bad_project"),
        ({"project": "a\nb"}, "bad_project"),
        ({"project": "\0"}, "bad_project"),
        ({"project": "."}, "bad_project"),
        ({"run_id": ""}, "bad_run_id"),
        ({"run_id": ".."}, "bad_run_id"),
        ({"run_id": "\u2028"}, "bad_run_id"),
        ({"rank": 65_536}, "rank"),
        ({"rank": 2**32 - 1}, "rank"),
    ],
)
def test_a_bad_hello(change: dict[str, Any], code: str) -> None:
    """Refused with a code that names the field."""
    greeting = wire.hello("r")
    for key, value in change.items():
        setattr(greeting, key, value)
    with pytest.raises(RejectedError) as caught:
        decode_hello(greeting)
    assert caught.value.code == code


FORK, REWIND, START = pb.Origin.FORK, pb.Origin.REWIND, pb.Origin.START


@pytest.mark.parametrize(
    ("origin", "code"),
    [
        (pb.Origin(kind=START, attempt="a"), None),
        (pb.Origin(kind=START, attempt="é" * 128), None),
        (pb.Origin(kind=START, attempt="a", step=math.nan), None),
        (pb.Origin(kind=START), "bad_attempt"),
        (pb.Origin(kind=START, attempt="é" * 129), "bad_attempt"),
        (pb.Origin(kind=FORK, parent_run_id="r"), None),
        (pb.Origin(kind=FORK, parent_run_id="r", parent_branch=0, step=-1.5), None),
        (pb.Origin(kind=FORK, parent_run_id="r", step=1e308, attempt="x" * 999), None),
        (pb.Origin(kind=FORK), "bad_run_id"),
        (pb.Origin(kind=FORK, parent_run_id="a/b"), "bad_run_id"),
        (pb.Origin(kind=FORK, parent_run_id="r", step=math.nan), "origin"),
        (pb.Origin(kind=FORK, parent_run_id="r", step=math.inf), "origin"),
        (pb.Origin(kind=FORK, parent_run_id="r", step=-math.inf), "origin"),
        (pb.Origin(kind=REWIND, attempt="a"), None),
        (pb.Origin(kind=REWIND, attempt="a", step=-math.inf), None),
        (pb.Origin(kind=REWIND, attempt="a", step=5, branch=2**32 - 1), None),
        (pb.Origin(kind=REWIND, step=5), "bad_attempt"),
        (pb.Origin(kind=REWIND, attempt="a", step=math.inf), "origin"),
        (pb.Origin(kind=REWIND, attempt="a", step=math.nan), "origin"),
        (pb.Origin(), "origin"),
        (pb.Origin(kind=9, attempt="a"), "origin"),  # type: ignore[arg-type]
    ],
)
def test_origins(origin: pb.Origin, code: str | None) -> None:
    """A kind that is known, with what it needs: a run to fork, an attempt, a step that is a number."""
    greeting = wire.hello("r")
    greeting.origin.CopyFrom(origin)
    if code is None:
        assert decode_hello(greeting).origin == origin
    else:
        with pytest.raises(RejectedError) as caught:
            decode_hello(greeting)
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("began_us", "is_good"),
    [(0, True), (wire.START_US, True), (limits.TIME_MAX_US - 1, True), (-1, False), (limits.TIME_MAX_US, False)],
)
def test_the_time_at_which_a_writer_began(began_us: int, is_good: bool) -> None:
    """Between 1970 and 2200; none is told as 0. Without an origin there is none."""
    greeting = wire.hello("r")
    greeting.began_us = began_us
    if is_good:
        assert (decode_hello(greeting).began_us, decode_hello(greeting).origin) == (began_us, None)
    else:
        with pytest.raises(RejectedError, match="before 1970"):
            decode_hello(greeting)


@pytest.mark.parametrize(
    ("steps", "kept", "refused"),  # kept: of the metric of the training, of the host
    [
        ([6.0], ([6.0], [6.0]), 0),
        ([5.0], ([], [5.0]), 1),
        ([5.0, math.nextafter(5.0, 6.0)], ([math.nextafter(5.0, 6.0)], [5.0, math.nextafter(5.0, 6.0)]), 1),
        ([-1e9, 7.0, 4.0], ([7.0], [-1e9, 7.0, 4.0]), 2),
    ],
)
def test_history_is_not_taken(steps: list[float], kept: tuple[list[float], list[float]], refused: int) -> None:
    """Steps up to the fork step are refused with a count, but for the metrics of the host."""
    stream = StreamDecoder(replace(wire.writer(wire.hello("r")), after=5.0))
    decoded = stream.decode(wire.batch(1, ["system/b", "a"], steps, [[1, 2]] * len(steps)))
    assert reasons(decoded) == ({R.REJECTED_BEFORE_FORK: refused} if refused else {})
    for name, wanted in zip(("a", "system/b"), kept, strict=True):
        of_name = [block for block in decoded.blocks if metric_key(name) in block.schema.keys]
        assert sorted(step for block in of_name for step in block.steps) == sorted(wanted)
    assert all(block.points for block in decoded.blocks)


def test_a_good_hello() -> None:
    """At the limits of everything."""
    greeting = wire.hello("é" * 64, writer=255, rank=65_535, project="...")
    writer = decode_hello(greeting)
    assert (writer.run_id, writer.rank, writer.writer) == ("é" * 64, 65_535, 255)


def raw(steps: int = 8, times: int = 8, values: int = 16, schema: int = 1) -> pb.FrameGroup:
    """A group of zero bytes."""
    return pb.FrameGroup(schema=schema, steps=bytes(steps), times=bytes(times), values=bytes(values))


@pytest.mark.parametrize(
    ("bad", "refused"),
    [
        (raw(values=15), {R.REJECTED_MALFORMED: 1}),
        (raw(values=8), {R.REJECTED_MALFORMED: 1}),
        (raw(values=24), {R.REJECTED_MALFORMED: 3}),
        (raw(steps=7), {R.REJECTED_MALFORMED: 2}),
        (raw(steps=9), {R.REJECTED_MALFORMED: 2}),
        (raw(steps=0), {R.REJECTED_MALFORMED: 2}),
        (raw(times=0), {R.REJECTED_MALFORMED: 2}),
        (raw(times=16), {R.REJECTED_MALFORMED: 2}),
        (raw(schema=2), {R.REJECTED_UNKNOWN_SCHEMA: 2}),
        (raw(schema=0, values=0), {R.REJECTED_UNKNOWN_SCHEMA: 0}),
        (wire.group(1, [math.nan], [[1, 2]]), {R.REJECTED_STEP: 2}),
        (wire.group(1, [math.inf], [[1, 2]]), {R.REJECTED_STEP: 2}),
        (wire.group(1, [-math.inf, math.nan], [[1, 2], [3, 4]]), {R.REJECTED_STEP: 4}),
        (wire.group(1, [1], [[1, 2]], [-1]), {R.REJECTED_TIME: 2}),
        (wire.group(1, [1], [[1, 2]], [limits.TIME_MAX_US]), {R.REJECTED_TIME: 2}),
        (wire.group(1, [1], [[1, 2]], [-(2**63)]), {R.REJECTED_TIME: 2}),
        (wire.group(1, [math.nan], [[1, 2]], [-1]), {R.REJECTED_STEP: 2}),
        (wire.group(1, [math.nan, 1], [[1, 2], [3, 4]], [0, -1]), {R.REJECTED_STEP: 2, R.REJECTED_TIME: 2}),
        (raw(steps=0, times=0, values=0), {}),
        (wire.group(1, [-1.5, 1e300], [[math.nan, math.inf]] * 2, [0, limits.TIME_MAX_US - 1]), {}),
    ],
)
def test_a_bad_group_is_refused_alone(bad: pb.FrameGroup, refused: dict[int, int]) -> None:
    """With reason and points; the groups around it are kept, and so are the good frames in it."""
    batch = pb.Batch(sequence=3, schemas=[pb.Schema(id=1, names=["a", "b"])], frames=[GOOD, bad, GOOD])
    decoded = decoder().decode(batch)
    assert reasons(decoded) == refused
    assert all(one.sequence == 3 and one.message for one in decoded.rejected.values())
    told = len(bad.values) // 8 - sum(refused.values())
    assert decoded.points == 4 + max(told, 0)
    assert all(block.points for block in decoded.blocks)


@pytest.mark.parametrize(
    ("names", "kept", "refused"),
    [
        (["a"], [0], {}),
        (["a", "b"], [0, 1], {}),
        (["x" * 1024, "é" * 512], [0, 1], {}),
        (["", "b"], [1], {R.REJECTED_NAME: 1}),
        (["x" * 1025, "b"], [1], {R.REJECTED_NAME: 1}),
        (["é" * 513, "b"], [1], {R.REJECTED_NAME: 1}),
        (["a", "a", "b"], [0, 2], {R.REJECTED_NAME: 1}),
        (["", "", ""], [], {R.REJECTED_NAME: 3}),
        ([], [], {R.REJECTED_MALFORMED: 0, R.REJECTED_UNKNOWN_SCHEMA: 0}),
    ],
)
def test_names_of_a_schema(names: list[str], kept: list[int], refused: dict[int, int]) -> None:
    """Bad names are refused, each time with their points; the columns of the others stay where they are."""
    rows = [list(range(len(names)))]
    batch = pb.Batch(sequence=1, schemas=[pb.Schema(id=1, names=names)], frames=[wire.group(1, [1], rows)])
    decoded = decoder().decode(batch)
    assert reasons(decoded) == refused
    assert dict(decoded.new_names) == {metric_key(names[at]): names[at] for at in kept}
    found = {
        int(key): block.values[0, column]
        for block in decoded.blocks
        for key, column in zip(block.schema.keys, block.schema.order, strict=True)
    }
    assert found == {metric_key(names[at]): float(at) for at in kept}
    assert all((np.diff(block.schema.keys.astype(object)) > 0).all() for block in decoded.blocks)


def test_a_schema_is_remembered_until_its_id_is_named_again() -> None:
    """Also when the new meaning is refused: nothing is stored under the old one."""
    stream = decoder()
    stream.decode(wire.batch(1, ["a", "b"]))
    assert stream.decode(pb.Batch(frames=[GOOD])).points == 2
    refused = stream.decode(pb.Batch(sequence=2, schemas=[pb.Schema(id=1)], frames=[GOOD]))
    assert (refused.points, reasons(refused)[R.REJECTED_UNKNOWN_SCHEMA]) == (0, 2)


def test_a_schema_has_as_many_names_as_a_frame_may_have_points() -> None:
    """One more is refused, as a whole."""
    names = [str(number) for number in range(limits.FRAME_MAX_POINTS + 1)]
    assert len(decoder().decode(wire.batch(1, names[:-1])).new_names) == limits.FRAME_MAX_POINTS
    decoded = decoder().decode(wire.batch(1, names))
    assert (decoded.new_names, reasons(decoded)) == ([], {R.REJECTED_MALFORMED: 0})


def test_a_stream_has_a_limit_of_names() -> None:
    """Small schemas count as 64 names. Naming an id again does not count twice. The code asks for a new stream."""
    stream = decoder()
    for _ in range(3):
        stream.decode(pb.Batch(schemas=[pb.Schema(id=1, names=["a"])] * 100_000))
    schemas = [pb.Schema(id=number, names=["a"]) for number in range(limits.SCHEMAS_MAX_NAMES_PER_STREAM // 64)]
    stream.decode(pb.Batch(schemas=schemas))
    with pytest.raises(RejectedError) as caught:
        stream.decode(pb.Batch(schemas=[pb.Schema(id=2**32 - 1, names=["a"])]))
    assert caught.value.code == "too_many_names"


def test_names_refused_by_the_registry_leave_the_stream() -> None:
    """Their points are counted once in this batch and in each later one; the others are kept."""
    stream = decoder()
    batch = wire.batch(1, ["a", "b"], [1, 2], [[1, 2], [3, 4]])
    decoded = stream.decode(batch)
    stream.refuse_names({metric_key("a")}, decoded, R.REJECTED_COLLISION, "it is that of 'other'")
    assert (decoded.points, reasons(decoded)) == (2, {R.REJECTED_COLLISION: 2})
    assert "'other'" in decoded.rejected[R.REJECTED_COLLISION].message
    later = stream.decode(pb.Batch(frames=[GOOD]))
    assert (later.points, reasons(later)) == (1, {R.REJECTED_NAME: 1})


def test_a_batch_has_a_limit_of_parts() -> None:
    """Past it the stream ends: no writer of ours makes so many."""
    with pytest.raises(RejectedError, match="over"):
        decoder().decode(pb.Batch(frames=[pb.FrameGroup()] * (limits.BATCH_MAX_PARTS + 1)))


LONG = "x" * (limits.TRACEBACK_MAX_BYTES + 1)


@pytest.mark.parametrize(
    ("event", "is_good"),
    [
        (wire.started(), True),
        (wire.started(0), True),
        (wire.started(-1), False),
        (wire.started(limits.TIME_MAX_US), False),
        (pb.Event(time_us=1), False),
        (wire.ended(pb.WriterEnded.LOST), True),
        (wire.ended(pb.WriterEnded.OUTCOME_UNSPECIFIED), False),
        (pb.Event(ended=pb.WriterEnded(outcome=9)), False),  # type: ignore[arg-type]
        (pb.Event(ended=pb.WriterEnded(outcome=1, traceback=LONG[1:])), True),
        (pb.Event(ended=pb.WriterEnded(outcome=1, traceback=LONG)), False),
        (pb.Event(ended=pb.WriterEnded(outcome=1, exception=LONG)), False),
        (pb.Event(started=pb.WriterStarted(host="h" * 1025)), False),
    ],
)
def test_events(event: pb.Event, is_good: bool) -> None:
    """Times in range, an outcome that is known, texts within their limits."""
    assert (event_problem(event) == "") == is_good
    decoded = decoder().decode(pb.Batch(events=[event, wire.started()]))
    assert len(decoded.events) == 1 + is_good


@pytest.mark.parametrize(
    ("path", "text", "problem"),
    [
        ("config.a", "1", ""),
        ("config.a", "", ""),
        ("tags.é \n", "true", ""),
        ("env.", "{}", ""),
        ("run.name", '"\\ud800"', ""),
        ("config." + "x" * 1017, "1", ""),
        ("config." + "x" * 1018, "1", "bytes"),
        ("", "1", "bytes"),
        ("config", "1", "begin with"),
        (".a", "1", "begin with"),
        ("Config.a", "1", "begin with"),
        ("config" + ".p" * 63, "1", ""),
        ("config" + ".p" * 64, "1", "parts"),
        ("config.a", "[" * 64 + "]" * 64, ""),
        ("config.a", "[" * 65 + "]" * 65, "deep"),
        ("config.a", '{"a":' * 65 + "1" + "}" * 65, "deep"),
        ("config.a", '"' + "[" * 1000 + '"', ""),
        ("config.a", "[" * 100_000, "not JSON"),
        ("config.a", "NaN", "not JSON"),
        ("config.a", "[-Infinity]", "not JSON"),
        ("config.a", "1" * 5000, "not JSON"),
        ("config.a", "{'a': 1}", "not JSON"),
        ("config.a", "1 2", "not JSON"),
        ("config.a", " ", "not JSON"),
        ("config.a", '"' + "x" * limits.ATTRIBUTE_JSON_MAX_BYTES + '"', "bytes"),
    ],
)
def test_attributes(path: str, text: str, problem: str) -> None:
    """A path in a known namespace, a JSON value, both within their limits."""
    found = attribute_problem(pb.Attribute(path=path, json=text))
    assert (problem in found) if problem else found == "", found
    assert len(found) < 300


def test_a_bad_attribute_leaves_the_others_of_its_event() -> None:
    """They were set together, and are right each by itself."""
    event = wire.attributes(5, config__a="1", nowhere="1", config__b="{")
    decoded = decoder().decode(pb.Batch(events=[event]))
    assert [a.path for a in decoded.events[0].attributes.attributes] == ["config.a"]
    assert (decoded.events[0].time_us, reasons(decoded)) == (5, {R.REJECTED_EVENT: 0})


def test_flags_of_a_batch_reach_its_blocks() -> None:
    """`resent` is of the batch, `relogged` of the group."""
    batch = wire.batch(1, ["a"], [1], [[1]], resent=True)
    batch.frames.append(wire.group(1, [2], [[2]], relogged=True))
    assert [(one.resent, one.relogged) for one in decoder().decode(batch).blocks] == [(True, False), (True, True)]
