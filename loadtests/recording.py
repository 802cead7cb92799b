"""An engine that remembers what it was asked, and when."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from thalweg_tracker.engine.contract import NO_PARAMETERS, Engine, Key, Lookup, Parameters, Rows


@dataclass(slots=True)
class Statement:
    """One statement, as it was asked."""

    engine: Engine
    sql: str
    parameters: Parameters
    limits: tuple[Any, ...]
    is_stream: bool
    began_s: float = field(default_factory=time.perf_counter)
    ended_s: float = math.inf

    def run(self) -> None:
        """Asks it again, and reads the whole answer."""
        if not self.is_stream:
            self.engine.query(self.sql, self.parameters, *self.limits)
            return
        for _ in self.engine.stream(self.sql, self.parameters, *self.limits):
            pass

    def briefly(self) -> str:
        """The parameters, in so far as they are short."""
        return ", ".join(
            f"{name}: {value!r}" if not isinstance(value, (list, tuple)) or len(value) < 4 else f"{name}: {len(value)}"
            for name, value in self.parameters.items()
        )


def ask_again(statements: list[Statement]) -> None:
    """Asks all in their order; those that were asked side by side, side by side."""
    ended_s = -math.inf
    waiting: list[threading.Thread] = []
    for statement in sorted(statements, key=lambda one: one.began_s):
        if statement.began_s > ended_s:
            for thread in waiting:
                thread.join()
            waiting = []
        ended_s = max(ended_s, statement.ended_s)
        waiting.append(threading.Thread(target=statement.run))
        waiting[-1].start()
    for thread in waiting:
        thread.join()


class Recorder:
    """Passes everything on to an engine; `asked` are its statements with an answer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.asked: list[Statement] = []

    @contextmanager
    def _asked(self, statement: Statement) -> Iterator[None]:
        self.asked.append(statement)
        try:
            yield
        finally:
            statement.ended_s = time.perf_counter()

    def insert(self, table: str, rows: pa.Table) -> None:
        """See contract."""
        self._engine.insert(table, rows)

    def query(
        self,
        sql: str,
        parameters: Parameters = NO_PARAMETERS,
        timeout_s: float | None = None,
        max_rows_to_read: int | None = None,
    ) -> pa.Table:
        """See contract."""
        with self._asked(Statement(self._engine, sql, parameters, (timeout_s, max_rows_to_read), False)):
            return self._engine.query(sql, parameters, timeout_s, max_rows_to_read)

    def stream(
        self,
        sql: str,
        parameters: Parameters = NO_PARAMETERS,
        timeout_s: float | None = None,
        max_rows_to_read: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """See contract."""
        with self._asked(Statement(self._engine, sql, parameters, (timeout_s, max_rows_to_read), True)):
            yield from self._engine.stream(sql, parameters, timeout_s, max_rows_to_read)

    def look_up(
        self, lookup: Lookup, project: str, keys: Sequence[Key], timeout_s: float | None = None
    ) -> Mapping[Key, Rows]:
        """See contract. Is not recorded: mostly it asks nothing."""
        return self._engine.look_up(lookup, project, keys, timeout_s)

    def execute(self, sql: str) -> None:
        """See contract."""
        self._engine.execute(sql)

    def describe(self) -> str:
        """See contract."""
        return self._engine.describe()

    def close(self) -> None:
        """See contract."""
        self._engine.close()
