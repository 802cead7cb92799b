"""From a spool folder to a server in memory: resending, acks, endings, and what may be deleted."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.batches import Sent, StreamReader, frames_of
from tests.support.spools import NO_LIMIT, append, new_folder, read_all, segments, small_writer
from tests.support.waiting import wait_until
from thalweg.sender.delivery import POLL_S, Delivery, append_ending
from thalweg.sender.main import seal
from thalweg.sender.transport import RefusedError, RetryLaterError, Stream
from thalweg.sender.watch import UNKNOWN, Ending
from thalweg.spool import layout
from thalweg.spool.state import State
from thalweg.spool.writer import SpoolWriter
from thalweg.testing import MemoryTransport
from thalweg.wire.v1 import records_pb2 as pb

FINISHED = {"time_us": 1, "kind": "ended", "outcome": "finished", "exit_code": 0}
AT_EXIT = {**FINISHED, "at_exit": True}
CLEAN = Ending(0, None)
WIDE = 20_000
FRAMES = 35
"""Frames of 160 KB: a batch of 1 MiB takes seven."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty writer's folder in a spool."""
    return new_folder(tmp_path / "spool")


def word(spool: SpoolWriter, document: dict[str, Any]) -> None:
    """Appends an event."""
    spool.append_event(json.dumps(document).encode())


def write_steps(folder: Path, count: int, last_word: dict[str, Any] | None = FINISHED) -> int:
    """Frames of two points at the steps 0 .. count-1; returns the last sequence number."""
    spool = small_writer(folder)
    for step in range(count):
        append(spool, {"a": float(step), "b": step / 2}, step)
    if last_word is not None:
        word(spool, last_word)
    spool.close()
    State(folder).count("logged", 2 * count)
    return spool.sequence


def write_wide(folder: Path) -> list[tuple[tuple[str, ...], float]]:
    """Frames enough for five batches in segments of 2 MiB; returns their keys."""
    names = {f"m{index}": 0.0 for index in range(WIDE)}
    spool = SpoolWriter(folder, NO_LIMIT, segment_bytes=2 << 20)
    for step in range(FRAMES):
        append(spool, {name: float(step) for name in names}, step)
    word(spool, FINISHED)
    spool.close()
    State(folder).count("logged", FRAMES * WIDE)
    return [(tuple(names), float(step)) for step in range(FRAMES)]


def deliver(folder: Path, transport: Any, ending: Ending | None = None, **options: Any) -> Delivery:
    """Runs a delivery to its end."""
    delivery = Delivery(folder, transport, ending=lambda: ending, **options)
    try:
        asyncio.run(asyncio.wait_for(delivery.run(), 60))
    finally:
        delivery.close()
    return delivery


@dataclass
class CutTransport:
    """A server whose streams break after so many answers were received, once for each entry."""

    cuts: list[int]
    streams: list[list[pb.Batch]] = field(default_factory=list)
    inner: MemoryTransport = field(default_factory=MemoryTransport)

    @asynccontextmanager
    async def open(self, hello: pb.Hello) -> AsyncIterator[Stream]:
        """A stream, as a sender opens it."""
        batches: list[pb.Batch] = []
        self.streams.append(batches)
        async with self.inner.open(hello) as stream:
            yield _CutStream(stream, batches, self.cuts.pop(0) if self.cuts else None)


class _CutStream:
    def __init__(self, inner: Stream, batches: list[pb.Batch], left: int | None) -> None:
        self._inner, self._batches, self._left = inner, batches, left

    async def send(self, batch: pb.Batch) -> None:
        await self._inner.send(batch)
        self._batches.append(pb.Batch.FromString(batch.SerializeToString()))

    async def receive(self) -> pb.Ack | pb.Rejected:
        answer = await self._inner.receive()
        if self._left is not None:
            if self._left == 0:
                raise RetryLaterError("the stream broke before an answer came")
            self._left -= 1
        return answer


def test_everything_arrives_once(folder: Path) -> None:
    """All frames and events arrive in order, nothing is flagged, counters agree, the folder may go."""
    last = write_steps(folder, 500)
    transport = MemoryTransport()
    delivery = deliver(folder, transport)
    frames = frames_of(transport.batches)
    assert [(frame.step, frame.numbers) for frame in frames] == [(s, (float(s), s / 2)) for s in range(500)]
    assert not any(frame.resent or frame.relogged for frame in frames)
    (ended,) = [event.ended for batch in transport.batches for event in batch.events]
    assert ended == pb.WriterEnded(outcome=pb.WriterEnded.FINISHED, exit_code=0)
    assert transport.batches[-1].sequence == last
    told = {counter.reason: counter.points for counter in transport.batches[-1].counters}
    assert told == {"logged": 1000, "accepted": 1000}
    assert delivery.is_complete


def test_hello_says_who_writes(folder: Path) -> None:
    """A stream begins with the identity in writer.json."""
    write_steps(folder, 1)
    transport = MemoryTransport()
    deliver(folder, transport)
    (hello,) = transport.hellos
    assert (hello.writer, hello.project, hello.run_id, hello.rank) == (folder.name, "p", "r", 0)


def assert_union(streams: list[list[pb.Batch]], keys: list[tuple[tuple[str, ...], float]]) -> list[list[Sent]]:
    """The frames of all streams, without copies, are `keys`; what came twice was flagged the second time."""
    sent = [frames_of(batches) for batches in streams]
    seen: dict[tuple[tuple[str, ...], float], bytes] = {}
    for frame in (frame for frames in sent for frame in frames):
        if frame.key in seen:
            assert frame.resent, frame.step
            assert seen[frame.key] == frame.values
        seen[frame.key] = frame.values
    assert list(seen) == keys
    return sent


@pytest.mark.parametrize("answers", range(7))
def test_break_before_an_answer_loses_nothing(folder: Path, answers: int) -> None:
    """Wherever acks are lost: redelivery completes, repeats are flagged, and acknowledged batches are not repeated."""
    keys = write_wide(folder)
    transport = CutTransport([answers])
    deliver(folder, transport)
    _, second = assert_union(transport.streams, keys)
    acked = len(frames_of(transport.streams[0][:answers]))
    assert [frame.step for frame in second] == list(range(acked, FRAMES))
    assert State(folder).counters() == {"logged": FRAMES * WIDE, "accepted": FRAMES * WIDE}


@pytest.mark.parametrize("batches", range(6))
def test_break_while_sending_loses_nothing(folder: Path, batches: int) -> None:
    """Wherever sending fails, the union of all streams is what was logged."""
    keys = write_wide(folder)
    transport = CutTransport([], inner=MemoryTransport(break_after=batches))
    deliver(folder, transport)
    assert len(transport.streams) == 2
    assert_union(transport.streams, keys)
    assert State(folder).counters() == {"logged": FRAMES * WIDE, "accepted": FRAMES * WIDE}


def test_breaks_in_a_row_and_a_new_process(folder: Path) -> None:
    """Several breaks, then a sender that is killed and another process: still the union, flagged, counted once."""
    keys = write_wide(folder)
    first = CutTransport([0, 1, 0], inner=MemoryTransport(acknowledge=True))
    killed = Delivery(folder, first, ending=lambda: None)

    async def run_until_killed() -> None:
        task = asyncio.create_task(killed.run())
        while len(first.streams) < 4:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run_until_killed())
    killed.close()
    second = CutTransport([])
    deliver(folder, second)
    assert_union(first.streams + second.streams, keys)
    assert State(folder).counters() == {"logged": FRAMES * WIDE, "accepted": FRAMES * WIDE}


def test_segments_go_only_when_acknowledged(folder: Path) -> None:
    """No segment is deleted before an ack names its last record; with acks all but the last go."""
    write_wide(folder)
    before = segments(folder)
    assert len(before) > 2
    silent = MemoryTransport(acknowledge=False)

    async def run_without_acks() -> None:
        delivery = Delivery(folder, silent, ending=lambda: None)
        task = asyncio.create_task(delivery.run())
        while sum(len(batch.frames) for batch in silent.batches) < 5:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        delivery.close()

    asyncio.run(run_without_acks())
    assert segments(folder) == before
    deliver(folder, MemoryTransport())
    assert segments(folder) == before[-1:]


def test_partial_acks_delete_partially(folder: Path) -> None:
    """What remains after some acks still holds every record that was not acknowledged."""
    keys = write_wide(folder)
    transport = CutTransport([2])

    async def run_until_cut() -> None:
        delivery = Delivery(folder, transport, ending=lambda: None)
        task = asyncio.create_task(delivery.run())
        while len(transport.streams) < 2:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        delivery.close()

    asyncio.run(run_until_cut())
    assert len(segments(folder)) < 4
    assert set(read_all(folder).steps) >= {step for _, step in keys[14:]}


def reject(points: int, *reasons: int) -> Callable[[pb.Batch], list[pb.Rejected]]:
    """Refuses so many points of each batch with frames, once for each reason."""

    def on_batch(batch: pb.Batch) -> list[pb.Rejected]:
        if not batch.frames:
            return []
        return [pb.Rejected(sequence=batch.sequence, reason=reason, points=points) for reason in reasons]

    return on_batch


def test_rejected_points_are_counted_and_not_accepted(folder: Path) -> None:
    """Each refusal is counted under its reason; accepted is what is left; unknown reasons count as other."""
    write_steps(folder, 50)
    transport = MemoryTransport(on_batch=reject(3, pb.Rejected.REJECTED_STEP, pb.Rejected.REJECTED_NAME, 99))
    deliver(folder, transport)
    counters = State(folder).counters()
    assert counters == {"logged": 100, "accepted": 91, "rejected_step": 3, "rejected_name": 3, "rejected_other": 3}


def test_refused_event_counts_once(folder: Path) -> None:
    """A refusal of no points, as for an event, counts as one."""
    write_steps(folder, 1)
    deliver(folder, MemoryTransport(on_batch=reject(0, pb.Rejected.REJECTED_EVENT)))
    assert State(folder).counters() == {"logged": 2, "accepted": 2, "rejected_event": 1}


def test_refusal_whose_ack_is_lost_counts_once(folder: Path) -> None:
    """A batch that is sent again is refused again: the counters hold it once."""
    write_steps(folder, 50)
    transport = CutTransport([1], inner=MemoryTransport(on_batch=reject(3, pb.Rejected.REJECTED_STEP)))
    deliver(folder, transport)
    assert len(transport.streams) == 2
    assert State(folder).counters() == {"logged": 100, "accepted": 97, "rejected_step": 3}


@dataclass
class OneAckTransport:
    """A server that refuses all points, and acknowledges all batches with one ack when the last has come."""

    last: int

    @asynccontextmanager
    async def open(self, hello: pb.Hello) -> AsyncIterator[Stream]:
        """A stream, as a sender opens it."""
        yield _OneAckStream(self.last)


class _OneAckStream:
    def __init__(self, last: int) -> None:
        self._last = last
        self._answers: asyncio.Queue[pb.Ack | pb.Rejected] = asyncio.Queue()

    async def send(self, batch: pb.Batch) -> None:
        if batch.frames:
            points = sum(len(group.values) // 8 for group in batch.frames)
            refusal = pb.Rejected(sequence=batch.sequence, reason=pb.Rejected.REJECTED_TIME, points=points)
            await self._answers.put(refusal)
        if batch.sequence == self._last:
            await self._answers.put(pb.Ack(sequence=batch.sequence))

    async def receive(self) -> pb.Ack | pb.Rejected:
        return await self._answers.get()


def test_one_ack_may_name_many_batches(folder: Path) -> None:
    """Refusals of several batches before their common ack are all subtracted; no counter goes below zero."""
    write_wide(folder)
    deliver(folder, OneAckTransport(last=read_all(folder).sequences[-1]))
    counters = State(folder).counters()
    assert counters["rejected_time"] == FRAMES * WIDE
    assert counters.get("accepted", 0) == 0


def test_refused_writer_keeps_its_folder(folder: Path) -> None:
    """A server that will never take it: RefusedError, the reason in the status file, every record still there."""
    write_steps(folder, 50)
    with pytest.raises(RefusedError, match="no such project"):
        deliver(folder, MemoryTransport(refuse="no such project"))
    assert json.loads((folder / layout.STATUS_FILE).read_text())["status"] == "refused"
    assert read_all(folder).steps == list(range(50))


def endings(transport: MemoryTransport) -> list[pb.WriterEnded]:
    """Last words that the server got."""
    return [event.ended for batch in transport.batches for event in batch.events if event.WhichOneof("kind") == "ended"]


FAILED_AT_EXIT = {**AT_EXIT, "outcome": "failed", "exit_code": 3}
INTERRUPTED = {**AT_EXIT, "outcome": "killed", "exit_code": None, "signal": 2}


@pytest.mark.parametrize(
    ("last_word", "ending", "outcomes"),
    [
        (FINISHED, None, ["FINISHED"]),
        (FINISHED, Ending(3, None), ["FINISHED"]),  # an explicit finish() is the user's word
        (AT_EXIT, CLEAN, ["FINISHED"]),
        (AT_EXIT, UNKNOWN, ["FINISHED"]),
        (AT_EXIT, Ending(3, None), ["FINISHED", "FAILED"]),
        (AT_EXIT, Ending(None, 9), ["FINISHED", "KILLED"]),
        (FAILED_AT_EXIT, Ending(3, None), ["FAILED"]),
        (FAILED_AT_EXIT, UNKNOWN, ["FAILED"]),
        (FAILED_AT_EXIT, CLEAN, ["FAILED", "FINISHED"]),  # sys.exit(3) was caught
        (INTERRUPTED, Ending(None, 2), ["KILLED"]),
        (None, CLEAN, ["FINISHED"]),
        (None, Ending(3, None), ["FAILED"]),
        (None, Ending(None, 9), ["KILLED"]),
        (None, UNKNOWN, ["LOST"]),
    ],
)
@pytest.mark.parametrize("offline", [False, True])
def test_last_word_is_the_right_one(
    folder: Path, last_word: dict[str, Any] | None, ending: Ending | None, outcomes: list[str], offline: bool
) -> None:
    """Where the writer could not know or say how it ended, the sender says it; online and offline alike."""
    write_steps(folder, 3, last_word)
    if offline:
        seal(folder, ending or UNKNOWN)
        words = [event["outcome"].upper() for event in read_all(folder).events]
    else:
        transport = MemoryTransport()
        assert deliver(folder, transport, ending).is_complete
        words = [pb.WriterEnded.Outcome.Name(ended.outcome) for ended in endings(transport)]
    assert words == outcomes


def test_word_at_exit_waits_for_the_exit(folder: Path) -> None:
    """Said at exit, "finished" does not complete a delivery until the process is seen to be gone."""
    write_steps(folder, 3, AT_EXIT)
    transport = MemoryTransport()
    seen: list[Ending | None] = [None]
    delivery = Delivery(folder, transport, ending=lambda: seen[0])

    async def run() -> None:
        task = asyncio.create_task(delivery.run())
        while delivery.state.acked < 5:
            await asyncio.sleep(0.001)
        assert not delivery.has_ended
        assert not task.done()
        seen[0] = Ending(4, None)
        await asyncio.wait_for(task, 60)

    asyncio.run(run())
    assert [(ended.outcome, ended.exit_code) for ended in endings(transport)] == [
        (pb.WriterEnded.FINISHED, 0),
        (pb.WriterEnded.FAILED, 4),
    ]
    delivery.close()


def test_seal_follows_a_torn_tail(folder: Path) -> None:
    """A killed writer's torn record is quarantined, reported once, and the ending takes its place."""
    write_steps(folder, 3, None)
    path = segments(folder)[0]
    data = bytearray(path.read_bytes())
    end = len(data.rstrip(b"\0"))
    data[end + 16 : end + 40] = b"\x07" * 24  # a record that was begun
    path.write_bytes(data)
    transport = CutTransport([0])
    deliver(folder, transport, Ending(None, 9))
    assert State(folder).counters() == {"logged": 6, "accepted": 6, "records_damaged": 1}
    assert len(frames_of(transport.streams[-1])) <= 3
    assert endings(transport.inner)[-1].signal == 9


def test_damage_is_reported_once_over_breaks_and_processes(folder: Path) -> None:
    """A damaged place counts once, however often the spool is read again."""
    write_steps(folder, 50)
    path = segments(folder)[0]
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(RefusedError):
        deliver(folder, MemoryTransport(refuse="not now"))
    transport = CutTransport([0, 0])
    deliver(folder, transport)
    counters = State(folder).counters()
    assert (counters["records_damaged"], counters["records_missing"]) == (1, 1)
    assert len({frame.step for frame in frames_of(transport.streams[-1])}) == 49


def test_without_follow_what_is_there_is_enough(folder: Path) -> None:
    """`thalweg sync` of a live run ends when all that is there is acknowledged, and the folder is not complete."""
    write_steps(folder, 20, None)
    transport = MemoryTransport()
    delivery = deliver(folder, transport, None, follow=False)
    assert len(frames_of(transport.batches)) == 20
    assert not delivery.is_complete
    with pytest.raises(AssertionError):
        delivery.remove_folder()
    assert folder.exists()


def test_complete_folder_goes_and_damaged_bytes_stay(folder: Path) -> None:
    """The folder is removed when it is complete; quarantined bytes are kept in the spool."""
    write_steps(folder, 50)
    path = segments(folder)[0]
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    delivery = Delivery(folder, MemoryTransport(), ending=lambda: None)
    asyncio.run(delivery.run())
    delivery.remove_folder()
    assert not folder.exists()
    assert layout.writer_folders(folder.parent) == []
    (kept,) = (folder.parent / layout.QUARANTINE_FOLDER / folder.name).iterdir()
    assert kept.stat().st_size > 0


def test_idle_writer_gives_signs_of_life(folder: Path) -> None:
    """A stream without records still says that the writer lives, and tells its counters."""
    write_steps(folder, 1, None)
    transport = MemoryTransport()
    delivery = Delivery(folder, transport, ending=lambda: None)

    async def run() -> None:
        task = asyncio.create_task(delivery.run())
        while len(transport.batches) < 2:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    delivery.close()
    sign = transport.batches[1]
    assert not sign.frames
    assert sign.sequence == transport.batches[0].sequence
    assert {counter.reason for counter in sign.counters} == {"logged", "accepted"}


class HeldBack(MemoryTransport):
    """A server that answers only when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = asyncio.Event()

    @asynccontextmanager
    async def open(self, hello: pb.Hello) -> AsyncIterator[Stream]:
        """A stream whose answers wait."""
        async with super().open(hello) as stream:
            receive = stream.receive

            async def receive_later() -> pb.Ack | pb.Rejected:
                await self.may_answer.wait()
                return await receive()

            stream.receive = receive_later  # type: ignore[method-assign]
            yield stream


def test_small_batches_go_one_at_a_time(folder: Path) -> None:
    """What comes while one is under way goes together with the next, also if the sender looks again meanwhile."""
    spool = small_writer(folder)

    async def run() -> list[int]:
        transport = HeldBack()
        delivery = Delivery(folder, transport, ending=lambda: None)
        task = asyncio.create_task(delivery.run())
        append(spool, {"a": 0.0}, 0)
        while not any(batch.frames for batch in transport.batches):
            await asyncio.sleep(0.001)
        for step in range(1, 6):
            append(spool, {"a": float(step)}, step)
            await asyncio.sleep(2 * POLL_S)  # a sender that did not wait would send each by itself
        transport.may_answer.set()
        while delivery.state.acked < spool.sequence:
            await asyncio.sleep(0.001)
        word(spool, FINISHED)
        await asyncio.wait_for(task, 60)
        delivery.close()
        return [sum(len(group.steps) // 8 for group in batch.frames) for batch in transport.batches if batch.frames]

    assert asyncio.run(run()) == [1, 5]
    spool.close()


def test_delivery_follows_a_live_writer(folder: Path) -> None:
    """Records that are written while the delivery runs arrive too, in order, once."""
    spool = small_writer(folder)
    transport = MemoryTransport()
    delivery = Delivery(folder, transport, ending=lambda: None)

    async def run() -> None:
        task = asyncio.create_task(delivery.run())
        for step in range(300):
            append(spool, {"a": float(step)}, step)
            if step % 50 == 0:
                while delivery.state.acked < spool.sequence:
                    await asyncio.sleep(0.001)
        word(spool, FINISHED)
        await asyncio.wait_for(task, 60)

    asyncio.run(run())
    spool.close()
    delivery.close()
    frames = frames_of(transport.batches)
    assert [frame.step for frame in frames] == list(range(300))
    assert not any(frame.resent for frame in frames)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(ballast: Path) -> None:
    """Writes until there is no room."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def test_full_disk_does_not_stop_delivery(tiny_disk: Path) -> None:
    """With no byte free for a status file, records are delivered, which is what makes room again."""
    folder = new_folder(tiny_disk)
    last = write_steps(folder, 500)
    fill(tiny_disk / "ballast")
    transport = MemoryTransport()
    delivery = deliver(folder, transport)
    assert (delivery.is_complete, transport.batches[-1].sequence) == (True, last)


def test_ending_that_finds_no_room_is_tried_again(tiny_disk: Path) -> None:
    """A last word for which the disk has no room waits for room; the records before it are acknowledged meanwhile."""
    folder = new_folder(tiny_disk)
    last = write_steps(folder, 3, None)
    ballast = tiny_disk / "ballast"
    fill(ballast)
    transport = MemoryTransport()
    delivery = Delivery(folder, transport, ending=lambda: Ending(None, 9))

    async def run() -> None:
        task = asyncio.create_task(delivery.run())
        while len(transport.hellos) < 2:
            await asyncio.sleep(0.001)
        assert delivery.state.acked == last
        ballast.unlink()
        await asyncio.wait_for(task, 60)

    asyncio.run(run())
    delivery.close()
    assert [ended.signal for ended in endings(transport)] == [9]


def test_ending_is_appended_after_what_is_there(folder: Path) -> None:
    """`append_ending` adds one record with the next number, whatever the quota."""
    last = write_steps(folder, 5, None)
    append_ending(folder, last, Ending(None, 15))
    content = read_all(folder)
    assert content.sequences[-1] == last + 1
    assert (content.last_word["outcome"], content.last_word["exception"]) == ("killed", "killed by SIGTERM")


def test_status_tells_how_it_stands(folder: Path) -> None:
    """The status file has the state and the reason, for the training process and for people."""
    write_steps(folder, 1)
    deliver(folder, MemoryTransport())
    status = json.loads((folder / layout.STATUS_FILE).read_text())
    assert (status["status"], status["error"], status["url"]) == ("done", "", "http://127.0.0.1:9")


def test_server_that_is_away_is_tried_again(folder: Path) -> None:
    """Streams that cannot be opened are tried until one can; meanwhile the status says why."""
    write_steps(folder, 3)
    words: list[str] = []

    class Away:
        """Not there three times."""

        @asynccontextmanager
        async def open(self, hello: pb.Hello) -> AsyncIterator[Stream]:
            if len(words) < 3:
                words.append("away")
                raise RetryLaterError("connection refused")
            words.append(json.loads((folder / layout.STATUS_FILE).read_text())["status"])
            async with MemoryTransport().open(hello) as stream:
                yield stream

    wait_until(lambda: deliver(folder, Away()).is_complete)
    assert words == ["away"] * 3 + ["connecting"]


def test_stream_reader_is_strict() -> None:
    """The reader of these tests refuses a batch that goes back."""
    reader = StreamReader(sequence=5)
    with pytest.raises(AssertionError):
        reader.take(pb.Batch(sequence=4))
