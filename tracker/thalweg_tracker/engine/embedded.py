"""The embedded engine: chDB, the ClickHouse engine in this process. A folder is the database.

One process owns the folder (`owner.json`, locked). chDB allows one engine path per process, and a query
on a connection that has an open stream returns nothing, silently: so one connection a thread, and a
connection of its own for each stream.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import chdb
import pyarrow as pa

from thalweg_tracker.engine.contract import NO_PARAMETERS, Parameters
from thalweg_tracker.engine.literals import parameter_texts, quote_identifier
from thalweg_tracker.errors import EngineBusyError, EngineError, EngineOwnedError

OWNER_FILE: Final = "owner.json"
DATABASE: Final = "thalweg"
_CODE: Final = re.compile(r"Code: (\d+)\.")
# CANNOT_WRITE_TO_FILE_DESCRIPTOR, TIMEOUT_EXCEEDED, SOCKET_TIMEOUT, MEMORY_LIMIT_EXCEEDED, NOT_ENOUGH_SPACE,
# TOO_MANY_PARTS
_STREAM_ROWS: Final = 65_536
_BUSY_CODES: Final = frozenset({75, 159, 209, 241, 243, 252})


class EmbeddedEngine:
    """chDB on a folder."""

    def __init__(self, data_dir: Path) -> None:
        """Opens or makes the database. Raises EngineOwnedError, which names the owner; EngineError."""
        self._data_dir = data_dir
        try:
            data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._owner = _take_ownership(data_dir)
        except OSError as error:
            raise EngineError(f"cannot open the data folder {data_dir}: {error.strerror}") from error
        self._local = threading.local()
        self._connections: list[Any] = []
        self._lock = threading.Lock()
        connection = self._open_connection()
        connection.query(f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Atomic")
        connection.close()

    def _open_connection(self) -> Any:
        try:
            return chdb.connect(str(self._data_dir / "clickhouse"))
        except RuntimeError as error:
            raise _as_engine_error(error) from error

    def _connect(self) -> Any:
        connection = self._open_connection()
        connection.query(f"USE {DATABASE}")
        return connection

    @property
    def _connection(self) -> Any:
        """This thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            with self._lock:
                self._connections.append(connection)
        return connection

    def insert(self, table: str, rows: pa.Table) -> None:
        """See contract. chDB's `Python()` reads the Arrow table `rows` of this frame in place.

        Not `send_insert`: that reports success when the table refuses the rows (a full disk, a constraint).
        """
        columns = ", ".join(quote_identifier(name) for name in rows.schema.names)
        statement = f"INSERT INTO {quote_identifier(table)} ({columns}) SELECT {columns} FROM Python(rows)"  # noqa: S608
        try:
            self._connection.query(f"{statement} SETTINGS max_threads = 1")  # keeps the order of the rows
        except RuntimeError as error:
            raise _as_engine_error(error) from error

    def query(self, sql: str, parameters: Parameters = NO_PARAMETERS, timeout_s: float | None = None) -> pa.Table:
        """See contract."""
        texts = parameter_texts(parameters)
        if timeout_s is not None:
            sql = f"{sql}\nSETTINGS max_execution_time = {float(timeout_s)}"
        try:
            answer = self._connection.query(sql, "ArrowStream", params=texts).bytes()
        except RuntimeError as error:
            raise _as_engine_error(error) from error
        if not answer:
            raise EngineError(f"the engine gave no answer to: {sql[:200]}")
        with pa.ipc.open_stream(answer) as reader:
            return reader.read_all()

    def stream(self, sql: str, parameters: Parameters = NO_PARAMETERS) -> Iterator[pa.RecordBatch]:
        """See contract. Uses a connection of its own."""
        connection = self._connect()
        try:
            answer = connection.send_query(sql, "Arrow", params=parameter_texts(parameters))
            yield from answer.record_batch(rows_per_batch=_STREAM_ROWS)
        except RuntimeError as error:
            raise _as_engine_error(error) from error
        finally:
            connection.close()

    def execute(self, sql: str) -> None:
        """See contract."""
        try:
            self._connection.query(sql)
        except RuntimeError as error:
            raise _as_engine_error(error) from error

    def describe(self) -> str:
        """See contract."""
        return f"embedded engine, data in {self._data_dir}"

    def announce(self, **facts: object) -> None:
        """Adds facts, such as the addresses served, to what a second opener is told."""
        _write_owner(self._owner, facts)

    def close(self) -> None:
        """See contract."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        os.close(self._owner)


def _take_ownership(data_dir: Path) -> int:
    """The descriptor of the locked owner file. Raises EngineOwnedError."""
    path = data_dir / OWNER_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = _read_owner(descriptor)
        os.close(descriptor)
        raise EngineOwnedError(
            f"cannot open the data folder {data_dir}: process {owner.get('pid', '?')} on "
            f"{owner.get('host', '?')} has it since {owner.get('since', '?')}"
            + (f" and serves {owner['http']}" if owner.get("http") else "")
            + ". Stop that process first, or choose another folder with --data."
        ) from None
    _write_owner(descriptor, {})
    return descriptor


def _read_owner(descriptor: int) -> dict[str, Any]:
    try:
        document = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _write_owner(descriptor: int, facts: dict[str, object]) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    document = {"since": since, **_read_owner(descriptor), "pid": os.getpid(), "host": socket.gethostname()}
    if not facts:
        document = {"since": since, "pid": os.getpid(), "host": socket.gethostname()}
    text = json.dumps({**document, **facts}, default=str).encode()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text, 0)


def _as_engine_error(error: BaseException) -> EngineError:
    text = str(error)
    found = _CODE.search(text)
    code = int(found.group(1)) if found else 0
    kind = EngineBusyError if code in _BUSY_CODES else EngineError
    return kind(text, code)
