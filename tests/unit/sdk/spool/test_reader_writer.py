"""The two ends of a spool folder: rotation, quota, full disks, torn and damaged records, two processes."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.spools import (
    NO_LIMIT,
    SMALL_SEGMENT_BYTES,
    Reading,
    append,
    new_folder,
    read_all,
    segments,
    small_writer,
)
from tests.support.waiting import wait_until
from thalweg.spool import layout, reader, writer
from thalweg.spool.reader import Damage
from thalweg.spool.records import FRAME_BYTES, SCHEMA, read_header, read_text
from thalweg.spool.writer import SpoolFullError, SpoolWriter


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty writer's folder."""
    return new_folder(tmp_path)


def records_of(path: Path) -> list[tuple[int, int, int]]:
    """Place, length and kind of each record of an undamaged segment."""
    view = memoryview(path.read_bytes())
    found, at = [], 0
    while (header := read_header(view, at)) is not None:
        found.append((at, header.length, header.kind))
        at += header.length
    return found


def patch(path: Path, at: int, data: bytes) -> None:
    """Overwrites bytes of a file in place."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def flip(path: Path, at: int) -> None:
    """Changes one byte of a file."""
    patch(path, at, bytes([path.read_bytes()[at] ^ 0x40]))


def write_steps(folder: Path, count: int) -> None:
    """Frames of one metric at the steps 0 .. count-1, in small segments."""
    spool = small_writer(folder)
    for step in range(count):
        append(spool, {"a": float(step), "b": -float(step)}, step)
    spool.close()


def test_frames_come_back_in_order_over_many_segments(folder: Path) -> None:
    """Segments rotate, and the reader gives every record in order, once."""
    write_steps(folder, 500)
    assert len(segments(folder)) > 5
    content = read_all(folder)
    assert content.steps == list(range(500))
    assert content.points == [{"a": float(step), "b": -float(step)} for step in range(500)]
    assert content.sequences == list(range(1, len(content.sequences) + 1))
    assert content.damages == []


def test_each_segment_is_readable_alone(folder: Path) -> None:
    """A segment repeats the schemas it uses: those before it may be deleted."""
    write_steps(folder, 500)
    for path in segments(folder)[:-1]:
        assert records_of(path)[0][2] == SCHEMA
    kept = segments(folder)[-1]
    for path in segments(folder)[:-1]:
        path.unlink()
    content = read_all(folder)
    assert content.steps
    assert content.steps == list(range(500 - len(content.steps), 500))
    assert kept.exists()


def test_segments_have_their_whole_size_from_the_start(folder: Path) -> None:
    """A reader that maps a fresh segment sees all that will ever be written to it, and no draft is left."""
    spool = small_writer(folder)
    append(spool, {"a": 1.0}, 1)
    assert [path.stat().st_size for path in segments(folder)] == [SMALL_SEGMENT_BYTES]
    assert {path.name for path in folder.iterdir()} == {layout.IDENTITY_FILE, segments(folder)[0].name}
    spool.close()


def fill(spool: SpoolWriter) -> tuple[int, str]:
    """Appends frames until the spool is full: how many, and the reason."""
    written = 0
    try:
        while True:
            append(spool, {"a": 1.0}, written)
            written += 1
    except SpoolFullError as error:
        return written, str(error)


def test_quota_gives_spool_full_and_room_is_used_again(folder: Path) -> None:
    """Past `limit_bytes` there is an error before any byte; after a segment is deleted writing goes on."""
    spool = small_writer(folder, limit_bytes=2 * SMALL_SEGMENT_BYTES)
    written, why = fill(spool)
    assert "8192 of 8192 bytes" in why
    assert len(segments(folder)) == 2
    segments(folder)[0].unlink()
    append(spool, {"a": 1.0}, written)
    spool.close()
    assert read_all(folder).steps[-1] == written


def test_smaller_frame_still_fits_when_full(folder: Path) -> None:
    """SpoolFullError for a large frame leaves the rest of the segment usable."""
    spool = small_writer(folder, limit_bytes=SMALL_SEGMENT_BYTES)
    append(spool, {"a": 1.0}, 0)
    append(spool, {f"wide/{index}": 0.0 for index in range(120)}, 0)
    with pytest.raises(SpoolFullError):
        append(spool, {f"other/{index}": 0.0 for index in range(120)}, 1)
    append(spool, {"a": 2.0}, 2)
    spool.close()
    assert read_all(folder).steps == [0, 0, 2]


def test_event_that_no_segment_holds_is_refused(folder: Path) -> None:
    """A text larger than a segment is an error of its own, not an assertion in a training loop."""
    spool = small_writer(folder)
    with pytest.raises(SpoolFullError, match="larger than a segment"):
        spool.append_event(b'{"kind": "' + b"x" * SMALL_SEGMENT_BYTES + b'"}')
    append(spool, {"a": 1.0}, 0)
    spool.close()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_full_disk_is_an_error_never_a_signal(tiny_disk: Path) -> None:
    """The blocks of a segment are reserved first, so ENOSPC is SpoolFullError and every mapped byte is backed."""
    folder = new_folder(tiny_disk)
    spool = small_writer(folder, segment_bytes=16 << 10)
    written, why = fill(spool)
    assert "No space left" in why
    assert written > 500
    assert {path.suffix for path in folder.iterdir()} == {".json", layout.SEGMENT_SUFFIX}
    segments(folder)[0].unlink()
    append(spool, {"a": 1.0}, written)
    spool.close()
    assert read_all(folder).steps[-1] == written


def test_reader_waits_for_a_record_that_is_being_written(folder: Path) -> None:
    """While the writer lives, a torn tail is not damage: it may become a record yet."""
    write_steps(folder, 10)
    path = segments(folder)[-1]
    at, length, _ = records_of(path)[-1]
    whole = path.read_bytes()[at : at + length]
    patch(path, at, bytes(12) + whole[12:])  # all but the commit, as the writer leaves it for a moment
    reading = Reading(folder)
    for _ in range(3):
        assert reading.read_on().steps == list(range(9))
    patch(path, at, whole)
    content = reading.read_on()
    assert content.steps == list(range(10))
    assert content.damages == []


def test_torn_tail_of_an_ended_writer_is_moved_aside(folder: Path) -> None:
    """Once the writer has ended, what never became a record is quarantined and reported."""
    write_steps(folder, 10)
    path = segments(folder)[-1]
    at, length, _ = records_of(path)[-1]
    torn = bytes(12) + path.read_bytes()[at + 12 : at + length]
    patch(path, at, torn)
    content = read_all(folder)
    assert content.steps == list(range(9))
    assert content.damages == [Damage(1, at, len(torn.rstrip(b"\0")))]
    (kept,) = (folder / layout.QUARANTINE_FOLDER).iterdir()
    assert kept.read_bytes() == torn.rstrip(b"\0")


def test_record_written_while_the_reader_looks_for_a_successor_is_not_damage(folder: Path) -> None:
    """The last record of a segment may be committed between the reader's two looks: it is read, not quarantined."""
    spool = small_writer(folder)
    append(spool, {"a": 0.0}, 0)
    reading = Reading(folder)
    reading.read_on()
    looked = layout.segment_numbers(folder)
    assert looked == [1]
    append(spool, {"a": 1.0}, 1)
    assert reading.reader._skip_damage(final=True)  # as if the header had been looked at before
    assert reading.content.damages == []
    content = reading.read_on()
    spool.close()
    assert (content.steps, content.damages) == ([0, 1], [])


def test_records_written_while_the_reader_looks_for_the_next_one_are_not_damage(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search copies the bytes before a record is committed, and those of later records after they were."""
    write_steps(folder, 10)
    path = segments(folder)[-1]
    at, length, _ = records_of(path)[5]
    whole = path.read_bytes()[at : at + length]
    patch(path, at, bytes(12) + whole[12:])  # what the search sees there
    search = reader.next_record

    def slow_search(view: memoryview, start: int) -> int | None:
        found = search(view, start)
        patch(path, at, whole)  # committed before the later ones were, and after the search had passed by
        return found

    monkeypatch.setattr(reader, "next_record", slow_search)
    reading = Reading(folder)
    reading.read_on()
    content = reading.read_on()
    assert (content.steps, content.damages) == (list(range(10)), [])


def damage_middle(change: Callable[[Path, int, int], None]) -> Callable[[Path], set[int]]:
    """Damages the records 3 and 4 of the first segment; gives the sequence numbers that are lost."""

    def damage(folder: Path) -> set[int]:
        path = segments(folder)[0]
        places = records_of(path)
        change(path, places[2][0], places[3][0] + places[3][1])
        return {3, 4}

    return damage


def flip_two(path: Path, at: int, end: int) -> None:
    """Changes a byte of each of the two records."""
    flip(path, at + 30)
    flip(path, end - 1)


def cut_short(folder: Path) -> set[int]:
    """Cuts the second segment in the middle of a record."""
    path = segments(folder)[1]
    places = records_of(path)
    before = len(records_of(segments(folder)[0]))
    os.truncate(path, places[4][0] + 20)
    return set(range(before + 5, before + len(places) + 1))


def cut_to_nothing(folder: Path) -> set[int]:
    """Cuts the second segment to 0 bytes."""
    path = segments(folder)[1]
    before, inside = len(records_of(segments(folder)[0])), len(records_of(path))
    os.truncate(path, 0)
    return set(range(before + 1, before + inside + 1))


def lose_segment(folder: Path) -> set[int]:
    """Deletes the second segment."""
    path = segments(folder)[1]
    before, inside = len(records_of(segments(folder)[0])), len(records_of(path))
    path.unlink()
    return set(range(before + 1, before + inside + 1))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(damage_middle(flip_two), id="flip"),
        pytest.param(damage_middle(lambda path, at, end: patch(path, at, bytes(end - at))), id="zero"),
        pytest.param(damage_middle(lambda path, at, end: patch(path, at, b"\xff" * (end - at))), id="ones"),
        pytest.param(damage_middle(lambda path, at, end: patch(path, at, b"THWL" * ((end - at) // 4))), id="marks"),
        pytest.param(cut_short, id="cut short"),
        pytest.param(cut_to_nothing, id="cut to nothing"),
        pytest.param(lose_segment, id="segment lost"),
    ],
)
@pytest.mark.parametrize("writer_ended", [True, False])
def test_damage_takes_nothing_but_the_damaged_records(
    folder: Path, damage: Callable[[Path], set[int]], writer_ended: bool
) -> None:
    """Everything before and after a damaged place is delivered, in order, once."""
    write_steps(folder, 300)
    everything = read_all(folder).sequences
    lost = damage(folder)
    content = read_all(folder, writer_ended=writer_ended)
    assert content.sequences == [sequence for sequence in everything if sequence not in lost]


def test_damaged_header_is_waited_out_then_skipped(folder: Path) -> None:
    """A zeroed header in the newest segment looks like room not yet used; the end of the writer settles it."""
    write_steps(folder, 10)
    path = segments(folder)[-1]
    patch(path, records_of(path)[4][0], bytes(24))
    reading = Reading(folder)
    assert reading.read_on().steps == [0, 1, 2]
    assert reading.read_on(writer_ended=True).steps == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_empty_last_segment_does_not_hold_the_reader(folder: Path) -> None:
    """A segment of 0 bytes, as a crash may leave, is passed by once another is there, and never spun on."""
    write_steps(folder, 3)
    layout.segment_path(folder, 2).touch()
    reading = Reading(folder)
    assert reading.read_on(writer_ended=True).steps == [0, 1, 2]
    late = small_writer(folder)
    append(late, {"late": 1.0}, 9)
    late.close()
    assert reading.read_on(writer_ended=True).steps == [0, 1, 2, 9]


def test_draft_of_a_killed_writer_is_taken_over(folder: Path) -> None:
    """A draft of a segment that a killed writer left behind is no segment, and does not stop the next writer."""
    (folder / f"{layout.segment_path(folder, 1).name}.draft").write_bytes(b"half")
    write_steps(folder, 3)
    assert read_all(folder).steps == [0, 1, 2]
    assert not list(folder.glob("*.draft"))


def test_rewind_reads_again_from_the_oldest_segment(folder: Path) -> None:
    """After a rewind all that is still there comes again."""
    write_steps(folder, 200)
    reading = Reading(folder)
    assert len(reading.read_on().steps) == 200
    segments(folder)[0].unlink()
    reading.reader.rewind()
    steps = reading.read_on().steps[200:]
    reading.reader.close()
    assert steps == list(range(200 - len(steps), 200))
    assert 0 < len(steps) < 200


def test_schema_ids_begin_again_past_their_limit(folder: Path) -> None:
    """Past SCHEMAS_MAX schemas ids are used again, both sides stay bounded, and every frame keeps its names."""
    spool = SpoolWriter(folder, NO_LIMIT)
    count = writer.SCHEMAS_MAX + 10
    for index in range(count):
        append(spool, {f"m{index}": float(index)}, index)
    append(spool, {"m0": -1.0}, count)
    assert len(spool.declared) == 11
    spool.close()
    assert read_all(folder).points == [{f"m{index}": float(index)} for index in range(count)] + [{"m0": -1.0}]


def test_schema_id_with_a_lost_meaning_is_not_taken_for_an_old_one(folder: Path) -> None:
    """No id has two meanings in what is on the disk: a lost schema cannot put values under another's names."""
    spool = SpoolWriter(folder, NO_LIMIT)
    for index in range(writer.SCHEMAS_MAX + 10):
        append(spool, {f"m{index}": 0.0}, index)
    spool.close()
    view = memoryview(segments(folder)[0].read_bytes())
    ids = [read_text(view, at)["id"] for at, _, kind in records_of(segments(folder)[0]) if kind == SCHEMA]
    assert len(set(ids)) == writer.SCHEMAS_MAX + 10


def test_names_are_bounded_over_all_schemas(folder: Path) -> None:
    """The names that a writer remembers never pass SCHEMA_NAMES_MAX."""
    spool = SpoolWriter(folder, NO_LIMIT, segment_bytes=256 << 20)
    width = 100_000
    for turn in range(12):
        append(spool, {f"{turn}/{index}": 0.0 for index in range(width)}, turn)
        assert sum(map(len, spool.declared)) <= writer.SCHEMA_NAMES_MAX
    spool.close()


def test_declaring_again_costs_no_json(folder: Path) -> None:
    """A schema that the segment holds is not written again."""
    spool = small_writer(folder)
    for step in range(5):
        append(spool, {"a": 1.0}, step)
    spool.close()
    assert [kind for _, _, kind in records_of(segments(folder)[0])].count(SCHEMA) == 1


def test_frame_that_fills_a_segment_exactly(folder: Path) -> None:
    """A record may end at the last byte of a segment; the next one begins in another."""
    spool = small_writer(folder)
    append(spool, {"a": 0.0}, 0)
    free = SMALL_SEGMENT_BYTES - sum(length for _, length, _ in records_of(segments(folder)[0]))
    spool.append_event(b" " * (free - 32))
    assert not spool.append_frame(0, 1.0, 1, array("d", [1.0]))
    append(spool, {"a": 1.0}, 1)
    spool.close()
    assert len(segments(folder)) == 2


def test_frames_until_the_segment_is_full(folder: Path) -> None:
    """`append_frame` says that there is no room exactly where there is none, and writes nothing then."""
    spool = small_writer(folder)
    schema = spool.declare(("a",), 1)
    while spool.append_frame(schema, 0.0, 1, array("d", [1.0])):
        at, sequence = spool._at, spool.sequence
    assert (spool._at, spool.sequence) == (at, sequence)
    assert SMALL_SEGMENT_BYTES - spool._at < FRAME_BYTES + 8
    spool.close()


WRITER = """
import sys
from array import array
from pathlib import Path
from thalweg.spool.writer import SpoolWriter
spool = SpoolWriter(Path(sys.argv[1]), 1 << 40, segment_bytes=int(sys.argv[2]))
print("ready", flush=True)
for step in range(int(sys.argv[3])):
    names = ("a", "b") if step % 3 else ("c",)
    spool.append_frame(spool.declare(names, len(names)), float(step), step, array("d", [float(step)] * len(names)))
print("done", flush=True)
sys.stdin.read()
"""


def start_writer(folder: Path, segment_bytes: int, steps: int) -> subprocess.Popen[bytes]:
    """A process that writes `steps` frames as fast as it can."""
    command = [sys.executable, "-c", WRITER, str(folder), str(segment_bytes), str(steps)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_reader_beside_a_writing_process_sees_every_record_once(folder: Path) -> None:
    """With another process writing, records are read whole, in order, once, and none is taken for damage."""
    steps = 60_000
    with start_writer(folder, 64 << 10, steps) as process:
        reading = Reading(folder)
        wait_until(lambda: len(reading.read_on(most_frames=steps).frames) == steps)
        process.communicate(b"")
    assert reading.content.damages == []
    assert reading.content.sequences == list(range(1, len(reading.content.sequences) + 1))
    assert reading.content.steps == list(range(steps))
    assert all(set(values.values()) == {step} for step, _, values in reading.content.frames)
    reading.reader.close()


def test_killed_writer_loses_nothing_that_returned(folder: Path) -> None:
    """After `kill -9` everything that was written before is read, and at most the last record is torn."""
    with start_writer(folder, 64 << 10, 10**9) as process:
        reading = Reading(folder)
        wait_until(lambda: len(reading.read_on(most_frames=5_000).frames) == 5_000)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    content = reading.read_on(writer_ended=True)
    reading.reader.close()
    assert len(content.steps) >= 5_000
    assert content.steps == list(range(len(content.steps)))
    assert len(content.damages) <= 1


def test_values_keep_their_bits(folder: Path) -> None:
    """NaN payloads, infinities and -0.0 pass through the files unchanged."""
    patterns = [0x7FF8000000000001, 0xFFF0000000000000, 0x8000000000000000, 0x7FF0000000000001, 1]
    values = [struct.unpack("<d", struct.pack("<Q", pattern))[0] for pattern in patterns]
    spool = small_writer(folder)
    append(spool, {f"v{index}": value for index, value in enumerate(values)}, 0)
    spool.close()
    (read,) = read_all(folder).points
    assert [struct.unpack("<Q", struct.pack("<d", value))[0] for value in read.values()] == patterns
