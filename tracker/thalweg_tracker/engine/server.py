"""ClickHouse servers over the native protocol, through clickhouse-driver.

A pool of connections, one user each at a time; a stream has its own. Hosts hold the same data: the driver
checks a connection before each use and opens it again, on the first host that answers, where it is gone. So
what can fail is the call during which a host goes away: a read is run once more, an insert is not, as its
caller knows whether that is safe.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

import pyarrow as pa
from clickhouse_driver import Client
from clickhouse_driver.errors import Error as DriverError

from thalweg_tracker.engine.answers import nullable
from thalweg_tracker.engine.contract import NO_PARAMETERS, Key, Lookup, Parameters, Rows
from thalweg_tracker.engine.failures import NETWORK_ERROR, SOCKET_TIMEOUT, engine_error
from thalweg_tracker.engine.literals import between_quotes, parameter_texts, query_settings, quote_identifier
from thalweg_tracker.engine.lookups import look_up
from thalweg_tracker.errors import EngineBusyError
from thalweg_tracker.model.settings import ServerStore

T = TypeVar("T")

POOL_SIZE: Final = 16
POOL_WAIT_S: Final = 60
CONNECT_TIMEOUT_S: Final = 5
ANSWER_TIMEOUT_S: Final = 300
_SETTINGS: Final = {"use_numpy": True, "server_side_params": True}


class ServerEngine:
    """ClickHouse servers."""

    def __init__(self, store: ServerStore) -> None:
        """Connects once, to fail early, and makes the database. Raises EngineBusyError, EngineError, RejectedError."""
        # They say for each block of each array that Python objects are made of it, and for each host that cannot be
        # reached how that came about; what a call raises says enough.
        for talkative in ("columns.service", "connection"):
            logging.getLogger(f"clickhouse_driver.{talkative}").setLevel(logging.ERROR)
        self._store = store
        database = quote_identifier(store.database)
        with _disconnected(self._client("default")) as client, _engine_errors():
            client.execute(f"CREATE DATABASE IF NOT EXISTS {database}")
        self._idle: queue.LifoQueue[Client] = queue.LifoQueue()
        for _ in range(POOL_SIZE):
            self._idle.put(self._client(store.database))

    def _client(self, database: str) -> Client:
        """A client that connects when used."""
        (host, port), *others = self._store.hosts
        return Client(
            host,
            port,
            database=database,
            user=self._store.user,
            password=self._store.password,
            connect_timeout=CONNECT_TIMEOUT_S,
            send_receive_timeout=ANSWER_TIMEOUT_S,
            alt_hosts=",".join(f"{name}:{number}" for name, number in others),
            settings=_SETTINGS,
            client_name="thalweg",
        )

    def _run(self, action: Callable[[Client], T]) -> T:
        """Runs it with a client of the pool. After any error, that client begins with a new connection."""
        try:
            client = self._idle.get(timeout=POOL_WAIT_S)
        except queue.Empty:
            raise EngineBusyError(f"all {POOL_SIZE} connections were in use for {POOL_WAIT_S} s") from None
        try:
            with _engine_errors():
                return action(client)
        except BaseException:
            client.disconnect()
            raise
        finally:
            self._idle.put(client)

    def insert(self, table: str, rows: pa.Table) -> None:
        """See contract."""
        columns = ", ".join(quote_identifier(name) for name in rows.schema.names)
        statement = f"INSERT INTO {quote_identifier(table)} ({columns}) VALUES"
        # The driver's NumPy columns do numbers only, and those without a loop in Python.
        use_numpy = all(_is_number(kind) for kind in rows.schema.types)
        data = [_driver_column(column, use_numpy) for column in rows.columns]
        # One block is atomic; and nothing looks for copies in it, which merges remove and readers expect.
        settings = {"use_numpy": use_numpy, "insert_block_size": max(rows.num_rows, 1), "optimize_on_insert": 0}
        self._run(lambda client: client.execute(statement, data, columnar=True, settings=settings))

    def query(
        self,
        sql: str,
        parameters: Parameters = NO_PARAMETERS,
        timeout_s: float | None = None,
        max_rows_to_read: int | None = None,
    ) -> pa.Table:
        """See contract."""
        settings = query_settings(timeout_s, max_rows_to_read)
        params = _bound(parameters)

        def read(client: Client) -> pa.Table:
            return nullable(client.query_arrow(sql, params, settings=settings, field_metadata=False))

        try:
            return self._run(read)
        except EngineBusyError as error:
            if error.code != NETWORK_ERROR:
                raise
        return self._run(read)

    def stream(
        self,
        sql: str,
        parameters: Parameters = NO_PARAMETERS,
        timeout_s: float | None = None,
        max_rows_to_read: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """See contract. Uses a connection of its own."""
        settings = query_settings(timeout_s, max_rows_to_read, is_streamed=True)
        params = _bound(parameters)
        with _disconnected(self._client(self._store.database)) as client, _engine_errors():
            batches = client.query_arrow_stream(sql, params, settings=settings, field_metadata=False)
            yield from map(nullable, batches)

    def look_up(
        self, lookup: Lookup, project: str, keys: Sequence[Key], timeout_s: float | None = None
    ) -> Mapping[Key, Rows]:
        """See contract. Remembers nothing: other processes insert too."""
        return look_up(partial(self.query, timeout_s=timeout_s), lookup, project, keys)

    def execute(self, sql: str) -> None:
        """See contract."""
        self._run(lambda client: client.execute(sql))

    def describe(self) -> str:
        """See contract."""
        return f"ClickHouse at {self._store}"

    def close(self) -> None:
        """See contract."""
        while not self._idle.empty():
            self._idle.get().disconnect()


@contextmanager
def _disconnected(client: Client) -> Iterator[Client]:
    try:
        yield client
    finally:
        client.disconnect()


@contextmanager
def _engine_errors() -> Iterator[None]:
    """The driver raises errors of its own, and those of sockets and of Arrow as they come."""
    try:
        yield
    except DriverError as error:
        message = str(error.message).partition(". Stack trace:")[0]
        raise engine_error(error.code or 0, f"Code: {error.code}. {message}") from error
    except TimeoutError as error:
        raise engine_error(SOCKET_TIMEOUT, f"ClickHouse did not answer in time: {error}") from error
    except (OSError, EOFError) as error:
        raise engine_error(NETWORK_ERROR, f"the connection to ClickHouse broke: {error}") from error
    except pa.ArrowException as error:
        raise engine_error(0, f"cannot read ClickHouse's answer: {error}") from error


class _Quoted:
    """A parameter that the driver puts between quotes as it is; a `str` it would escape as a client's value."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


def _bound(parameters: Parameters) -> dict[str, _Quoted]:
    return {name: _Quoted(between_quotes(text)) for name, text in parameter_texts(parameters).items()}


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_timestamp(kind))


def _driver_column(column: pa.ChunkedArray, use_numpy: bool) -> Any:
    """A NumPy array or a list. Times as their integers, which the driver sends as they are."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if use_numpy:
        return column.to_numpy()
    values = column.to_pylist()
    return [dict(pairs) for pairs in values] if pa.types.is_map(column.type) else values
