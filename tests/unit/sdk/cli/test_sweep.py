"""The sweep over a spool: what is delivered, what is left alone, what is given up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.unit.sdk.cli.spools import AT_EXIT, FINISHED, make_folder
from thalweg.cli.sweep import CONNECT_ATTEMPTS, FolderReport, Progress, Sweep, SweepOrder, last_sequence
from thalweg.sender import delivery
from thalweg.sender.transport import RetryLaterError, Stream, Transport
from thalweg.spool import layout
from thalweg.testing import MemoryTransport
from thalweg.wire.v1 import records_pb2 as pb

ELSEWHERE = {"host": "another-host"}
Factory = Callable[[str, str | None], Transport]


def sweep(
    folders: Sequence[Path],
    transport: Transport | Factory,
    *,
    url: str | None = None,
    assume_ended: bool = False,
    timeout_s: float = 60.0,
    progress: Progress | None = None,
) -> list[FolderReport]:
    """A whole sweep. `transport`: one for all, or made from address and token."""
    order = SweepOrder(url, "secret", assume_ended, timeout_s)
    factory = transport if callable(transport) else lambda url, token: transport
    return asyncio.run(Sweep(order, progress or Progress(), factory).run(folders))


def points(transport: MemoryTransport) -> int:
    return sum(len(group.steps) // 8 for batch in transport.batches for group in batch.frames)


@pytest.mark.parametrize("last_word", [FINISHED, AT_EXIT])
def test_what_has_ended_is_delivered_and_removed(tmp_path: Path, last_word: dict[str, object]) -> None:
    folder, transport = make_folder(tmp_path, frames=5, last_word=last_word), MemoryTransport()
    (report,) = sweep([folder], transport)
    assert (report.state, report.records, report.reason) == ("delivered", 7, "")  # a schema, frames, last word
    assert report.sent_bytes == sum(batch.ByteSize() for batch in transport.batches)
    assert points(transport) == 5
    assert not folder.exists()


def test_a_process_that_is_gone_without_a_word_gets_one(tmp_path: Path) -> None:
    transport = MemoryTransport()
    (report,) = sweep([make_folder(tmp_path)], transport)
    outcomes = [event.ended.outcome for batch in transport.batches for event in batch.events]
    assert (report.state, outcomes) == ("delivered", [pb.WriterEnded.LOST])


def test_a_process_that_lives_keeps_its_folder(tmp_path: Path) -> None:
    folder, transport = make_folder(tmp_path, alive=True), MemoryTransport()
    (first,) = sweep([folder], transport)
    (second,) = sweep([folder], transport)
    assert [(report.state, report.records) for report in (first, second)] == [("live", 4), ("live", 0)]
    assert points(transport) == 3
    assert folder.exists()


def test_a_folder_that_is_written_to_from_another_container_is_kept(tmp_path: Path) -> None:
    """A pid may mean nothing here; the writer's lock does."""
    folder = make_folder(tmp_path)
    lock = layout.hold_writer_lock(folder)
    assert [report.state for report in sweep([folder], MemoryTransport())] == ["live"]
    os.close(lock)
    assert [report.state for report in sweep([folder], MemoryTransport())] == ["delivered"]


def test_a_live_process_that_has_finished_its_run_is_done(tmp_path: Path) -> None:
    """As in a notebook, whose process outlives its runs."""
    folder = make_folder(tmp_path, alive=True, last_word=FINISHED)
    assert sweep([folder], MemoryTransport())[0].state == "delivered"


def test_a_folder_that_another_process_delivers_is_left_alone(tmp_path: Path) -> None:
    folder, transport = make_folder(tmp_path, mode="online"), MemoryTransport()
    with layout.sender_lock(folder) as is_ours:
        assert is_ours
        (report,) = sweep([folder], transport)
    assert (report.state, transport.hellos) == ("busy", [])
    assert report.identity is not None


def test_an_offline_folder_is_waited_for(tmp_path: Path) -> None:
    """Its own sender holds it while it writes down how the run ended, as when a script trains and then syncs."""
    folder, transport = make_folder(tmp_path), MemoryTransport()
    order = SweepOrder(None, None, False, 60.0)

    async def scene() -> list[FolderReport]:
        with layout.sender_lock(folder):
            sweeping = asyncio.create_task(Sweep(order, Progress(), lambda url, token: transport).run([folder]))
            for _ in range(5):
                await asyncio.sleep(0)
            assert not sweeping.done()
        return await sweeping

    assert asyncio.run(scene())[0].state == "delivered"


def test_an_offline_folder_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    folder, transport = make_folder(tmp_path), MemoryTransport()
    with layout.sender_lock(folder):
        (report,) = sweep([folder], transport, timeout_s=0.2)
    assert (report.state, transport.hellos) == ("busy", [])


def test_a_folder_that_is_removed_meanwhile_is_no_failure(tmp_path: Path) -> None:
    assert sweep([tmp_path / "gone"], MemoryTransport())[0].state == "busy"


@pytest.mark.parametrize(
    ("assume_ended", "last_word", "state"),
    [
        (False, None, "unknown"),
        (False, AT_EXIT, "unknown"),
        (False, FINISHED, "delivered"),  # it said so itself
        (True, None, "delivered"),
    ],
)
def test_a_process_of_another_host(
    tmp_path: Path, assume_ended: bool, last_word: dict[str, object] | None, state: str
) -> None:
    """Its pid says nothing here, even where a process of this host has it: its points are delivered in any case."""
    folder, transport = make_folder(tmp_path, last_word=last_word, alive=True, **ELSEWHERE), MemoryTransport()
    (report,) = sweep([folder], transport, assume_ended=assume_ended)
    assert (report.state, points(transport), folder.exists()) == (state, 3, state == "unknown")


def test_a_refusal_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    bad, good = make_folder(tmp_path, "bad"), make_folder(tmp_path, "good", url="http://good")
    refusing, taking = MemoryTransport(refuse="no such token"), MemoryTransport()
    reports = sweep([bad, good], lambda url, token: taking if url == "http://good" else refusing)
    assert [report.state for report in reports] == ["failed", "delivered"]
    assert reports[0].reason == "the server refuses it: no such token"
    assert bad.exists()


class AwayTransport:
    """A server that cannot be reached."""

    def __init__(self) -> None:
        self.opened = 0

    @asynccontextmanager
    async def open(self, hello: pb.Hello) -> AsyncIterator[Stream]:
        self.opened += 1
        raise RetryLaterError("connection refused")
        yield


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once."""
    monkeypatch.setattr(delivery.policy, "next_delay_ms", lambda attempt, random: 0)


@pytest.mark.usefixtures("impatient")
def test_a_server_out_of_reach_is_given_up_for_all_folders(tmp_path: Path) -> None:
    folders = [make_folder(tmp_path, run_id) for run_id in ("r1", "r2")]
    transport = AwayTransport()
    reports = sweep(folders, transport)
    assert [(report.state, report.reason) for report in reports] == [("failed", "connection refused")] * 2
    assert transport.opened == CONNECT_ATTEMPTS
    assert all(folder.exists() for folder in folders)


class BreakingTransport(MemoryTransport):
    """A server that breaks each stream after a few batches, the first of which is a schema that it knows."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self._batches = batches

    @asynccontextmanager
    async def open(self, hello: pb.Hello) -> AsyncIterator[Stream]:
        self.break_after = self._batches
        async with super().open(hello) as stream:
            yield stream


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("batches", "state"), [(2, "delivered"), (1, "failed")])
def test_broken_streams_are_borne_as_long_as_there_is_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int, state: str
) -> None:
    monkeypatch.setattr("thalweg.wire.limits.BATCH_TARGET_BYTES", 1)
    folder, transport = make_folder(tmp_path, frames=3 * CONNECT_ATTEMPTS), BreakingTransport(batches)
    (report,) = sweep([folder], transport)
    assert report.state == state
    assert (len(transport.hellos) > CONNECT_ATTEMPTS) == (state == "delivered")


def test_a_server_that_acknowledges_nothing_is_given_up(tmp_path: Path) -> None:
    folders = [make_folder(tmp_path, run_id) for run_id in ("r1", "r2")]
    transport = MemoryTransport(acknowledge=False)
    reports = sweep(folders, transport, timeout_s=0.01)
    assert [report.reason for report in reports] == ["the server acknowledged nothing for 0.01 s"] * 2
    assert len(transport.hellos) == 1


@pytest.mark.parametrize(("url", "asked"), [(None, "http://of-the-run"), ("http://chosen", "http://chosen")])
def test_the_server_is_the_chosen_one_or_that_of_the_run(tmp_path: Path, url: str | None, asked: str) -> None:
    seen = []

    def transport(url: str, token: str | None) -> Transport:
        seen.append((url, token))
        return MemoryTransport()

    sweep([make_folder(tmp_path, url="http://of-the-run")], transport, url=url)
    assert seen == [(asked, "secret")]


def test_losses_are_reported_by_reason(tmp_path: Path) -> None:
    def refuse(batch: pb.Batch) -> list[pb.Rejected]:
        reason = pb.Rejected.REJECTED_TIME
        return [pb.Rejected(sequence=batch.sequence, reason=reason, points=2)] if batch.frames else []

    folder = make_folder(tmp_path)
    (segment,) = folder.glob("*.seg")
    data = bytearray(segment.read_bytes())
    at = data.rindex(b"THWL")
    data[at + 30] ^= 0xFF
    segment.write_bytes(data)
    (report,) = sweep([folder], MemoryTransport(on_batch=refuse))
    assert report.state == "delivered"
    assert report.losses == {"rejected_time": 2, "records_damaged": 1}


def test_a_folder_whose_identity_cannot_be_read_is_told(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    (folder / layout.IDENTITY_FILE).write_text('{"format": 99}')
    (report,) = sweep([folder], MemoryTransport())
    assert (report.state, report.identity) == ("failed", None)
    assert "its format is not 1" in report.reason


def test_the_lock_is_given_back(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, alive=True)
    before = len(os.listdir("/proc/self/fd"))
    sweep([folder], MemoryTransport())
    with layout.sender_lock(folder) as is_ours:
        assert is_ours
    assert len(os.listdir("/proc/self/fd")) == before


class Recorded(Progress):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.acked: list[int] = []

    def begin(self, identity: layout.Identity, folder: Path) -> None:
        self.begun.append(identity.run_id)

    def update(self, acked: int, sent_bytes: int) -> None:
        self.acked.append(acked)


def test_progress_is_told_to_the_last_record(tmp_path: Path) -> None:
    progress = Recorded()
    sweep([make_folder(tmp_path, last_word=FINISHED)], MemoryTransport(), progress=progress)
    assert (progress.begun, progress.acked[-1]) == (["r1"], 5)


@pytest.mark.parametrize(("frames", "last"), [(0, 0), (1, 2), (10_000, None)])
def test_last_sequence(tmp_path: Path, frames: int, last: int | None) -> None:
    """Over several segments each repeats its schema, so records are more than frames."""
    folder = make_folder(tmp_path, frames=frames)
    segments = len(layout.segment_numbers(folder))
    assert last_sequence(folder) == (frames + segments if last is None else last)
