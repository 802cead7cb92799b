"""From spool records to batches: what is in them, what is flagged, what is counted."""

from __future__ import annotations

import json
import logging
from array import array
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.batches import StreamReader, frames_of
from tests.support.spools import NO_LIMIT, append, new_folder, segments, small_writer
from thalweg.sender.pack import Packed, Packer, RelogDetector, to_event
from thalweg.spool.reader import SpoolReader
from thalweg.spool.records import SCHEMA, read_header
from thalweg.spool.state import State
from thalweg.spool.writer import SCHEMAS_MAX, SpoolWriter
from thalweg.wire import limits
from thalweg.wire.v1 import records_pb2 as pb


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty writer's folder."""
    return new_folder(tmp_path)


def packer_of(folder: Path) -> Packer:
    """A packer as a new sender process makes it."""
    return Packer(SpoolReader(folder, lambda damage: None), State(folder))


def pack_all(packer: Packer) -> list[Packed]:
    """All batches there are."""
    packed = []
    while (one := packer.next(writer_ended=True)) is not None:
        packed.append(one)
    return packed


def messages(packed: Sequence[Packed]) -> list[pb.Batch]:
    """Their messages."""
    return [one.message for one in packed]


def write_event(spool: SpoolWriter, document: dict[str, Any]) -> None:
    """Appends an event."""
    spool.append_event(json.dumps(document).encode())


def test_groups_equal_what_was_logged(folder: Path) -> None:
    """Every frame is in a batch with its names, step, time and values; points are counted."""
    spool = small_writer(folder)
    logged = []
    for step in range(300):
        values = {"a": step + 0.5} if step % 3 else {"b": -float(step), "c": float("inf")}
        append(spool, values, step, 1000 + step)
        logged.append((tuple(values), float(step), 1000 + step, tuple(values.values())))
    spool.close()
    packed = pack_all(packer_of(folder))
    sent = [(frame.names, frame.step, frame.time_us, frame.numbers) for frame in frames_of(messages(packed))]
    assert sorted(sent) == sorted(logged)
    for names in ({"a"}, {"b", "c"}):
        steps = [step for found, step, _, _ in sent if set(found) == names]
        assert steps == sorted(steps), "a group keeps the order of logging"
    assert sum(one.points for one in packed) == 400
    assert packed[-1].message.sequence == spool.sequence


def test_batches_close_at_their_target(folder: Path) -> None:
    """A batch is closed at BATCH_TARGET_BYTES, and never passes the largest message."""
    spool = SpoolWriter(folder, NO_LIMIT)
    wide = {f"m{index}": 0.0 for index in range(50_000)}
    for step in range(12):
        append(spool, wide, step)
    spool.close()
    packed = pack_all(packer_of(folder))
    assert len(packed) > 3
    assert all(one.message.ByteSize() < limits.MESSAGE_MAX_BYTES for one in packed)
    assert [frame.step for frame in frames_of(messages(packed))] == list(range(12))


def test_schemas_come_before_use_once_a_stream(folder: Path) -> None:
    """A schema travels once, although each segment repeats it, and again after a restart."""
    spool = small_writer(folder)
    for step in range(400):
        append(spool, {"a": 0.0, "b": 1.0}, step)
    spool.close()
    assert len(segments(folder)) > 5
    packer = packer_of(folder)
    for _ in range(2):
        batches = messages(pack_all(packer))
        assert sum(len(batch.schemas) for batch in batches) == 1
        assert len(frames_of(batches)) == 400
        packer.restart()


def test_what_may_have_been_sent_is_flagged(folder: Path) -> None:
    """What may have been sent is flagged `resent`, what is new is not, what is acknowledged is left out."""
    spool = small_writer(folder)
    for step in range(4):
        append(spool, {"a": 0.0}, step)  # records 2 to 5; 1 is the schema
    packer = packer_of(folder)
    (first,) = pack_all(packer)
    assert not first.message.resent
    state = State(folder)
    state.sent, state.acked = 5, 3
    packer.restart()
    (again,) = pack_all(packer)
    assert again.message.resent
    assert [frame.step for frame in frames_of([again.message])] == [2, 3]
    append(spool, {"a": 0.0}, 4)
    (new,) = pack_all(packer)
    assert not new.message.resent
    spool.close()
    after_crash = pack_all(packer_of(folder))
    assert [one.message.resent for one in after_crash] == [True]


@pytest.mark.parametrize(
    ("frames", "repeated"),
    [
        ([("a", 1), ("a", 2)], [False, False]),
        ([("a", 1), ("a", 1)], [False, True]),
        ([("a", 2), ("a", 1)], [False, True]),
        ([("a", 1), ("b", 1)], [False, False]),
        ([("ab", 1), ("b", 1)], [False, True]),
        ([("ab", 1), ("bc", 2), ("a", 2)], [False, False, True]),  # one family: doubted, though a is new
        ([("ab", 2), ("bc", 1), ("c", 1)], [False, True, True]),
        ([("a", -1), ("a", -0.5)], [False, False]),
        ([("a", 0.0), ("a", -0.0)], [False, True]),
    ],
)
def test_relogged_cases(frames: list[tuple[str, float]], repeated: list[bool]) -> None:
    """A frame is new if the metrics that were ever logged together with its own have only lower steps."""
    detector = RelogDetector(float("-inf"))
    ids: dict[str, int] = {}
    seen = []
    for names, step in frames:
        if names not in ids:
            ids[names] = len(ids)
            detector.declare(ids[names], names)
        seen.append(detector.is_relogged(ids[names], step))
    assert seen == repeated


SETS = st.sampled_from(["a", "b", "ab", "bc", "cd", "abcd", "e", "ef", "fa"])
STEPS = st.integers(-3, 6).map(float)


@given(st.lists(st.tuples(SETS, STEPS, st.integers(0, 3)), max_size=60))
def test_never_called_new_where_a_metric_has_the_step(frames: list[tuple[str, float, int]]) -> None:
    """Against a per-metric oracle, with ids that change their meaning: a repeated step is never called new."""
    detector = RelogDetector(float("-inf"))
    meaning: dict[int, str] = {}
    steps: dict[str, set[float]] = defaultdict(set)
    for names, step, schema in frames:
        if meaning.get(schema) != names:
            if names in meaning.values():
                schema = next(number for number, known in meaning.items() if known == names)
            else:
                if schema in meaning:
                    meaning.clear()
                meaning[schema] = names
                detector.declare(schema, names)
        repeated = any(step in steps[name] for name in names)
        assert detector.is_relogged(schema, step) or not repeated
        for name in names:
            steps[name].add(step)


@given(st.lists(st.integers(0, 3), max_size=60))
def test_no_false_alarm_for_disjoint_schemas(order: list[int]) -> None:
    """Schemas without a common name that each go forward are never called relogged, however they lag."""
    detector = RelogDetector(float("-inf"))
    for schema in range(4):
        detector.declare(schema, [f"{schema}/x", f"{schema}/y"])
    step = [0.0, 100.0, -50.0, 7.0]
    for schema in order:
        step[schema] += 1
        assert not detector.is_relogged(schema, step[schema])


@pytest.mark.parametrize(("steps", "relogged"), [((1, 2, 2, 3), True), ((1, 2, 3), False)])
def test_verdict_outlives_a_break(folder: Path, steps: tuple[int, ...], relogged: bool) -> None:
    """Frames that are read again after a break are relogged if they were the first time, and only then."""
    spool = small_writer(folder)
    for step in steps:
        append(spool, {"a": float(step)}, step)
    spool.close()
    packer = packer_of(folder)
    first = pack_all(packer)
    packer.restart()
    again = pack_all(packer)
    assert [one.message.frames[0].relogged for one in (*first, *again)] == [relogged, relogged]


def test_unknown_past_is_doubted_up_to_its_highest_step(folder: Path) -> None:
    """A new sender process doubts every step up to the highest that was ever sent, and none after it."""
    spool = small_writer(folder)
    state = State(folder)
    state.sent, state.highest_step = 1, 5.0
    for step in (5, 6):
        append(spool, {f"m{step}": 0.0}, step)
    spool.close()
    frames = frames_of(messages(pack_all(packer_of(folder))))
    assert [(frame.step, frame.relogged) for frame in frames] == [(5, True), (6, False)]


def test_ids_used_again_on_the_wire_split_batches(folder: Path) -> None:
    """Past SCHEMAS_MAX schemas the wire's ids begin again: no batch gives an id two meanings, ids stay bounded."""
    spool = SpoolWriter(folder, NO_LIMIT)
    count = 2 * SCHEMAS_MAX + 5
    for index in range(count):
        append(spool, {f"m{index}": float(index)}, index)
    append(spool, {"m0": -1.0}, count)
    spool.close()
    batches = messages(pack_all(packer_of(folder)))
    sent = [(frame.names, frame.numbers) for frame in frames_of(batches)]
    assert sorted(sent) == sorted([((f"m{index}",), (float(index),)) for index in range(count)] + [(("m0",), (-1.0,))])
    assert max(schema.id for batch in batches for schema in batch.schemas) < SCHEMAS_MAX
    assert len(batches) >= 3


def zero(path: Path, *sequences: int) -> None:
    """Zeroes the records with these sequence numbers."""
    whole = path.read_bytes()
    damaged, view, at = bytearray(whole), memoryview(whole), 0
    while (header := read_header(view, at)) is not None:
        if header.sequence in sequences:
            damaged[at : at + header.length] = bytes(header.length)
        at += header.length
    path.write_bytes(damaged)


def test_missing_schema_costs_its_frames_alone_and_is_counted(folder: Path) -> None:
    """Frames whose schema lay in a damaged place are counted, once, and all others go out."""
    spool = SpoolWriter(folder, NO_LIMIT)
    append(spool, {"a": 1.0}, 0)
    append(spool, {"b": 1.0, "c": 2.0}, 0)  # records 3 (schema) and 4
    append(spool, {"a": 1.0}, 1)
    spool.close()
    zero(segments(folder)[0], 3)
    for _ in range(2):  # a new sender process reads the same again
        packer = packer_of(folder)
        for _ in range(2):  # and so does a new stream
            assert [frame.key for frame in frames_of(messages(pack_all(packer)))] == [(("a",), 0.0), (("a",), 1.0)]
            packer.restart()
    assert State(folder).counters() == {"records_missing": 1, "rejected_unknown_schema": 2}


def test_lost_schema_of_an_id_used_again_is_not_taken_for_the_old_one(folder: Path) -> None:
    """Where an id on the wire changes its meaning in a damaged place, values never get another metric's name."""
    spool = SpoolWriter(folder, NO_LIMIT)
    for index in range(SCHEMAS_MAX + 1):
        append(spool, {f"m{index}": float(index)}, index)
    spool.close()
    (path,) = segments(folder)
    zero(path, spool.sequence - 1)  # the last schema
    sent = {frame.names: frame.numbers for frame in frames_of(messages(pack_all(packer_of(folder))))}
    assert sent == {(f"m{index}",): (float(index),) for index in range(SCHEMAS_MAX)}
    assert State(folder).counters() == {"records_missing": 1, "rejected_unknown_schema": 1}


def test_missing_records_are_counted_once(folder: Path) -> None:
    """Gaps are counted by their sequence numbers, each once, however often they are read."""
    spool = small_writer(folder)
    for step in range(20):
        append(spool, {"a": 0.0}, step)
    spool.close()
    zero(segments(folder)[0], 5, 6, 9)
    for _ in range(2):
        packer = packer_of(folder)
        for _ in range(3):
            assert len(frames_of(messages(pack_all(packer)))) == 17
            packer.restart()
    assert State(folder).counters() == {"records_missing": 3}


def test_acknowledged_segments_that_are_gone_are_not_missing(folder: Path) -> None:
    """What was acknowledged and deleted is no gap; what was deleted without an ack is."""
    spool = small_writer(folder)
    for step in range(300):
        append(spool, {"a": 0.0}, step)
    spool.close()
    first, second = segments(folder)[:2]
    view = memoryview(second.read_bytes())
    header = read_header(view, 0)
    assert header is not None
    assert header.kind == SCHEMA
    state = State(folder)
    state.acked = state.sent = header.sequence - 1
    first.unlink()
    pack_all(packer_of(folder))
    assert state.counters() == {}
    state.acked -= 2
    pack_all(packer_of(folder))
    assert state.counters() == {"records_missing": 2}


CHECKPOINT = {
    "step": 7.5,
    "kind": "model",
    "uri": "s3://bucket/key",
    "state": "staged",
    "shard": 3,
    "shards": 8,
    "size_bytes": 0,
    "digest": "",
    "files": [],
    "staged_us": 9,
    "saved_us": 0,
    "blocked_s": 0.0,
    "metrics": {},
    "metadata": {},
}
EVENTS = [
    (
        {"time_us": 1, "kind": "started", "primary": True, "host": "h", "pid": 7},
        pb.Event(time_us=1, started=pb.WriterStarted(primary=True, host="h", pid=7)),
    ),
    (
        {"time_us": 2, "kind": "attributes", "attributes": {"config.a": "1", "config.b": ""}},
        pb.Event(
            time_us=2,
            attributes=pb.AttributesSet(
                attributes=[pb.Attribute(path="config.a", json="1"), pb.Attribute(path="config.b")]
            ),
        ),
    ),
    (
        {"time_us": 3, "kind": "ended", "outcome": "killed", "exit_code": None, "signal": 9},
        pb.Event(time_us=3, ended=pb.WriterEnded(outcome=pb.WriterEnded.KILLED, signal=9)),
    ),
    (
        {"time_us": 4, "kind": "ended", "outcome": "failed", "exit_code": 0, "exception": "E", "traceback": "T"},
        pb.Event(
            time_us=4,
            ended=pb.WriterEnded(outcome=pb.WriterEnded.FAILED, exit_code=0, exception="E", traceback="T"),
        ),
    ),
    (
        {"time_us": 5, "kind": "ended", "outcome": "lost", "exception": "no \udc80 file"},
        pb.Event(time_us=5, ended=pb.WriterEnded(outcome=pb.WriterEnded.LOST, exception="no \\udc80 file")),
    ),
    (
        {"time_us": 6, "kind": "checkpoint", "checkpoint": CHECKPOINT},
        pb.Event(
            time_us=6,
            checkpoint=pb.CheckpointSaved(
                step=7.5,
                kind="model",
                uri="s3://bucket/key",
                state=pb.CheckpointSaved.STAGED,
                shard=3,
                shards=8,
                staged_us=9,
            ),
        ),
    ),
    (
        {
            "time_us": 7,
            "kind": "checkpoint",
            "checkpoint": CHECKPOINT
            | {
                "state": "durable",
                "files": [{"path": "a", "size_bytes": 1 << 40, "digest": "sha256:00"}],
                "metrics": {"loss": 0.5},
                "metadata": {"ü": [None]},
            },
        },
        pb.Event(
            time_us=7,
            checkpoint=pb.CheckpointSaved(
                step=7.5,
                kind="model",
                uri="s3://bucket/key",
                state=pb.CheckpointSaved.DURABLE,
                shard=3,
                shards=8,
                files=[pb.CheckpointFile(path="a", size_bytes=1 << 40, digest="sha256:00")],
                staged_us=9,
                metrics_json='{"loss": 0.5}',
                metadata_json='{"\\u00fc": [null]}',
            ),
        ),
    ),
]


@pytest.mark.parametrize(("document", "event"), EVENTS)
def test_event_becomes_a_message(document: dict[str, Any], event: pb.Event) -> None:
    """Each kind of event keeps its fields; unset stays unset; a lone surrogate is written out."""
    assert to_event(document) == event


def test_events_travel_in_order_and_only_once(folder: Path) -> None:
    """Events keep their order; acknowledged ones are not sent again, yet the last word is known."""
    spool = small_writer(folder)
    for document, _ in EVENTS[:4]:
        write_event(spool, document)
    spool.close()
    packer = packer_of(folder)
    (packed,) = pack_all(packer)
    assert list(packed.message.events) == [event for _, event in EVENTS[:4]]
    State(folder).acked = 4
    again = packer_of(folder)
    assert pack_all(again) == []
    assert again.ended == EVENTS[3][0]


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "from the future", "time_us": 1},
        {"time_us": 1},
        {"kind": "ended", "time_us": 1, "outcome": "exploded"},
        {"kind": "ended", "time_us": 1, "outcome": "failed", "exit_code": 2**40},
        {"kind": "ended", "time_us": 1, "outcome": "failed", "exit_code": "one"},
        {"kind": "started", "time_us": 1, "primary": True, "host": "h", "pid": -1},
        {"kind": "attributes", "time_us": "now", "attributes": {}},
        {"kind": "attributes", "time_us": 1, "attributes": {"a": 7}},
        {"kind": "checkpoint", "time_us": 1},
        {"kind": "checkpoint", "time_us": 1, "checkpoint": CHECKPOINT | {"state": "exploded"}},
        {"kind": "checkpoint", "time_us": 1, "checkpoint": CHECKPOINT | {"shard": -1}},
        {},
    ],
)
def test_bad_event_holds_nothing_up(folder: Path, bad: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """An event that no message can hold is dropped, logged and counted; all others are sent."""
    spool = small_writer(folder)
    append(spool, {"a": 1.0}, 0)
    write_event(spool, bad)
    append(spool, {"a": 1.0}, 1)
    spool.close()
    packer = packer_of(folder)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            batches = messages(pack_all(packer))
            assert [frame.step for frame in frames_of(batches)] == [0, 1]
            assert [list(batch.events) for batch in batches] == [[]]
            packer.restart()
    assert "is dropped" in caplog.text
    assert State(folder).counters() == {"rejected_event": 1}


def test_segment_of_a_batch_never_names_unsent_records(folder: Path) -> None:
    """All segments before `segment` hold nothing later than the batch: they may go with its ack."""
    spool = small_writer(folder)
    for step in range(400):
        append(spool, {f"m{step % 50}": 0.0}, step)
    spool.close()
    last = {}
    for number, path in enumerate(segments(folder), start=1):
        view, at = memoryview(path.read_bytes()), 0
        while (header := read_header(view, at)) is not None:
            last[number] = header.sequence
            at += header.length
    for packed in pack_all(packer_of(folder)):
        assert all(last[number] <= packed.message.sequence for number in last if number < packed.segment)


@given(st.lists(st.tuples(SETS, st.floats(allow_nan=False, allow_infinity=False)), max_size=40))
def test_stream_reader_accepts_whatever_is_packed(
    tmp_path_factory: pytest.TempPathFactory, frames: list[tuple[str, float]]
) -> None:
    """Any frames: the batches keep the protocol and hold each frame once."""
    folder = new_folder(tmp_path_factory.mktemp("spool"))
    spool = small_writer(folder)
    for names, step in frames:
        spool.append_frame(spool.declare(tuple(names), len(names)), step, 1, array("d", [step] * len(names)))
    spool.close()
    packer = packer_of(folder)
    reader = StreamReader()
    sent = [frame for batch in messages(pack_all(packer)) for frame in reader.take(batch)]
    assert sorted(frame.key for frame in sent) == sorted((tuple(names), step) for names, step in frames)
