"""ClickHouse servers over the native protocol, through clickhouse-driver.

A pool of connections, one user each at a time, used in turn; a stream has its own. They are spread over the hosts, and
checked before each use; where one is gone the next host that answers takes its place (`hosts`). So what can fail is the
call during which a host goes away: reads are run again on another host, and so are inserts, as a row that is there
twice is one row for whoever reads; but not those that readers must be told of first (contract.TOLD_FIRST).
"""

from __future__ import annotations

import itertools
import logging
import queue
import select
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

import pyarrow as pa
from clickhouse_driver import Client
from clickhouse_driver.errors import Error as DriverError
from clickhouse_driver.errors import NetworkError, SocketTimeoutError

from thalweg_tracker.engine.answers import nullable
from thalweg_tracker.engine.cluster import create_database, quorum_of, settings_of
from thalweg_tracker.engine.contract import NO_PARAMETERS, TOLD_FIRST, Key, Lookup, Parameters, Rows
from thalweg_tracker.engine.failures import (
    NETWORK_ERROR,
    SOCKET_TIMEOUT,
    UNKNOWN_DATABASE,
    engine_error,
    host_is_gone,
    is_of_the_host,
)
from thalweg_tracker.engine.hosts import Host, Hosts
from thalweg_tracker.engine.literals import between_quotes, parameter_texts, query_settings, quote_identifier
from thalweg_tracker.engine.lookups import look_up
from thalweg_tracker.errors import EngineBusyError, EngineError, SettingError
from thalweg_tracker.model.settings import Address, ServerStore

T = TypeVar("T")

POOL_SIZE: Final = 16
POOL_WAIT_S: Final = 60
CONNECT_TIMEOUT_S: Final = 5
ANSWER_TIMEOUT_S: Final = 300
SILENCE_MS: Final = 30_000
"""A host that acknowledges nothing for so long, not even that its machine is there, is gone."""
TRIES: Final = 3
"""A call that may be run again is run so often, if its hosts go away one after the other."""
_SETTINGS: Final[dict[str, Any]] = {"use_numpy": True, "server_side_params": True}
_HOSTS_OF_CLUSTER: Final = """SELECT shard_num, count() AS replicas, min(internal_replication) AS replicate_themselves
FROM system.clusters WHERE cluster = {cluster:String} GROUP BY shard_num"""
_IS_WRITABLE: Final = "SELECT throwIf(count() > 0) FROM system.replicas WHERE is_readonly"


class _NoHostError(EngineBusyError):
    """All hosts were tried: to try them again at once is of no use."""


class _Line:
    """A place for one connection. One user at a time."""

    def __init__(self, place: int, database: str) -> None:
        self.place = place
        self.database = database
        self.client: Client | None = None
        self.host: Host | None = None

    def disconnect(self) -> None:
        """The next use begins with a new connection."""
        if self.client is not None:
            self.client.disconnect()
        self.client = None


class ServerEngine:
    """ClickHouse servers."""

    def __init__(self, store: ServerStore, *, makes_database: bool = True) -> None:
        """Connects once, to fail early, and makes the database if there is none.

        Raises EngineBusyError, RejectedError, SettingError, EngineError: `has_no_database`, where it may not make it.
        """
        # They say for each block of each array that Python objects are made of it, and for each host that cannot be
        # reached how that came about; what a call raises says enough.
        for talkative in ("columns.service", "connection"):
            logging.getLogger(f"clickhouse_driver.{talkative}").setLevel(logging.ERROR)
        if store.ca is not None and not store.ca.is_file():
            raise SettingError("ca", str(store.ca), "a file with the certificates of authorities, in PEM")
        self._store = store
        self._settings = _SETTINGS
        self._hosts = Hosts(store.hosts, self._answers)
        quote_identifier(store.database)  # rejects
        self._idle: queue.Queue[_Line] = queue.Queue()
        self._idle.put(_Line(0, "default"))
        try:
            if store.cluster:
                self._settings = _SETTINGS | settings_of(self._quorum(store.cluster))
                self._idle.get().disconnect()
                self._idle.put(_Line(0, "default"))
            self._find_database(makes_database)
            self._idle.get().disconnect()
        except BaseException:
            self.close()
            raise
        self._places = itertools.count()
        for _ in range(POOL_SIZE):
            self._idle.put(_Line(next(self._places), store.database))

    def _quorum(self, cluster: str) -> int:
        """Replicas that an insert waits for. Raises EngineError where the cluster is not as it must be."""
        shards = self.query(_HOSTS_OF_CLUSTER, {"cluster": cluster}).to_pylist()
        if not shards:
            known = self.query("SELECT DISTINCT cluster FROM system.clusters ORDER BY cluster")["cluster"].to_pylist()
            raise EngineError(
                f"cannot use the cluster {cluster}: ClickHouse knows {', '.join(known) or 'none'}, not this one."
                " Name it in <remote_servers>."
            )
        replicas = min(shard["replicas"] for shard in shards)
        if replicas > 1 and not all(shard["replicate_themselves"] for shard in shards):
            raise EngineError(
                f"cannot use the cluster {cluster}: its shards need <internal_replication>true</internal_replication>,"
                " else each row would be written to each replica, and replicated from there too"
            )
        if self._store.quorum and self._store.quorum > replicas:
            raise SettingError("quorum", self._store.quorum, f"at most {replicas}, the replicas of a shard")
        return self._store.quorum or quorum_of(replicas)

    def _find_database(self, makes_database: bool) -> None:
        """Makes it only if it is not there: a statement for the whole cluster waits for all its hosts."""
        name = self._store.database
        if self.query("SELECT name FROM system.databases WHERE name = {name:String}", {"name": name}).num_rows:
            return
        if not makes_database:
            raise EngineError(f"there is no database {name} at {self._store}", UNKNOWN_DATABASE)
        self.execute(create_database(self._store))

    def _client(self, host: Host, database: str) -> Client:
        """A client that connects when used."""
        return Client(
            *host,
            database=database,
            user=self._store.user,
            password=self._store.password,
            secure=self._store.secure,
            verify=self._store.verify,
            ca_certs=str(self._store.ca) if self._store.ca else None,
            connect_timeout=CONNECT_TIMEOUT_S,
            send_receive_timeout=ANSWER_TIMEOUT_S,
            settings=self._settings,
            client_name="thalweg",
        )

    def _connected(self, line: _Line) -> Client:
        """A client on the host that comes first for this line. Raises _NoHostError."""
        hosts = self._hosts.order(line.place)
        if line.client is not None:
            if line.host == hosts[0] and not _is_gone(line.client):
                return line.client
            line.disconnect()
        failures = []
        for host in hosts:
            line.client, line.host = self._client(host, line.database), host
            connection = line.client.connection
            try:
                connection.connect()
                connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MS)
                return line.client
            except (NetworkError, SocketTimeoutError, EOFError, OSError) as error:
                line.disconnect()
                self._hosts.went_away(host)
                failures.append(str(getattr(error, "message", "") or f"{error} ({Address(*host)})"))
        text = "; ".join(failures)
        hint = " Name the authority that signed it with ca=PATH." if "CERTIFICATE_VERIFY_FAILED" in text else ""
        raise _NoHostError(f"cannot connect to ClickHouse: {text}.{hint}", NETWORK_ERROR)

    def _answers(self, host: Host) -> bool:
        """Whether a host takes statements: one that has lost its keeper takes no inserts."""
        with _disconnected(self._client(host, "default")) as client:
            try:
                client.execute(_IS_WRITABLE)
            except (DriverError, OSError, EOFError):
                return False
            return True

    def _run(self, action: Callable[[Client], T], *, is_repeatable: bool = True) -> T:
        """Runs it with a client of the pool; where its host goes away meanwhile, with another one."""
        for left in reversed(range(TRIES if is_repeatable else 1)):
            try:
                return self._run_once(action)
            except _NoHostError:
                raise
            except EngineBusyError as error:
                if not left or not is_of_the_host(error):
                    raise
        raise AssertionError  # the last round returns or raises

    def _run_once(self, action: Callable[[Client], T]) -> T:
        """After any error, the line begins with a new connection."""
        try:
            line = self._idle.get(timeout=POOL_WAIT_S)
        except queue.Empty:
            raise EngineBusyError(f"all {POOL_SIZE} connections were in use for {POOL_WAIT_S} s") from None
        try:
            with self._watched(line), _engine_errors():
                return action(self._connected(line))
        except BaseException:
            line.disconnect()
            raise
        finally:
            self._idle.put(line)

    @contextmanager
    def _watched(self, line: _Line) -> Iterator[None]:
        """Notes that the host of a line went away."""
        try:
            yield
        except EngineBusyError as error:
            if host_is_gone(error) and line.host is not None:
                self._hosts.went_away(line.host)
            raise

    def insert(self, table: str, rows: pa.Table) -> None:
        """See contract."""
        columns = ", ".join(quote_identifier(name) for name in rows.schema.names)
        statement = f"INSERT INTO {quote_identifier(table)} ({columns}) VALUES"
        # The driver's NumPy columns do numbers only, and those without a loop in Python.
        use_numpy = all(_is_number(kind) for kind in rows.schema.types)
        data = [_driver_column(column, use_numpy) for column in rows.columns]
        # One block is atomic; and nothing looks for copies in it, which merges remove and readers expect.
        settings = {"use_numpy": use_numpy, "insert_block_size": max(rows.num_rows, 1), "optimize_on_insert": 0}
        self._run(
            lambda client: client.execute(statement, data, columnar=True, settings=settings),
            is_repeatable=table not in TOLD_FIRST,
        )

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

        return self._run(read)

    def stream(
        self,
        sql: str,
        parameters: Parameters = NO_PARAMETERS,
        timeout_s: float | None = None,
        max_rows_to_read: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """See contract. Uses a connection of its own. What was begun to be answered is not asked again."""
        settings = query_settings(timeout_s, max_rows_to_read, is_streamed=True)
        params = _bound(parameters)
        line = _Line(next(self._places), self._store.database)
        for left in reversed(range(TRIES)):
            has_begun = False
            try:
                with self._watched(line), _engine_errors():
                    client = self._connected(line)
                    for batch in client.query_arrow_stream(sql, params, settings=settings, field_metadata=False):
                        has_begun = True
                        yield nullable(batch)
                return
            except _NoHostError:
                raise
            except EngineBusyError as error:
                if has_begun or not left or not is_of_the_host(error):
                    raise
            finally:
                line.disconnect()

    def look_up(
        self, lookup: Lookup, project: str, keys: Sequence[Key], timeout_s: float | None = None
    ) -> Mapping[Key, Rows]:
        """See contract. Remembers nothing: other processes insert too."""
        return look_up(partial(self.query, timeout_s=timeout_s), lookup, project, keys)

    def execute(self, sql: str) -> None:
        """See contract."""
        self._run(lambda client: client.execute(sql), is_repeatable=False)

    def describe(self) -> str:
        """See contract."""
        away = ", ".join(str(Address(*host)) for host in self._hosts.away)
        return f"ClickHouse at {self._store}" + (f" ({away} went away)" if away else "")

    def close(self) -> None:
        """See contract."""
        self._hosts.close()
        while not self._idle.empty():
            self._idle.get().disconnect()


def _is_gone(client: Client) -> bool:
    """Whether a connection that is not in use was closed by its host: then there is something to read, the end."""
    poll = select.poll()
    poll.register(client.connection.socket, select.POLLIN)
    return bool(poll.poll(0))


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
        if error.errno is not None:  # ETIMEDOUT: not the answer is late, the host is silent (SILENCE_MS)
            raise engine_error(NETWORK_ERROR, f"the connection to ClickHouse broke: {error}") from error
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
