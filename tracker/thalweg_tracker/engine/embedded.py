"""The embedded engine: chDB, the ClickHouse engine in this process. A folder is the database.

One process owns the folder (`owner.json`, locked), and has one folder open at a time: chDB's engine starts
with the first connection and ends with the last one, so one stays open, unused, until `close`.

A call takes a connection of the pool for itself. Two facts of chDB 4.4 make wrong answers otherwise: a query
on a connection with an open stream returns nothing, so a stream has its own; and after a query that failed on
its way, the next answer begins with what that one had written, so its connection is closed.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import chdb
import pyarrow as pa

from thalweg_tracker.engine.answers import nullable
from thalweg_tracker.engine.contract import NO_PARAMETERS, Key, Lookup, Parameters, Rows
from thalweg_tracker.engine.failures import engine_error
from thalweg_tracker.engine.literals import parameter_texts, query_settings, quote_identifier, rows_as_json
from thalweg_tracker.engine.lookups import Memory
from thalweg_tracker.errors import EngineError, EngineOwnedError

OWNER_FILE: Final = "owner.json"
DATABASE: Final = "thalweg"
_INLINE_MAX_BYTES: Final = 2 << 10
"""Inserts up to this size are written as text: `Python()` costs 2 to 6 ms, by the number of columns (0002)."""
_CODE: Final = re.compile(r"Code: (\d+)\.")
_MERGES_NICENESS: Final = 5
"""Merges can wait and points cannot: under load a thread of theirs gets a third of what others get (0014)."""


class EmbeddedEngine:
    """chDB on a folder."""

    def __init__(self, data_dir: Path) -> None:
        """Opens or makes the database. Raises EngineOwnedError, which names the owner; EngineError."""
        self._data_dir = data_dir
        if "?" in str(data_dir):
            raise EngineError(f"cannot use the data folder {data_dir}: chDB takes no path with a question mark")
        self._path = f"{data_dir}/clickhouse?os_threads_nice_value_merge_mutate={_MERGES_NICENESS}"
        self._idle: deque[Any] = deque()  # as many connections as there ever were calls at once
        self._memory = Memory()
        self._owner = _take_ownership(data_dir)
        try:
            with _engine_errors():
                self._first_connection = self._connect()
        except EngineError:
            os.close(self._owner)
            raise

    def _connect(self) -> Any:
        connection: Any = chdb.connect(self._path)  # type: ignore[no-untyped-call]  # chdb has no types
        connection.query(f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Atomic")
        connection.query(f"USE {DATABASE}")
        # Answers stay in this process; and inserts need not look for copies, which merges remove and readers expect.
        connection.query("SET output_format_arrow_compression_method = 'none', optimize_on_insert = 0")
        return connection

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        """A connection for one call."""
        with _engine_errors():
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._idle.append(connection)

    def insert(self, table: str, rows: pa.Table) -> None:
        """See contract. chDB's `Python()` reads the Arrow table `rows` of this frame in place.

        Not `send_insert`: that reports success when the table refuses the rows (a full disk, a constraint).
        """
        columns = ", ".join(quote_identifier(name) for name in rows.schema.names)
        if 0 < rows.nbytes <= _INLINE_MAX_BYTES:
            data = f"FORMAT JSONEachRow {rows_as_json(rows)}"
        else:
            data = f"SELECT {columns} FROM Python(rows) SETTINGS max_threads = 1"  # noqa: S608  # keeps their order
        try:
            with self._connection() as connection:
                connection.query(f"INSERT INTO {quote_identifier(table)} ({columns}) {data}")
        finally:
            self._memory.inserted(table, rows)

    def query(
        self,
        sql: str,
        parameters: Parameters = NO_PARAMETERS,
        timeout_s: float | None = None,
        max_rows_to_read: int | None = None,
    ) -> pa.Table:
        """See contract."""
        sql += _settings(timeout_s, max_rows_to_read)
        with self._connection() as connection:
            answer = connection.query(sql, "ArrowStream", params=parameter_texts(parameters)).bytes()
        if not answer:
            raise EngineError(f"cannot read the answer, there is none, to: {sql[:200]}")
        with pa.ipc.open_stream(answer) as reader:
            return nullable(reader.read_all())

    def stream(
        self,
        sql: str,
        parameters: Parameters = NO_PARAMETERS,
        timeout_s: float | None = None,
        max_rows_to_read: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """See contract. Uses a connection of its own."""
        sql += _settings(timeout_s, max_rows_to_read, is_streamed=True)
        with _engine_errors():
            connection = self._connect()
            try:
                with connection.send_query(sql, "Arrow", params=parameter_texts(parameters)) as chunks:
                    for chunk in chunks:
                        yield from map(nullable, _batches(chunk.bytes()))
            finally:
                connection.close()

    def look_up(
        self, lookup: Lookup, project: str, keys: Sequence[Key], timeout_s: float | None = None
    ) -> Mapping[Key, Rows]:
        """See contract. Remembers: nobody else can insert into the folder."""
        return self._memory.look_up(partial(self.query, timeout_s=timeout_s), lookup, project, keys)

    def execute(self, sql: str) -> None:
        """See contract."""
        with self._connection() as connection:
            connection.query(sql)
        self._memory.forget()

    def describe(self) -> str:
        """See contract."""
        return f"embedded engine, data in {self._data_dir}"

    def announce(self, **facts: object) -> None:
        """Adds facts, such as the addresses served, to what a second opener is told."""
        _write_owner(self._owner, {**_read_owner(self._owner), **facts})

    def close(self) -> None:
        """See contract. Afterwards this process may open another folder."""
        for connection in (*self._idle, self._first_connection):
            connection.close()
        os.close(self._owner)


def _settings(timeout_s: float | None, max_rows_to_read: int | None, *, is_streamed: bool = False) -> str:
    """The clause of these limits; it stands on a line of its own, as the statement may end in a comment."""
    chosen = query_settings(timeout_s, max_rows_to_read, is_streamed=is_streamed)
    settings = [f"{name} = {value!r}" for name, value in chosen.items()]
    return f"\nSETTINGS {', '.join(settings)}" if settings else ""


def _batches(arrow_file: bytes) -> list[pa.RecordBatch]:
    with pa.ipc.open_file(arrow_file) as reader:
        return [reader.get_batch(number) for number in range(reader.num_record_batches)]


@contextmanager
def _engine_errors() -> Iterator[None]:
    """chDB raises RuntimeError, with ClickHouse's number in its text."""
    try:
        yield
    except RuntimeError as error:
        found = _CODE.search(str(error))
        raise engine_error(int(found[1]) if found else 0, str(error)) from error


def _take_ownership(data_dir: Path) -> int:
    """The descriptor of the locked owner file. Raises EngineOwnedError, EngineError."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(data_dir / OWNER_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = _read_owner(descriptor)
        os.close(descriptor)
        raise EngineOwnedError(
            f"cannot open the data folder {data_dir}: process {owner.get('pid', '?')} on "
            f"{owner.get('host', '?')} has it since {owner.get('since', '?')}"
            + (f" and serves {owner['http']}" if owner.get("http") else "")
            + ". Stop that process first, or choose another folder with --data.",
            http=owner.get("http"),
            instance=owner.get("instance"),
        ) from None
    except OSError as error:
        raise EngineError(f"cannot open the data folder {data_dir}: {error.strerror}") from error
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    _write_owner(descriptor, {"since": since, "pid": os.getpid(), "host": socket.gethostname()})
    return descriptor


def _read_owner(descriptor: int) -> dict[str, Any]:
    try:
        document = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _write_owner(descriptor: int, facts: dict[str, object]) -> None:
    text = json.dumps(facts, default=str).encode()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text, 0)
