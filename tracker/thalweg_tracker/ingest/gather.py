"""Calls that come while one is under way are made as one: a thousand ranks that begin at once cost a few queries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Gather(Generic[Item, Result]):
    """Calls a function of many items, in a thread, one call at a time. Lives on one event loop."""

    def __init__(self, call: Callable[[Sequence[Item]], Sequence[Result | Exception]], at_once: int) -> None:
        """`call`: a result, or an error, for each item in order; what it raises is the error of all."""
        self._call = call
        self._at_once = at_once
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """The result for an item, asked for together with those that others ask for meanwhile."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting[: self._at_once], self._waiting[self._at_once :]
            results: Sequence[Result | Exception]
            try:
                results = await asyncio.to_thread(self._call, [item for item, _ in some])
            except Exception as error:  # noqa: BLE001  # each caller has it raised
                results = [error] * len(some)
            for (_, future), result in zip(some, results, strict=True):
                if future.done():  # its caller was cancelled
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
