"""What the rest of the server may ask of a database.

Guarantees of every engine:
 * all methods may be called from any thread, several at a time;
 * `insert` is atomic for one table: after it returns, its rows survive `kill -9` of this process; if it
   raises, the rows may or may not be there, so it must be safe to insert them again;
 * parameters are bound, never pasted into SQL: `{name:Type}` in the text, a Python value in `parameters`;
 * errors are EngineError, EngineBusyError where trying again makes sense.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

Scalar = str | int | float | bool
Parameters = Mapping[str, Scalar | Sequence[str] | Sequence[int] | Sequence[float]]
NO_PARAMETERS: Parameters = {}


class Engine(Protocol):
    """A ClickHouse database."""

    def insert(self, table: str, rows: pa.Table) -> None:
        """Appends rows. Column names and types are those of the table, DateTime64(6) as timestamp[us, UTC]."""

    def query(self, sql: str, parameters: Parameters = NO_PARAMETERS, timeout_s: float | None = None) -> pa.Table:
        """The whole answer. Strings come as utf8, DateTime64 as timestamp."""

    def stream(self, sql: str, parameters: Parameters = NO_PARAMETERS) -> Iterator[pa.RecordBatch]:
        """The answer in batches, in bounded memory. The caller exhausts or closes the iterator."""

    def execute(self, sql: str) -> None:
        """Runs a statement without an answer, such as DDL."""

    def describe(self) -> str:
        """One line for people: what and where."""

    def close(self) -> None:
        """Lets go of everything. No call may be under way, none may follow."""
