"""ClickHouse servers over the native protocol, through clickhouse-driver.

A pool of connections, one user each at a time. Hosts hold the same data: a connection that breaks is
opened again on the next host. Reads are tried again once on another host; inserts are not, the caller
knows whether that is safe.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
from clickhouse_driver import Client
from clickhouse_driver.errors import Error as DriverError
from clickhouse_driver.errors import NetworkError, ServerException

from thalweg_tracker.engine.contract import NO_PARAMETERS, Parameters
from thalweg_tracker.engine.literals import quote_identifier
from thalweg_tracker.errors import EngineBusyError, EngineError
from thalweg_tracker.model.settings import ServerStore

T = TypeVar("T")

POOL_SIZE: Final = 16
CONNECT_TIMEOUT_S: Final = 5
ANSWER_TIMEOUT_S: Final = 300
_BUSY_CODES: Final = frozenset({159, 202, 209, 210, 241, 243, 252, 425})
_SETTINGS: Final = {"use_numpy": True, "server_side_params": True}


class ServerEngine:
    """ClickHouse servers."""

    def __init__(self, store: ServerStore) -> None:
        """Connects once, to fail early, and makes the database. Raises EngineBusyError, EngineError."""
        self._store = store
        self._host = 0
        self._idle: queue.LifoQueue[Client | None] = queue.LifoQueue()
        for _ in range(POOL_SIZE):
            self._idle.put(None)
        bootstrap = self._call(lambda: self._connect("default"))
        self._call(lambda: bootstrap.execute(f"CREATE DATABASE IF NOT EXISTS {quote_identifier(store.database)}"))
        bootstrap.disconnect()

    def _connect(self, database: str) -> Client:
        """A client whose first host is the one that worked last; the driver tries the others in turn."""
        hosts = self._store.hosts[self._host :] + self._store.hosts[: self._host]
        (host, port), others = hosts[0], hosts[1:]
        return Client(
            host,
            port,
            database=database,
            user=self._store.user,
            password=self._store.password,
            connect_timeout=CONNECT_TIMEOUT_S,
            send_receive_timeout=ANSWER_TIMEOUT_S,
            alt_hosts=",".join(f"{name}:{number}" for name, number in others) or None,
            settings=dict(_SETTINGS),
            client_name="thalweg",
        )

    @contextmanager
    def _client(self) -> Iterator[Client]:
        """A client of the pool, for one user. It is not given back after an error that leaves it in doubt."""
        client = self._idle.get()
        try:
            client = client or self._connect(self._store.database)
            yield client
        except ServerException:
            self._idle.put(client)
            raise
        except BaseException:
            if client is not None:
                client.disconnect()
            self._idle.put(None)
            raise
        else:
            self._idle.put(client)

    def _call(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except (DriverError, OSError, EOFError) as error:
            raise _as_engine_error(error) from error

    def _read(self, action: Callable[[Client], T]) -> T:
        """Runs a read; once more on the next host if the network failed."""

        def run() -> T:
            with self._client() as client:
                return action(client)

        try:
            return run()
        except (NetworkError, EOFError, OSError):
            self._host = (self._host + 1) % len(self._store.hosts)
            return self._call(run)
        except DriverError as error:
            raise _as_engine_error(error) from error

    def insert(self, table: str, rows: pa.Table) -> None:
        """See contract."""
        columns = ", ".join(quote_identifier(name) for name in rows.schema.names)
        statement = f"INSERT INTO {quote_identifier(table)} ({columns}) VALUES"
        data = [_as_numpy(column) for column in rows.columns]

        def run() -> None:
            with self._client() as client:
                client.execute(statement, data, columnar=True)

        self._call(run)

    def query(self, sql: str, parameters: Parameters = NO_PARAMETERS, timeout_s: float | None = None) -> pa.Table:
        """See contract."""
        settings = {} if timeout_s is None else {"max_execution_time": timeout_s}
        return self._read(lambda client: client.query_arrow(sql, params=_plain(parameters), settings=settings))

    def stream(self, sql: str, parameters: Parameters = NO_PARAMETERS) -> Iterator[pa.RecordBatch]:
        """See contract."""
        client = self._call(lambda: self._connect(self._store.database))
        try:
            with self._call(lambda: client.query_arrow_stream(sql, params=_plain(parameters))) as reader:
                yield from reader
        except (DriverError, OSError, EOFError, pa.ArrowException) as error:
            raise _as_engine_error(error) from error
        finally:
            client.disconnect()

    def execute(self, sql: str) -> None:
        """See contract."""

        def run() -> None:
            with self._client() as client:
                client.execute(sql)

        self._call(run)

    def describe(self) -> str:
        """See contract."""
        return f"ClickHouse at {self._store}"

    def close(self) -> None:
        """See contract."""
        while not self._idle.empty():
            client = self._idle.get()
            if client is not None:
                client.disconnect()


def _as_engine_error(error: Exception) -> EngineError:
    code = int(getattr(error, "code", 0) or 0)
    busy = isinstance(error, (OSError, EOFError, NetworkError)) or code in _BUSY_CODES
    return (EngineBusyError if busy else EngineError)(str(error), code)


def _plain(parameters: Parameters) -> dict[str, Any]:
    """Parameters as the driver wants them: lists, no other sequences."""
    return {name: list(value) if isinstance(value, (list, tuple)) else value for name, value in parameters.items()}


def _as_numpy(column: pa.ChunkedArray) -> Any:
    """A column as the driver's NumPy writers want it."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64()).to_numpy().astype("datetime64[us]")
    if pa.types.is_map(column.type):
        return np.array([dict(pairs) for pairs in column.to_pylist()] + [None], dtype=object)[:-1]
    if pa.types.is_string(column.type):
        return np.array(column.to_pylist(), dtype=object)
    return column.to_numpy()
