"""Entry of the sender process: delivers one writer's folder, samples the host, then leaves.

Owns the life of the process: lock, signals, how long it stays. Knows nothing of records.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from thalweg.sender.delivery import Delivery, append_ending
from thalweg.sender.host import HostWriter, try_host_lock
from thalweg.sender.transport import GrpcTransport, RefusedError
from thalweg.sender.watch import UNKNOWN, Ending, ProcessWatch, is_running
from thalweg.settings import read_token
from thalweg.spool import layout, process
from thalweg.spool.reader import SpoolReader
from thalweg.spool.records import EVENT, read_text

log = logging.getLogger("thalweg.sender")

LINGER_S: Final = 600.0
"""How long the sender goes on without any progress after the training process has gone."""
TERMINATE_S: Final = 10.0
FSYNC_AFTER_S: Final = 1.0


def main() -> None:
    """Runs the sender: arguments are folder, interval of system metrics in seconds, pidfd of the training or -1."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    folder, interval_s, pidfd = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training
    asyncio.run(Sender(folder, interval_s, pidfd).run())
    logging.shutdown()
    os._exit(0)  # all is closed: to take the interpreter apart would cost the host a quarter of what the start did


class Sender:
    """The duties of one sender process."""

    def __init__(self, folder: Path, interval_s: float, pidfd: int) -> None:
        self._folder = folder
        self._pidfd = pidfd
        self._interval_s = interval_s
        self._identity = layout.read_identity(folder)
        self._ending: Ending | None = None
        self._run_is_over = asyncio.Event()
        self._leave = asyncio.Event()
        self._transport = GrpcTransport(self._identity.url, read_token(os.environ.get("THALWEG_TOKEN")))

    async def run(self) -> None:
        """Until everything is delivered, or nothing can be for long."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._terminate)
        watching = asyncio.create_task(self._watch())
        syncing = asyncio.create_task(self._fsync())
        sampling = asyncio.create_task(self._sample_host())
        try:
            if self._identity.mode == "offline":
                await self._seal_offline(watching)
            else:
                await self._deliver()
        finally:
            self._run_is_over.set()
            await asyncio.wait({sampling})  # it delivers its last samples
            watching.cancel()
            syncing.cancel()
            results = await asyncio.gather(watching, syncing, sampling, return_exceptions=True)
            for result in results:
                if isinstance(result, Exception):
                    log.error("a duty of the sender failed", exc_info=result)

    def _terminate(self) -> None:
        """On SIGTERM: a little time for the delivery; offline there is none."""
        pause_s = 0.0 if self._identity.mode == "offline" else TERMINATE_S
        asyncio.get_running_loop().call_later(pause_s, self._leave.set)

    async def _watch(self) -> None:
        watch = ProcessWatch(self._identity.pid, self._identity.process_started, self._pidfd)
        self._ending = await watch.ended()
        if self._identity.mode == "offline":
            self._run_is_over.set()
        log.info("process %d ended: %s", self._identity.pid, self._ending)
        watch.close()

    async def _deliver(self) -> None:
        with layout.sender_lock(self._folder) as is_ours:
            if not is_ours:
                log.info("another sender delivers %s", self._folder)
                return
            delivery = Delivery(self._folder, self._transport, ending=lambda: self._ending)
            await self._run_delivery(delivery)
        if self._identity.primary:
            await self._adopt_orphans()

    async def _run_delivery(self, delivery: Delivery) -> None:
        """Runs a delivery to its end, or gives up after LINGER_S without progress in a world without training."""
        task = asyncio.create_task(delivery.run())
        leave = asyncio.create_task(self._leave.wait())
        try:
            while not task.done() and not leave.done():
                await asyncio.wait({task, leave}, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                idle_s = time.monotonic() - delivery.last_progress_s
                if not (delivery.folder / layout.IDENTITY_FILE).exists():
                    log.warning("%s is gone: there is nothing left to deliver", delivery.folder)
                    break
                if delivery.has_ended and idle_s > LINGER_S:
                    log.warning("no progress for %.0f s; `thalweg sync` delivers the rest later", idle_s)
                    break
            if task.done():
                task.result()
        except RefusedError as error:
            log.error("refused: %s; the records stay in %s", error, delivery.folder)
        finally:
            task.cancel()
            leave.cancel()
            await asyncio.gather(task, leave, return_exceptions=True)
        if delivery.is_complete:
            delivery.remove_folder()
        else:
            delivery.close()

    async def _adopt_orphans(self) -> None:
        """Delivers what processes that are gone, and their senders, left behind on this host."""
        for folder in layout.writer_folders(self._folder.parent):
            try:
                await self._adopt(folder)
            except (OSError, ValueError) as error:  # its own sender may just have deleted it
                log.warning("skipped %s: %s", folder, error)

    async def _adopt(self, folder: Path) -> None:
        identity = layout.read_identity(folder)
        same_host = identity.host == socket.gethostname() and identity.url == self._identity.url
        is_live = is_running(identity.pid, identity.process_started) or layout.is_written_to(folder)
        if identity.mode == "online" and same_host and not is_live:
            with layout.sender_lock(folder) as is_ours:
                if is_ours:
                    await self._run_delivery(Delivery(folder, self._transport, ending=lambda: UNKNOWN))

    async def _seal_offline(self, watching: asyncio.Task[None]) -> None:
        """Offline there is nothing to deliver: waits for the end, and writes it down if the process could not."""
        leave = asyncio.create_task(self._leave.wait())
        await asyncio.wait({watching, leave}, return_when=asyncio.FIRST_COMPLETED)
        leave.cancel()
        with layout.sender_lock(self._folder) as is_ours:
            if is_ours and self._ending is not None:
                seal(self._folder, self._ending)

    async def _fsync(self) -> None:
        """Bounds what a power loss can take to about FSYNC_AFTER_S."""
        while True:
            await asyncio.sleep(FSYNC_AFTER_S)
            await asyncio.to_thread(_fsync_newest, self._folder)

    async def _sample_host(self) -> None:
        """Samples while the training process lives, if no other sender does so for this run and host."""
        if not self._interval_s or not self._identity.primary:
            return
        while (lock := try_host_lock(self._folder.parent, self._identity.project, self._identity.run_id)) is None:
            if await self._is_over_after(self._interval_s):
                return
        writer = HostWriter(self._folder.parent, self._host_identity(), self._identity.pid)
        delivery = asyncio.create_task(self._deliver_host(writer.folder))
        try:
            over = False
            while not over:
                await asyncio.to_thread(writer.sample, time.time(), self._interval_s)
                over = await self._is_over_after(self._interval_s - time.time() % self._interval_s)
        finally:
            writer.close()
            os.close(lock)
            await delivery

    async def _is_over_after(self, pause_s: float) -> bool:
        """Waits so long, or until the run is over; tells which."""
        try:
            await asyncio.wait_for(self._run_is_over.wait(), pause_s)
        except asyncio.TimeoutError:
            return False
        return True

    def _host_identity(self) -> layout.Identity:
        return replace(
            self._identity,
            writer=layout.new_writer_id(),
            host=socket.gethostname(),
            pid=os.getpid(),
            process_started=process.started_s(os.getpid()),
            primary=False,
        )

    async def _deliver_host(self, folder: Path) -> None:
        if self._identity.mode == "offline":
            return
        with layout.sender_lock(folder) as is_ours:
            assert is_ours, folder
            await self._run_delivery(Delivery(folder, self._transport, ending=lambda: None))


def seal(folder: Path, ending: Ending) -> None:
    """Appends how the writer ended, unless it said so itself."""
    reader = SpoolReader(folder, lambda damage: None)
    sequence, word = 0, None
    while (record := reader.advance(writer_ended=True)) is not None:
        sequence = record.header.sequence
        if record.header.kind == EVENT:
            event = read_text(record.view, record.at)
            word = event if event["kind"] == "ended" else word
    reader.close()
    if word is None or (word.get("at_exit") and not ending.confirms(word)):
        append_ending(folder, sequence, ending)


def _fsync_newest(folder: Path) -> None:
    """Writes the state and the two newest segments to the disk; the older ones were newest once."""
    newest = [layout.segment_path(folder, number) for number in layout.segment_numbers(folder)[-2:]]
    for path in (folder / layout.STATE_FILE, *newest):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # delivered meanwhile
            continue
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
