"""Delivers the writers' folders of a spool, one after the other, by hand of `thalweg sync`.

Guarantees: a folder that another process delivers is left alone; a folder is removed only when all of it is
acknowledged and its writer has ended; a server that cannot be reached is not waited for without end.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from thalweg.sender.delivery import Delivery
from thalweg.sender.transport import GrpcTransport, RefusedError, RetryLaterError, Stream, Transport
from thalweg.sender.watch import UNKNOWN, Ending, is_running
from thalweg.spool import layout
from thalweg.spool.records import read_header
from thalweg.wire.v1 import records_pb2 as pb

CONNECT_ATTEMPTS: Final = 3
"""Connections that fail or break in a row, without any progress, before a server counts as out of reach."""
_LOOK_S: Final = 0.1

State = Literal["delivered", "live", "busy", "unknown", "failed"]


@dataclass(frozen=True, slots=True)
class SweepOrder:
    """What the user asked for."""

    url: str | None  # None: the address that each folder names
    token: str | None = field(repr=False)
    assume_ended: bool  # writers on other hosts count as ended
    timeout_s: float  # longest time without an acknowledgement


@dataclass(frozen=True, slots=True)
class FolderReport:
    """What became of a folder. `state`: delivered and removed; live: all that is there was delivered, more may come;
    busy: another process delivers it; unknown: as live, but nobody here can tell whether more may come; failed.
    """

    folder: Path
    state: State
    identity: layout.Identity | None = None
    records: int = 0  # acknowledged by this sweep
    sent_bytes: int = 0
    losses: dict[str, int] = field(default_factory=dict)  # rejected and damaged, by reason
    reason: str = ""


class UnreachableError(Exception):
    """The server cannot be reached, or acknowledges nothing."""


class Progress:
    """Is told how a delivery goes on. This one does nothing."""

    def begin(self, identity: layout.Identity, folder: Path) -> None:
        """A folder is being delivered."""

    def update(self, acked: int, sent_bytes: int) -> None:
        """Records of the folder that are acknowledged, and bytes sent so far."""


class PersistentTransport:
    """A transport that counts bytes, and gives up when connections fail CONNECT_ATTEMPTS times in a row."""

    def __init__(self, inner: Transport) -> None:
        self.sent_bytes = 0
        self._inner = inner
        self._failures = 0
        self._acked = 0

    @asynccontextmanager
    async def open(self, hello: pb.Hello) -> AsyncIterator[Stream]:
        """A stream of the inner transport. Raises UnreachableError besides."""
        try:
            async with self._inner.open(hello) as stream:
                yield _CountingStream(stream, self)
        except RetryLaterError as error:
            self._failures += 1
            if self._failures >= CONNECT_ATTEMPTS:
                raise UnreachableError(str(error)) from error
            raise

    def note_ack(self, sequence: int) -> None:
        """The server has taken records up to this number; what it has taken before is no progress."""
        if sequence > self._acked:
            self._acked, self._failures = sequence, 0


class _CountingStream:
    def __init__(self, inner: Stream, counts: PersistentTransport) -> None:
        self._inner = inner
        self._counts = counts

    async def send(self, batch: pb.Batch) -> None:
        await self._inner.send(batch)
        self._counts.sent_bytes += batch.ByteSize()

    async def receive(self) -> pb.Ack | pb.Rejected:
        word = await self._inner.receive()
        if isinstance(word, pb.Ack):
            self._counts.note_ack(word.sequence)
        return word


class Sweep:
    """One pass over folders. Servers that were out of reach once are not tried for the next folder."""

    def __init__(
        self,
        order: SweepOrder,
        progress: Progress,
        transport: Callable[[str, str | None], Transport] = GrpcTransport,
        host: str | None = None,
    ) -> None:
        """`transport` from address and token; `host`: the name of this one."""
        self._order = order
        self._progress = progress
        self._transport = transport
        self._host = host or socket.gethostname()
        self._unreachable: dict[str, str] = {}

    async def run(self, folders: Sequence[Path]) -> list[FolderReport]:
        """Delivers the folders in this order."""
        return [await self._take(folder) for folder in folders]

    async def _take(self, folder: Path) -> FolderReport:
        try:
            identity = layout.read_identity(folder)
            # Offline, the run's own sender holds its folder for a moment only, to write down how it ended.
            patience_s = self._order.timeout_s if identity.mode == "offline" else 0.0
            until = time.monotonic() + patience_s
            while True:
                with layout.sender_lock(folder) as is_ours:
                    if is_ours:
                        return await self._deliver(folder, identity)
                if time.monotonic() >= until:
                    return FolderReport(folder, "busy", identity, reason=_last_word(folder))
                await asyncio.sleep(_LOOK_S)
        except FileNotFoundError:  # removed between the listing and the lock
            return FolderReport(folder, "busy", reason="another process has just delivered and removed it")
        except (OSError, ValueError) as error:
            return FolderReport(folder, "failed", reason=str(error))

    async def _deliver(self, folder: Path, identity: layout.Identity) -> FolderReport:
        url = self._order.url or identity.url
        if url in self._unreachable:
            return FolderReport(folder, "failed", identity, reason=self._unreachable[url])
        transport = PersistentTransport(self._transport(url, self._order.token))
        ending = self._ending(folder, identity)
        delivery = Delivery(folder, transport, ending=lambda: ending, follow=False)
        acked, before = delivery.state.acked, delivery.state.counters()
        self._progress.begin(identity, folder)
        reason = ""
        try:
            await self._watch(delivery, transport)
        except RefusedError as error:
            reason = f"the server refuses it: {error}"
        except UnreachableError as error:
            reason = self._unreachable[url] = str(error)
        except BaseException:
            delivery.close()
            raise
        records, losses = delivery.state.acked - acked, _losses(before, delivery.state.counters())
        state = "failed" if reason else self._state(delivery)
        delivery.remove_folder() if state == "delivered" else delivery.close()
        return FolderReport(folder, state, identity, records, transport.sent_bytes, losses, reason)

    def _ending(self, folder: Path, identity: layout.Identity) -> Ending | None:
        """How the writer has ended, None while it lives. Asked once: one that ends meanwhile is for the next sweep."""
        if identity.host != self._host:
            return UNKNOWN if self._order.assume_ended else None
        is_live = is_running(identity.pid, identity.process_started) or layout.is_written_to(folder)
        return None if is_live else UNKNOWN

    def _state(self, delivery: Delivery) -> State:
        if delivery.is_complete:
            return "delivered"
        return "live" if delivery.identity.host == self._host else "unknown"

    async def _watch(self, delivery: Delivery, transport: PersistentTransport) -> None:
        """Runs a delivery to its end. Raises RefusedError, UnreachableError."""
        task = asyncio.create_task(delivery.run())
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_LOOK_S)
                self._progress.update(delivery.state.acked, transport.sent_bytes)
                if time.monotonic() - delivery.last_progress_s > self._order.timeout_s:
                    raise UnreachableError(f"the server acknowledged nothing for {self._order.timeout_s:g} s")
            task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _last_word(folder: Path) -> str:
    """What the process that delivers a folder last said of its troubles; empty if it has none."""
    try:
        status = json.loads((folder / layout.STATUS_FILE).read_text())
        return f"it is {status['status']}: {status['error']}" if status["error"] else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _losses(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """Counters of losses that have grown, by how much."""
    grown = {reason: points - before.get(reason, 0) for reason, points in after.items()}
    return {reason: n for reason, n in grown.items() if n and reason.startswith(("rejected_", "records_"))}


def last_sequence(folder: Path) -> int:
    """Sequence number of the last record that is there now, for a progress bar: damage ends the search. 0: none."""
    for number in reversed(layout.segment_numbers(folder)):
        view = memoryview(layout.segment_path(folder, number).read_bytes())
        at = sequence = 0
        while (header := read_header(view, at)) is not None:
            sequence = header.sequence
            at += header.length
        if sequence:
            return sequence
    return 0
