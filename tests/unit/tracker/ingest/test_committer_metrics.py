"""What the group commit counts: what was committed, what failed, how long streams waited for room, what waits now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from tests.support import wire
from tests.support.scrape import Scrape, parse
from tests.support.scripted_engine import ScriptedEngine
from tests.unit.tracker.ingest.test_committer import WRITER, blocks, large, until
from thalweg_tracker.errors import EngineBusyError
from thalweg_tracker.ingest.committer import Committer
from thalweg_tracker.ingest.events import WriterNews
from thalweg_tracker.model import limits
from thalweg_tracker.telemetry.telemetry import Telemetry


def committing(engine: ScriptedEngine, test: Callable[[Committer, Callable[[], Scrape]], Awaitable[None]]) -> Scrape:
    """Runs a test on a committer whose metrics it can scrape, closes that, and scrapes once more."""
    telemetry = Telemetry()

    def scrape() -> Scrape:
        return parse(telemetry.metrics.text()[0].decode())

    async def run() -> None:
        committer = Committer(engine, telemetry)
        try:
            async with asyncio.timeout(60):
                await test(committer, scrape)
        finally:
            engine.may_insert.set()
            await committer.close()

    asyncio.run(run())
    return scrape()


def news(age_s: float = 0.0) -> WriterNews:
    """A batch's news that came so long ago."""
    return WriterNews(WRITER, [wire.started()], {}, round((time.time() - age_s) * 1e6))


def test_what_waits_is_told_while_it_waits() -> None:
    """The queue's bytes, the streams that wait for room, the age of the oldest batch; nothing is left of it after."""
    engine = ScriptedEngine()
    engine.may_insert.clear()

    async def test(committer: Committer, scrape: Callable[[], Scrape]) -> None:
        for age_s in (300.0, 200.0, 100.0):
            await committer.submit(large(), news(age_s))
        waiting = [asyncio.create_task(committer.submit(large(), news())) for _ in range(2)]
        await until(lambda: scrape().value("thalweg_ingest_waiting_streams") == 2)
        now = scrape()
        quarter = limits.INGEST_BUFFER_BYTES / 4
        assert 3 * quarter < now.value("thalweg_ingest_queue_bytes") <= limits.INGEST_BUFFER_BYTES
        assert 300 <= now.value("thalweg_ingest_oldest_batch_age_seconds") < 400
        assert now.value("thalweg_ingest_backpressure_seconds_total") == 0, "it is counted when it is over"
        waiting.pop().cancel()
        await until(lambda: scrape().value("thalweg_ingest_waiting_streams") == 1)
        engine.may_insert.set()
        await waiting[0]

    after = committing(engine, test)
    assert after.value("thalweg_ingest_waiting_streams") == 0
    assert after.value("thalweg_ingest_queue_bytes") == 0
    assert after.value("thalweg_ingest_oldest_batch_age_seconds") == 0
    assert after.value("thalweg_ingest_backpressure_seconds_total") > 0
    assert after.value("thalweg_ingest_batches_total") == 4
    assert after.value("thalweg_ingest_ack_duration_seconds_sum") >= 300


def test_without_a_queue_nobody_waits() -> None:
    """The counter of back-pressure stays at zero, to the nanosecond."""

    async def test(committer: Committer, scrape: Callable[[], Scrape]) -> None:
        for _ in range(20):
            await (await committer.submit(blocks(10), news()))

    after = committing(ScriptedEngine(), test)
    assert after.value("thalweg_ingest_backpressure_seconds_total") == 0
    assert after.value("thalweg_ingest_points_total") == 200


def test_a_commit_that_fails_is_counted_as_one() -> None:
    """Its points and batches are not; the next ones are."""
    engine = ScriptedEngine(failures={"points": [EngineBusyError("no room")]})

    async def test(committer: Committer, scrape: Callable[[], Scrape]) -> None:
        failed = await committer.submit(blocks(7), news())
        await asyncio.gather(failed, return_exceptions=True)
        await (await committer.submit(blocks(5), news()))

    after = committing(engine, test)
    assert after.value("thalweg_ingest_commit_failures_total") == 1
    assert (after.value("thalweg_ingest_points_total"), after.value("thalweg_ingest_batches_total")) == (5, 1)
    assert after.value("thalweg_ingest_commit_duration_seconds_count") == 2
    assert after.value("thalweg_ingest_oldest_batch_age_seconds") == 0
