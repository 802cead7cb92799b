"""Group commit: batches of all streams, a few inserts in flight. Owns the bound on memory and the order of
what belongs together; knows nothing of gRPC.

Guarantees: a future is done only when everything of its batch is committed, names first. At most
INGEST_BUFFER_BYTES of batches wait; `submit` waits for room, first come, first served, which is the
back-pressure. Lives on one event loop; inserts run in threads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.failures import is_of_the_host
from thalweg_tracker.errors import EngineBusyError
from thalweg_tracker.ingest.assemble import Rows, as_resent, assemble
from thalweg_tracker.ingest.checkpoints import checkpoint_rows
from thalweg_tracker.ingest.decode import FrameBlock
from thalweg_tracker.ingest.events import WriterNews, attribute_rows, branch_rows, writer_rows
from thalweg_tracker.model import limits
from thalweg_tracker.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Submission:
    """One batch, decoded, whose names are registered."""

    blocks: list[FrameBlock]
    news: WriterNews
    done: asyncio.Future[None]

    @property
    def points(self) -> int:
        """Number of points."""
        return sum(block.points for block in self.blocks)

    @property
    def size_bytes(self) -> int:
        """Memory that it holds, with a floor so that empty batches count too."""
        frames: int = sum(block.values.nbytes + block.steps.nbytes + block.times.nbytes for block in self.blocks)
        events: int = sum(event.ByteSize() for event in self.news.events)
        return frames + events + 1024


class Committer:
    """Collects submissions and commits them in groups."""

    def __init__(self, engine: Engine, telemetry: Telemetry | None = None) -> None:
        self._engine = engine
        telemetry = telemetry or Telemetry()
        self._traces = telemetry.traces
        self._metrics = telemetry.metrics.ingest
        self._metrics.queue_bytes.set_function(lambda: self._buffered_bytes)
        self._metrics.waiting.set_function(lambda: self._waiting_for_room)
        self._metrics.oldest_batch_s.set_function(self._oldest_s)
        self._arrivals_us: dict[int, int] = {}  # of what is not yet committed, in the order of its coming
        self._waiting_for_room = 0
        self._waiting: deque[Submission] = deque()
        self._buffered_bytes = 0
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()  # first come, first served: small batches do not pass a large one for ever
        self._room = asyncio.Condition()
        self._slots = asyncio.Semaphore(limits.COMMITS_IN_FLIGHT)
        self._threads = ThreadPoolExecutor(limits.COMMITS_IN_FLIGHT, thread_name_prefix="commit")
        self._commits: set[asyncio.Task[None]] = set()
        self._loop_task = asyncio.create_task(self._run())

    async def submit(self, blocks: list[FrameBlock], news: WriterNews) -> asyncio.Future[None]:
        """Takes a batch in when there is room. The future is done at its commit, or has its EngineError."""
        submission = Submission(blocks, news, asyncio.get_running_loop().create_future())
        size = submission.size_bytes
        self._arrivals_us[id(submission)] = news.seen_at_us
        begun_s = time.perf_counter()
        must_wait = self._turn.locked() or not self._has_room(size)
        self._waiting_for_room += must_wait
        try:
            async with self._turn, self._room:
                await self._room.wait_for(lambda: self._has_room(size))
                self._buffered_bytes += size
        except BaseException:  # the stream is gone
            del self._arrivals_us[id(submission)]
            raise
        finally:
            if must_wait:
                self._waiting_for_room -= 1
                self._metrics.backpressure_s.inc(time.perf_counter() - begun_s)
        self._waiting.append(submission)
        self._news.set()
        return submission.done

    def _has_room(self, size_bytes: int) -> bool:
        return not self._buffered_bytes or self._buffered_bytes + size_bytes <= limits.INGEST_BUFFER_BYTES

    def _oldest_s(self) -> float:
        """Age of the oldest batch that is not committed. May be called from any thread."""
        oldest_us = next(iter(list(self._arrivals_us.values())), None)
        return 0.0 if oldest_us is None else max(0.0, time.time() - oldest_us / 1e6)

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            await self._slots.acquire()
            if sum(s.points for s in self._waiting) < limits.COMMIT_MAX_ROWS:
                await asyncio.sleep(limits.COMMIT_AFTER_MS / 1e3)
            group = self._take_group()
            task = asyncio.create_task(self._commit(group))
            self._commits.add(task)
            task.add_done_callback(self._commits.discard)

    def _take_group(self) -> list[Submission]:
        """The oldest submissions, up to COMMIT_MAX_ROWS, at least one."""
        group = [self._waiting.popleft()]
        rows = group[0].points
        while self._waiting and rows + self._waiting[0].points <= limits.COMMIT_MAX_ROWS:
            group.append(self._waiting.popleft())
            rows += group[-1].points
        if not self._waiting:
            self._news.clear()
        return group

    async def _commit(self, group: list[Submission]) -> None:
        loop = asyncio.get_running_loop()
        error: Exception | None = None
        begun_s = time.perf_counter()
        try:
            points = await loop.run_in_executor(self._threads, self._insert, group)
        except Exception as caught:  # the outermost line of a commit: every stream in it is told
            log.exception("a commit of %d batches failed", len(group))
            error = caught
            self._metrics.commit_failures.inc()
        else:
            self._metrics.points.inc(points)
            self._metrics.batches.inc(len(group))
            self._metrics.commit_rows.observe(points)
            self._metrics.ack_s.observe(max(0.0, time.time() - group[0].news.seen_at_us / 1e6))
        self._metrics.commit_s.observe(time.perf_counter() - begun_s)
        for submission in group:
            del self._arrivals_us[id(submission)]
        self._slots.release()
        async with self._room:
            self._buffered_bytes -= sum(submission.size_bytes for submission in group)
            self._room.notify_all()
        for submission in group:
            if submission.done.cancelled():
                continue
            if error is None:
                submission.done.set_result(None)
            else:
                submission.done.set_exception(error)
                submission.done.exception()  # counts as seen: its stream may be gone

    def _insert(self, group: list[Submission]) -> int:
        """Returns the number of points. Runs in a thread. The writers' rows come last: what they count is there."""
        with self._traces.commit() as span:
            points = self._insert_all(group)
            span.set(thalweg__batches=len(group), thalweg__points=points)
        return points

    def _insert_all(self, group: list[Submission]) -> int:
        started_s = time.perf_counter()
        blocks = [block for submission in group for block in submission.blocks if block.points]
        if blocks:
            rows = assemble(blocks)
            self._insert_rows(rows, are_copies=any(block.resent or block.relogged for block in blocks))
        news = [submission.news for submission in group]
        saved = checkpoint_rows((one.writer.project, one.writer.run, event) for one in news for event in one.events)
        told = {"branches": branch_rows(news), "attributes": attribute_rows(news), "checkpoints": saved}
        for table, more in told.items():
            if more.num_rows:
                self._engine.insert(table, more)
        self._engine.insert("writers", writer_rows(news))
        points = sum(submission.points for submission in group)
        log.debug(
            "committed %d points of %d batches in %.0f ms", points, len(group), 1e3 * (time.perf_counter() - started_s)
        )
        return points

    def _insert_rows(self, rows: Rows, *, are_copies: bool) -> None:
        """Points and statistics. `are_copies`: some may be there already; readers must know before they are."""
        if are_copies:
            self._engine.insert("series_stats_feed", rows.stats)
        is_told = self._insert_points(rows)
        if not are_copies and not is_told:
            self._engine.insert("series_stats_feed", rows.stats)

    def _insert_points(self, rows: Rows) -> bool:
        """Where their host goes away meanwhile, nobody knows whether they are there: they are inserted again, after
        readers were told so. Returns whether they were.
        """
        for left in reversed(range(limits.COMMIT_TRIES)):
            is_first = left == limits.COMMIT_TRIES - 1
            try:
                self._engine.insert("points", rows.points)
                return not is_first
            except EngineBusyError as error:
                if not left or not is_of_the_host(error):
                    raise
                log.warning("%d points are inserted again, as their host went away: %s", rows.points.num_rows, error)
            if is_first:
                self._engine.insert("series_stats_feed", as_resent(rows.stats))
        raise AssertionError  # the last round returns or raises

    async def close(self) -> None:
        """Commits what was submitted, then stops."""
        while self._waiting or self._commits:
            await asyncio.sleep(0.01)
        self._loop_task.cancel()
        await asyncio.gather(self._loop_task, return_exceptions=True)
        self._threads.shutdown()
