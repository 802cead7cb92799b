"""What the rest of the server may ask of a database.

Guarantees of every engine:
 * all methods may be called from any thread, several at a time;
 * `insert` is atomic for one table, up to a million rows, but for a cluster of several shards: after it returns, its
   rows survive `kill -9` of this process; if it raises, all or some of the rows may be there, so it must be safe to
   insert them again. Where one of several hosts goes away meanwhile, reads are run again on another, and so are
   inserts, but for those into the tables TOLD_FIRST;
 * parameters are bound, never pasted into SQL: `{name:Type}` in the text, a Python value in `parameters`;
 * errors are EngineError, EngineBusyError where trying again makes sense.

SQL is one statement without the clauses SETTINGS and FORMAT. The types of an answer are alike on every engine
for these columns, and fields are nullable: numbers, Bool, String as utf8, DateTime64(6, 'UTC') as
timestamp[us, UTC], and Nullable, Array, Map and SimpleAggregateFunction of these. A query casts anything
else, tuples above all, to one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pyarrow as pa

Scalar = str | int | float | bool
Parameters = Mapping[str, Scalar | Sequence[str] | Sequence[int] | Sequence[float]]
NO_PARAMETERS: Parameters = {}
TOLD_FIRST: Final = frozenset({"points"})
"""Tables in which a row may not be twice before readers are told so (0003): who inserts does so, and inserts again."""
Key = str | int
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Lookup:
    """A query for rows of one table by keys within a project: nothing but rows inserted with a key changes its answer.

    `by`: the column of the keys, in the table and in the answer. `sql`: with the parameters {project:String} and
    {keys:Array(...)}.
    """

    table: str
    by: str
    sql: str


class Engine(Protocol):
    """A ClickHouse database."""

    def insert(self, table: str, rows: pa.Table) -> None:
        """Appends rows, without nulls. Column names and types are those of the table, times as timestamp[us, UTC]."""

    def query(
        self,
        sql: str,
        parameters: Parameters = NO_PARAMETERS,
        timeout_s: float | None = None,
        max_rows_to_read: int | None = None,
    ) -> pa.Table:
        """The whole answer. What goes past a limit is ended with an error that `failures` names.

        `timeout_s`: from begin to end, as `took_too_long`. `max_rows_to_read`: stored rows, of all tables together, as
        `read_too_much`; what lies in a granule that is read counts too.
        """

    def stream(
        self,
        sql: str,
        parameters: Parameters = NO_PARAMETERS,
        timeout_s: float | None = None,
        max_rows_to_read: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The answer in batches, none if it has no rows, in bounded memory. The caller exhausts or closes it.

        Limits as with `query`; the time that the caller takes between batches counts. Closing ends the query.
        """

    def look_up(
        self, lookup: Lookup, project: str, keys: Sequence[Key], timeout_s: float | None = None
    ) -> Mapping[Key, Rows]:
        """The rows of each key, in the order of the answer, which may be none. They are shared: not to be changed.

        An engine through which all rows are inserted remembers them until a row of their key is.
        """

    def execute(self, sql: str) -> None:
        """Runs a statement without an answer, such as DDL."""

    def describe(self) -> str:
        """One line for people: what and where."""

    def close(self) -> None:
        """Lets go of everything. No call or stream may be under way, none may follow."""
