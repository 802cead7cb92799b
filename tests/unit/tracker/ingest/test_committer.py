"""Group commit: what a done future means, what a failure reaches, how much may wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from tests.support import wire
from tests.support.scripted_engine import ScriptedEngine
from thalweg_tracker.errors import EngineBusyError
from thalweg_tracker.ingest.committer import Committer
from thalweg_tracker.ingest.decode import FrameBlock, StreamDecoder, StreamSchema
from thalweg_tracker.ingest.events import WriterNews
from thalweg_tracker.model import limits, series_flags

WRITER = wire.writer(wire.hello("r"))
NEWS = WriterNews(WRITER, [], {}, wire.START_US)


def blocks(count: int = 1) -> list[FrameBlock]:
    """So many points of one series."""
    batch = wire.batch(1, ["loss"], range(count), [[0.0]] * count)
    return StreamDecoder(WRITER).decode(batch).blocks


def large() -> list[FrameBlock]:
    """A quarter of what may wait, on paper: its values are one number, seen many times; none of them is stored."""
    schema = StreamSchema(
        np.array([], np.uint64), np.array([], np.intp), np.array([], np.bool_), limits.INGEST_BUFFER_BYTES // 32
    )
    values = np.broadcast_to(np.zeros((1, 1)), (1, schema.width))
    return [FrameBlock(WRITER, schema, np.zeros(1), np.zeros(1, np.int64), values, False, False)]


def committing(engine: ScriptedEngine, test: Callable[[Committer], Awaitable[None]]) -> None:
    """Runs a test on a committer of its own, then closes that."""

    async def run() -> None:
        committer = Committer(engine)
        try:
            async with asyncio.timeout(60):
                await test(committer)
        finally:
            engine.may_insert.set()
            await committer.close()

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition that a thread makes true."""
    while not condition():
        await asyncio.sleep(0)


def test_a_future_is_done_after_the_commit() -> None:
    """Not before all inserts of its batch returned: points, statistics, attributes, and the writers last."""
    engine = ScriptedEngine()
    engine.may_insert.clear()

    async def test(committer: Committer) -> None:
        news = WriterNews(WRITER, [wire.attributes(config__a="1")], {}, wire.START_US)
        done = await committer.submit(blocks(), news)
        await until(lambda: engine.in_insert == 1)
        assert not done.done()
        engine.may_insert.set()
        await done
        assert [table for table, _ in engine.inserts] == ["points", "series_stats_feed", "attributes", "writers"]

    committing(engine, test)


def test_batches_are_committed_together() -> None:
    """Those that wait at the same time: one insert for all of them."""
    engine = ScriptedEngine()

    async def test(committer: Committer) -> None:
        await asyncio.gather(*[await committer.submit(blocks(10), NEWS) for _ in range(50)])
        assert [(table, rows.num_rows) for table, rows in engine.inserts if table == "points"] == [("points", 500)]

    committing(engine, test)


def test_a_batch_without_points_inserts_none() -> None:
    """A sign of life is one row of `writers`; so is a batch of which all was refused."""
    engine = ScriptedEngine()

    async def test(committer: Committer) -> None:
        await (await committer.submit([], NEWS))
        await (await committer.submit(large(), NEWS))
        assert {table for table, _ in engine.inserts} == {"writers"}

    committing(engine, test)


@pytest.mark.parametrize("table", ["points", "series_stats_feed", "writers"])
@pytest.mark.parametrize("error", [EngineBusyError("no room"), ValueError("a defect")])
def test_a_failed_commit_fails_its_group_and_nobody_else(table: str, error: Exception) -> None:
    """All futures of the group have the error; the next group is committed."""
    engine = ScriptedEngine(failures={table: [error]})

    async def test(committer: Committer) -> None:
        group = [await committer.submit(blocks(), NEWS) for _ in range(3)]
        assert await asyncio.gather(*group, return_exceptions=True) == [error] * 3
        await (await committer.submit(blocks(), NEWS))

    committing(engine, test)


def test_points_whose_host_went_away_are_inserted_again() -> None:
    """Nobody knows whether they are there: first the statistics say so, once, then come the points."""
    gone = [EngineBusyError("gone", 210), EngineBusyError("read only", 242)]
    engine = ScriptedEngine(failures={"points": list(gone)})

    async def test(committer: Committer) -> None:
        await (await committer.submit(blocks(), NEWS))
        assert [table for table, _ in engine.inserts] == ["series_stats_feed", "points", "writers"]
        assert engine.inserts[0][1]["flags"].to_pylist() == [series_flags.HAS_NUMBER | series_flags.RESENT]

    committing(engine, test)


def test_points_that_no_host_takes() -> None:
    """The commit fails after some tries; so does one whose database is out of room, at once."""
    gone = [EngineBusyError(f"gone {number}", 210) for number in range(limits.COMMIT_TRIES)]
    full = EngineBusyError("too many parts", 252)
    engine = ScriptedEngine(failures={"points": [*gone, full]})

    async def test(committer: Committer) -> None:
        for error in (gone[-1], full):
            done = await committer.submit(blocks(), NEWS)
            (told,) = await asyncio.gather(done, return_exceptions=True)
            assert told is error
        assert [table for table, _ in engine.inserts] == ["series_stats_feed"]

    committing(engine, test)


def test_a_stream_that_is_gone_fails_nobody() -> None:
    """A future that was given up is skipped; its points are committed, those of the others too."""
    engine = ScriptedEngine()

    async def test(committer: Committer) -> None:
        gone, stays = [await committer.submit(blocks(), NEWS) for _ in range(2)]
        gone.cancel()
        await stays
        assert [rows.num_rows for table, rows in engine.inserts if table == "points"] == [2]

    committing(engine, test)


def test_what_waits_is_bounded() -> None:
    """Past the bound `submit` waits until something is committed, and takes the batches in their order."""
    engine = ScriptedEngine()
    engine.may_insert.clear()

    async def test(committer: Committer) -> None:
        order: list[int] = []

        async def submit(number: int, some: list[FrameBlock]) -> None:
            await committer.submit(some, NEWS)
            order.append(number)

        tasks = [asyncio.create_task(submit(number, large())) for number in range(5)]
        tasks.append(asyncio.create_task(submit(5, blocks())))  # small: it would fit, but it comes later
        await until(lambda: engine.in_insert > 0)
        assert order == [0, 1, 2]
        engine.may_insert.set()
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3, 4, 5]

    committing(engine, test)


def test_attributes_count_for_the_bound() -> None:
    """Not points alone take memory."""
    engine = ScriptedEngine()
    engine.may_insert.clear()
    text = '"' + "x" * (8 << 20) + '"'
    news = WriterNews(WRITER, [wire.attributes(config__a=text)] * 8, {}, wire.START_US)

    async def test(committer: Committer) -> None:
        for _ in range(3):
            await committer.submit([], news)
        fourth = asyncio.create_task(committer.submit([], news))
        await until(lambda: engine.in_insert > 0)
        assert not fourth.done()
        fourth.cancel()

    committing(engine, test)


def test_a_batch_above_the_bound_is_taken_alone() -> None:
    """It waits for an empty buffer, not for ever."""
    engine = ScriptedEngine()

    async def test(committer: Committer) -> None:
        await (await committer.submit(large() * 5, NEWS))
        await (await committer.submit(blocks(), NEWS))

    committing(engine, test)


def test_close_commits_what_was_submitted() -> None:
    """Nothing that was taken in is forgotten."""
    engine = ScriptedEngine()

    async def run() -> list[bool]:
        committer = Committer(engine)
        futures = [await committer.submit(blocks(), NEWS) for _ in range(5)]
        await committer.close()
        return [future.done() for future in futures]

    assert asyncio.run(run()) == [True] * 5
    assert sum(rows.num_rows for table, rows in engine.inserts if table == "points") == 5


def test_the_order_of_one_writer_is_kept_in_a_group() -> None:
    """Of attributes set in the same microsecond the later one is the later row."""
    engine = ScriptedEngine()

    async def test(committer: Committer) -> None:
        events = [wire.attributes(config__a=str(number)) for number in range(100)]
        news = [WriterNews(WRITER, [event], {}, wire.START_US) for event in events]
        await asyncio.gather(*[await committer.submit([], one) for one in news])
        rows = [text for table, rows in engine.inserts if table == "attributes" for text in rows["json"].to_pylist()]
        assert rows == [str(number) for number in range(100)]

    committing(engine, test)
