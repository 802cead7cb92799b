"""Calls that come while one is under way are made as one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from thalweg_tracker.ingest.gather import Gather


class Doubling:
    """Doubles numbers when it may; of odd ones it makes errors."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.may_go_on = threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        """One call for all."""
        self.calls.append(list(numbers))
        assert self.may_go_on.wait(60)
        return [ValueError(str(number)) if number % 2 else 2 * number for number in numbers]


async def until_called(doubling: Doubling, times: int) -> None:
    while len(doubling.calls) < times:
        await asyncio.sleep(0)


def test_what_waits_goes_together() -> None:
    """The first at once, the others with the next calls, at most so many with one; each gets its own."""

    async def main() -> None:
        doubling = Doubling()
        gather: Gather[int, int] = Gather(doubling, at_once=3)
        first = asyncio.create_task(gather(0))
        await until_called(doubling, 1)
        others = [asyncio.create_task(gather(number)) for number in (2, 4, 5, 6, 8)]
        await asyncio.sleep(0)
        doubling.may_go_on.set()
        results = await asyncio.gather(first, *others, return_exceptions=True)
        assert [result for result in results if isinstance(result, int)] == [0, 4, 8, 12, 16]
        assert [str(result) for result in results if isinstance(result, Exception)] == ["5"]
        assert doubling.calls == [[0], [2, 4, 5], [6, 8]]
        assert await gather(10) == 20

    asyncio.run(main())


def test_a_failure_is_that_of_all_and_not_the_end() -> None:
    """Whoever waits for the call has its error; the next call is made."""

    async def main() -> None:
        fails = True

        def call(numbers: Sequence[int]) -> list[int]:
            if fails:
                raise OSError("the database is away")
            return list(numbers)

        gather: Gather[int, int] = Gather(call, at_once=10)
        results = await asyncio.gather(gather(1), gather(2), return_exceptions=True)
        assert [str(result) for result in results] == ["the database is away"] * 2
        fails = False
        assert await gather(3) == 3

    asyncio.run(main())


def test_one_that_goes_away_is_not_missed() -> None:
    """A caller that is cancelled leaves the others their results."""

    async def main() -> None:
        doubling = Doubling()
        gather: Gather[int, int] = Gather(doubling, at_once=10)
        first = asyncio.create_task(gather(0))
        await until_called(doubling, 1)
        gone, stays = asyncio.create_task(gather(2)), asyncio.create_task(gather(4))
        await asyncio.sleep(0)
        gone.cancel()
        doubling.may_go_on.set()
        assert await asyncio.gather(first, stays) == [0, 8]
        with pytest.raises(asyncio.CancelledError):
            await gone

    asyncio.run(main())
