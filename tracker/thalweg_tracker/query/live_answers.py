"""One answer for all who ask the same: listeners of the same series read the same points at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from thalweg_tracker.engine.contract import Engine, Parameters
from thalweg_tracker.model import limits


@dataclass(slots=True)
class Answers:
    """Answers of one engine since the last `forget`. Any thread may ask."""

    engine: Engine
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _given: dict[tuple[str, str], Future[pa.Table]] = field(default_factory=dict)

    def forget(self) -> None:
        """From here on every question is asked anew: there may be news."""
        with self._lock:
            self._given = {}

    def query(self, sql: str, parameters: Parameters) -> pa.Table:
        """The whole answer, from whoever asked first. Raises EngineError."""
        key = (sql, repr(sorted(parameters.items())))
        with self._lock:
            answer = self._given.get(key)
            is_first = answer is None
            if answer is None:
                answer = self._given[key] = Future()
        if is_first:
            self._ask(answer, sql, parameters)
        return answer.result()

    def _ask(self, answer: Future[Any], sql: str, parameters: Parameters) -> None:
        try:
            answer.set_result(self.engine.query(sql, parameters, limits.LIVE_QUERY_TIMEOUT_S))
        except BaseException as error:  # noqa: BLE001  # whoever waits for it gets it, and this thread too
            answer.set_exception(error)
