"""An engine without a database: it keeps what is inserted, waits and fails when told, and answers what it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from thalweg_tracker.engine.contract import NO_PARAMETERS, Key, Lookup, Parameters, Rows
from thalweg_tracker.engine.lookups import look_up
from thalweg_tracker.errors import EngineError


@dataclass
class ScriptedEngine:
    """`failures`: raised by calls that name the table, once each. `error`: raised by every query and stream.

    `answers`: to queries in which a word stands; to all others `answer`.
    """

    inserts: list[tuple[str, pa.Table]] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    timeouts_s: list[float | None] = field(default_factory=list)
    failures: dict[str, list[Exception]] = field(default_factory=dict)
    error: EngineError | None = None
    answer: pa.Table | None = None
    answers: dict[str, pa.Table] = field(default_factory=dict)
    batches: list[pa.RecordBatch] = field(default_factory=list)
    fails_after_batches: EngineError | None = None
    may_insert: threading.Event = field(default_factory=threading.Event)
    in_insert: int = 0

    def __post_init__(self) -> None:
        self.may_insert.set()
        self._lock = threading.Lock()

    def insert(self, table: str, rows: pa.Table) -> None:
        """Keeps the rows, when it may."""
        with self._lock:
            self.in_insert += 1
        assert self.may_insert.wait(60)
        with self._lock:
            self.in_insert -= 1
            waiting = self.failures.get(table)
            if waiting:
                raise waiting.pop(0)
            self.inserts.append((table, rows))

    def query(
        self,
        sql: str,
        parameters: Parameters = NO_PARAMETERS,
        timeout_s: float | None = None,
        max_rows_to_read: int | None = None,
    ) -> pa.Table:
        """The answer, or the error."""
        self.queries.append(sql)
        self.timeouts_s.append(timeout_s)
        if self.error is not None:
            raise self.error
        for word, table in self.answers.items():
            if word in sql:
                return table
        assert self.answer is not None
        return self.answer

    def stream(
        self,
        sql: str,
        parameters: Parameters = NO_PARAMETERS,
        timeout_s: float | None = None,
        max_rows_to_read: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The batches, then the error."""
        self.timeouts_s.append(timeout_s)
        yield from self.batches
        if self.fails_after_batches is not None:
            raise self.fails_after_batches

    def look_up(
        self, lookup: Lookup, project: str, keys: Sequence[Key], timeout_s: float | None = None
    ) -> Mapping[Key, Rows]:
        """What a query for it gives; nothing was deleted."""
        if lookup.table == "deletions":
            return dict.fromkeys(keys, ())
        return look_up(partial(self.query, timeout_s=timeout_s), lookup, project, keys)

    def execute(self, sql: str) -> None:
        """Nothing."""

    def describe(self) -> str:
        """What it is."""
        return "scripted"

    def close(self) -> None:
        """Nothing."""
