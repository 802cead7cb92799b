"""Brings one writer's folder to the server. Owns the resending and what may be deleted.

Guarantees: a record is deleted only after an ack named it; records are sent in order; what was not
acknowledged is sent again after a break, marked as such. One event loop; the folder's lock is held
by the caller.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from thalweg.sender.pack import Packed, Packer
from thalweg.sender.transport import RefusedError, RetryLaterError, Stream, Transport
from thalweg.sender.watch import Ending
from thalweg.spool import layout
from thalweg.spool.reader import Damage, SpoolReader
from thalweg.spool.state import COUNTERS, State
from thalweg.spool.writer import SpoolFullError, SpoolWriter
from thalweg.version import __version__
from thalweg.wire import limits, policy
from thalweg.wire.v1 import records_pb2 as pb

log = logging.getLogger(__name__)

POLL_S: Final = 0.02
IN_FLIGHT_MAX_BATCHES: Final = 32
SMALL_BYTES: Final = 64 << 10
"""Smaller batches go one at a time: what comes until the ack goes together, the more of it the slower the server is."""
_ORIGINS: Final = {"start": pb.Origin.START, "fork": pb.Origin.FORK, "rewind": pb.Origin.REWIND}
_SEAL_SEGMENT_BYTES: Final = 64 << 10


class Delivery:
    """Delivers one folder until its writer has ended and all is acknowledged."""

    def __init__(
        self,
        folder: Path,
        transport: Transport,
        *,
        ending: Callable[[], Ending | None],
        follow: bool = True,
        random: Random | None = None,
    ) -> None:
        """`ending` tells how the writer's process ended, None while it lives. Without `follow`, the
        delivery is complete as soon as all that is there was acknowledged.
        """
        self.folder = folder
        self.identity = layout.read_identity(folder)
        self.state = State(folder)
        self.last_progress_s = time.monotonic()
        self._transport = transport
        self._ending = ending
        self._follow = follow
        self._random = random or Random()  # noqa: S311  # jitter, not a secret
        self._reader = SpoolReader(folder, self._on_damage)
        self._packer = Packer(self._reader, self.state)
        self._in_flight: deque[Packed] = deque()
        self._room = asyncio.Event()
        self._is_sealed = False
        self._is_connected_told = False
        self._is_complete = False

    def _on_damage(self, damage: Damage) -> None:
        place = damage.segment << 32 | damage.at
        if place > self.state.damage_counted_to:  # after a break the same places are read again
            self.state.count("records_damaged", 1)
            self.state.damage_counted_to = place

    @property
    def has_ended(self) -> bool:
        """Whether the writer will append nothing more."""
        word = self._packer.ended
        said_so = word is not None and not word.get("at_exit")  # at exit, the process' own end is yet to come
        return said_so or self._ending() is not None

    async def run(self) -> None:
        """Delivers everything. Raises RefusedError if the server will never take it."""
        attempt = 0
        while not self._is_complete:
            acked = self.state.acked
            try:
                self._tell("connecting")
                self._is_connected_told = False
                await self._connect_and_stream()
            except (RetryLaterError, SpoolFullError, OSError) as error:  # the disk may have room later
                attempt = 0 if self.state.acked > acked else attempt + 1
                self._tell("waiting", str(error))
                asked_s = error.after_s if isinstance(error, RetryLaterError) else 0.0
                await asyncio.sleep(asked_s + policy.next_delay_ms(attempt, self._random) / 1e3)
            except RefusedError as error:
                self._tell("refused", str(error))
                raise
        self._tell("done")

    def _tell(self, status: str, error: str = "") -> None:
        """Writes the sender's status where the training process and people can see it."""
        (log.warning if error else log.info)("%s %s", status, error)
        document = {"status": status, "error": error, "url": self.identity.url, "time": time.time()}
        try:
            layout.write_atomically(self.folder / layout.STATUS_FILE, json.dumps(document))
        except OSError as failure:  # on a full disk delivery is what makes room
            log.warning("cannot write the status: %s", failure)

    async def _connect_and_stream(self) -> None:
        hello = pb.Hello(
            protocol=limits.PROTOCOL,
            writer=self.identity.writer,
            project=self.identity.project,
            run_id=self.identity.run_id,
            rank=self.identity.rank,
            sdk_version=__version__,
            acknowledged=self.state.acked,
            began_us=self.identity.began_us,
            origin=_to_origin(self.identity.origin),
            branch=self.identity.branch,
        )
        async with self._transport.open(hello) as stream:
            self._packer.restart()
            self._in_flight.clear()
            self._room.set()
            acks = asyncio.create_task(self._take_acks(stream))
            sends = asyncio.create_task(self._send(stream))
            try:
                await asyncio.wait({acks, sends}, return_when=asyncio.FIRST_COMPLETED)
                for task in (acks, sends):  # the ack side knows the server's reason
                    if task.done():
                        task.result()
            finally:
                for task in (acks, sends):
                    task.cancel()
                await asyncio.gather(acks, sends, return_exceptions=True)

    async def _send(self, stream: Stream) -> None:
        """Sends batches as they come, until all is delivered."""
        heartbeat_due_s = 0.0
        told: dict[str, int] = {}
        while True:
            ended = self.has_ended or not self._follow
            if not ended and self._in_flight and 0 < self._in_flight[-1].size_bytes < SMALL_BYTES:
                self._room.clear()
                await self._room.wait()
                continue
            packed = self._packer.next(writer_ended=self.has_ended)
            if packed is not None:
                await self._send_batch(stream, packed)
                continue
            if not self._in_flight:
                counters, now_s = self.state.counters(), time.monotonic()
                if now_s >= heartbeat_due_s or (ended and counters != told):
                    await self._send_batch(stream, self._heartbeat())
                    news_s = policy.COUNTERS_S if counters != told else policy.HEARTBEAT_S
                    told, heartbeat_due_s = counters, now_s + news_s
                    continue
                if ended and not self._seal():
                    self._is_complete = True
                    return
            await asyncio.sleep(POLL_S)

    def _seal(self) -> bool:
        """Appends how the writer ended where it could not say so itself. Whether it did."""
        ending, word = self._ending(), self._packer.ended
        if self._is_sealed or ending is None:
            return False
        adds = word is None or (bool(word.get("at_exit")) and not ending.confirms(word))
        if adds:
            append_ending(self.folder, max(self._packer.sequence, self.state.acked), ending)
        self._is_sealed = True
        return adds

    def _heartbeat(self) -> Packed:
        return Packed(pb.Batch(sequence=max(self._packer.sequence, self.state.acked)), 0, self._reader.segment)

    async def _send_batch(self, stream: Stream, packed: Packed) -> None:
        while len(self._in_flight) >= IN_FLIGHT_MAX_BATCHES:
            self._room.clear()
            await self._room.wait()
        for reason, points in self.state.counters().items():
            packed.message.counters.append(pb.Counter(reason=reason, points=points))
        self.state.highest_step = max(self.state.highest_step, self._packer.highest_step)
        self.state.sent = max(self.state.sent, packed.message.sequence)
        self._in_flight.append(packed)
        await stream.send(packed.message)

    async def _take_acks(self, stream: Stream) -> None:
        refusals: list[pb.Rejected] = []  # counted with the ack: without one the batch is sent, and refused, again
        while True:
            word = await stream.receive()
            self.last_progress_s = time.monotonic()
            if isinstance(word, pb.Rejected):
                refusals.append(word)
                continue
            self._tell_connected()
            points = 0
            while self._in_flight and self._in_flight[0].message.sequence <= word.sequence:
                packed = self._in_flight.popleft()
                points += packed.points
                self._forget(packed)
            for refusal in refusals:
                self._count_rejected(refusal)
                points -= refusal.points
            refusals.clear()
            self.state.count("accepted", max(points, 0))
            self._room.set()

    def _tell_connected(self) -> None:
        if not self._is_connected_told:
            self._is_connected_told = True
            self._tell("connected")

    def _count_rejected(self, word: pb.Rejected) -> None:
        name = pb.Rejected.Reason.Name(word.reason).lower() if word.reason in pb.Rejected.Reason.values() else ""
        self.state.count(name if name in COUNTERS else "rejected_other", max(word.points, 1))
        log.warning("the server rejected a part of batch %d (%s): %s", word.sequence, name, word.message)

    def _forget(self, packed: Packed) -> None:
        """Records the ack, then deletes the segments that hold nothing newer."""
        self.state.acked = max(self.state.acked, packed.message.sequence)
        for number in layout.segment_numbers(self.folder):
            if number < packed.segment:
                layout.segment_path(self.folder, number).unlink()

    @property
    def is_complete(self) -> bool:
        """Whether everything is acknowledged and the writer has ended."""
        return self._is_complete and self.has_ended

    def remove_folder(self) -> None:
        """Deletes the delivered folder; damaged bytes are kept in the spool's own quarantine."""
        assert self.is_complete, self.folder
        quarantine = self.folder / layout.QUARANTINE_FOLDER
        if quarantine.exists():
            kept = self.folder.parent / layout.QUARANTINE_FOLDER
            kept.mkdir(exist_ok=True)
            quarantine.rename(kept / self.folder.name)
        self.close()
        (self.folder / layout.IDENTITY_FILE).unlink()  # first: what a kill leaves of the rest is no writer's folder
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Unmaps what is mapped."""
        self._reader.close()
        self.state.close()


def _to_origin(origin: layout.Origin | None) -> pb.Origin | None:
    """An origin as a message."""
    if origin is None:
        return None
    return pb.Origin(
        kind=_ORIGINS[origin.kind],
        parent_run_id=origin.parent_run_id,
        parent_branch=origin.parent_branch,
        step=origin.step,
        attempt=origin.attempt,
        branch=origin.branch,
    )


def append_ending(folder: Path, sequence: int, ending: Ending) -> None:
    """Appends a last word after record `sequence`. Past the quota: it is the last record. Raises SpoolFullError."""
    writer = SpoolWriter(folder, limit_bytes=sys.maxsize, after_sequence=sequence, segment_bytes=_SEAL_SEGMENT_BYTES)
    writer.append_event(json.dumps(ending.as_event(time.time_ns() // 1000)).encode())
    writer.close()
