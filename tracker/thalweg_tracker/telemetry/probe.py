"""Asks the engine how it is, in a thread of its own: one that hangs holds nobody up for longer than PROBE_WITHIN_S."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLateError
from typing import Any, Final

from thalweg_tracker.errors import TrackerError

PROBE_WITHIN_S: Final = 2.0
Rows = Sequence[Mapping[str, Any]]
Ask = Callable[[str], Rows]


class ProbeError(Exception):
    """There was no answer, or none in time. The message names no host and no part of a query."""


class Probe:
    """One question at a time; may be asked from any thread."""

    def __init__(self, ask: Ask, within_s: float = PROBE_WITHIN_S) -> None:
        """`ask`: the rows of an answer to some SQL. It is called in one thread, and should end by itself."""
        self._ask = ask
        self._within_s = within_s
        self._thread = ThreadPoolExecutor(1, "probe")

    def rows(self, sql: str) -> Rows:
        """The rows of the answer. Raises ProbeError."""
        try:
            asked = self._thread.submit(self._ask, sql)
        except RuntimeError as error:  # it is closed
            raise ProbeError("the server is stopping") from error
        try:
            return asked.result(self._within_s)
        except TooLateError as error:
            asked.cancel()  # if it waits behind another that hangs: the queue does not grow
            raise ProbeError(f"the database did not answer within {self._within_s:g} s") from error
        except TrackerError as error:
            raise ProbeError("the database answered with an error; the server's log says which") from error

    def close(self) -> None:
        """Waits for a question that is under way, and takes no more."""
        self._thread.shutdown(cancel_futures=True)
