"""A ClickHouse server for tests: the native protocol in front of chDB, the same engine inside this process.

    python -m tests.support.clickhouse_server DATA_DIR [--port 0] [--port 0]

Each `--port` is one more listener on 127.0.0.1 in front of the one engine; 0 takes a free port. When all
listen, it prints `{"ports": [..]}`. The line `close PORT` on stdin closes that listener and its connections,
lets their queries end, and is answered by `{"closed": PORT}`; `open PORT` listens there again. SIGTERM stops the
server, and so does the end of stdin with `--until-stdin-ends`. Tests call `start()`, which imports no chDB: only
the server process does.

Stricter than ClickHouse: an insert waits in a file until its last block is here, so a client that vanishes
leaves nothing; an unknown setting is an error. Settings of a query and the database of the hello are honored.

What it does NOT do: compression and external tables (a clear exception, then the connection ends); TLS,
users, passwords, query ids, KILL QUERY; packets of progress, profile, totals, extremes, logs; stopping a
query on a cancel packet (the result is sent to its end) or while it computes (a vanished client is seen on
sending); a FORMAT clause; a header for the empty result of anything but a SELECT; the time zone of a DateTime
column in a result (that of a DateTime64 is kept); columns of the types Variant, Dynamic, JSON,
AggregateFunction. A SELECT streams block by block, other results are held in memory.

One thread and one chDB connection per client: chDB answers nothing on a connection with an open stream. One
process per data directory.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from clickhouse_driver.protocol import ClientPacketTypes

from tests.support.native_columns import layout_of, native_header
from tests.support.native_protocol import NativeConnection, ProtocolError, Query, ServerVersion

REPOSITORY = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"
STOP_TIMEOUT_S = 30

NOT_IMPLEMENTED_CODE = 48
NETWORK_ERROR_CODE = 210
UNKNOWN_EXCEPTION_CODE = 1002

_NAME = r"(?:`[^`]+`|\"[^\"]+\"|\w+)"
# An insert whose rows come as data packets: nothing follows VALUES or FORMAT in the text.
_INSERT = re.compile(
    rf"""(?:\s|--[^\n]*\n|/\*.*?\*/)*
    insert\s+into\s+(?:table\s+)?(?P<table>{_NAME}(?:\.{_NAME})?)
    \s*(?:\((?P<columns>(?:`[^`]*`|[^()`])*)\))?
    \s*(?P<settings>settings\s[^()]*?)?
    \s*(?:values|format\s+\w+)?\s*;?\s*""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_ENGINE_MESSAGE = re.compile(r"Code: (?P<code>\d+)\. DB::Exception: (?P<text>.*)", re.DOTALL)


class ChdbConnection(Protocol):
    """What is used of `chdb.connect()`, which has no types; errors of the engine are RuntimeErrors."""

    def query(self, query: str, format: str = ..., params: dict[str, str] | None = ...) -> Any: ...

    def send_query(self, query: str, format: str = ..., params: dict[str, str] | None = ...) -> Any: ...

    def close(self) -> None: ...


class EngineSession:
    """The engine for one client: SQL in, Native blocks out. One thread."""

    def __init__(self, connection: ChdbConnection) -> None:
        self._connection = connection
        self._settings: dict[str, str] = {}

    def version(self) -> ServerVersion:
        [[version, timezone]] = self._rows("SELECT version(), timezone()")
        major, minor, patch = (int(part) for part in version.split(".")[:3])
        return ServerVersion((major, minor, patch), timezone)

    def use_database(self, database: str) -> None:
        self._connection.query(f"USE {_quote(database, '`')}")

    def use_settings(self, settings: dict[str, str]) -> None:
        """Sets exactly these: what an earlier query set and this one does not goes back to its default."""
        for name in self._settings.keys() - settings.keys():
            self._connection.query(f"SET {name} = DEFAULT")
            del self._settings[name]
        for name, value in settings.items() - self._settings.items():
            if not re.fullmatch(r"\w+", name):
                raise NotImplementedError(f"cannot set {name!r}: it is not a word")
            self._connection.query(f"SET {name} = {_quote(value, chr(39))}")
            self._settings[name] = value

    def result_blocks(self, query: Query) -> Generator[bytes]:
        try:
            stream = self._connection.send_query(query.text, "Native", params=query.parameters)
        except RuntimeError as error:
            if "Streaming query is not supported" not in str(error):
                raise
            # Anything but a SELECT; chDB says so before it runs it.
            yield self._connection.query(query.text, "Native", params=query.parameters).bytes()
            return
        is_empty = True
        with stream:
            for chunk in stream:
                is_empty = False
                yield chunk.bytes()
        if is_empty:  # Native has no header, so the client would not learn the columns
            yield native_header(self._described(query.text.rstrip().rstrip(";"), query.parameters))

    def insert_header(self, insert: re.Match[str]) -> bytes:
        """A block of no rows: the columns that the client is to send."""
        columns = self._described(f"SELECT {insert['columns'] or '*'} FROM {insert['table']}", {})
        for _, type_name in columns:
            layout_of(type_name)  # a type that cannot be copied is refused before the client sends any
        return native_header(columns)

    def insert_blocks(self, insert: re.Match[str], blocks: Iterable[bytes]) -> None:
        """Inserts all of them, or nothing if `blocks` raises.

        Not by chDB 4.4's `send_insert`: it reports success where the table refused the rows (a constraint,
        max_partitions_per_insert_block, an exception in a materialized view).
        """
        columns = f"({insert['columns']})" if insert["columns"] else ""
        with tempfile.NamedTemporaryFile(suffix=".native") as spool:
            spool.writelines(blocks)
            spool.flush()
            self._connection.query(
                f"INSERT INTO {insert['table']} {columns} {insert['settings'] or ''}"
                f" SELECT * FROM file({_quote(spool.name, chr(39))}, Native)"
                " SETTINGS max_threads = 1, parallelize_output_from_storages = 0"  # the rows keep their order
            )

    def _described(self, select: str, parameters: dict[str, str]) -> list[tuple[str, str]]:
        rows = self._rows(f"DESCRIBE TABLE (\n{select}\n)", parameters)
        return [(name, type_name) for name, type_name, *_ in rows]

    def _rows(self, sql: str, parameters: dict[str, str] | None = None) -> list[list[str]]:
        lines = self._connection.query(sql, "JSONCompactEachRow", params=parameters).bytes().splitlines()
        return [json.loads(line) for line in lines]


def _quote(text: str, quote: str) -> str:
    return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote


def serve_client(peer_socket: socket.socket, connect: Callable[[], ChdbConnection]) -> None:
    """The whole life of one connection; whatever goes wrong in it ends nothing else."""
    peer = NativeConnection(peer_socket)
    try:
        with closing(connect()) as connection:
            _serve_packets(peer, EngineSession(connection))
    except ProtocolError as error:
        with suppress(OSError):
            peer.end_after_exception(NETWORK_ERROR_CODE, str(error))
    except (EOFError, OSError):
        pass  # the client went away, or the listener was closed
    except Exception:
        traceback.print_exc()


def _serve_packets(peer: NativeConnection, session: EngineSession) -> None:
    database = peer.receive_hello()
    try:
        if database:
            session.use_database(database)
    except RuntimeError as error:
        peer.end_after_exception(*_code_and_message(error))
        return
    peer.send_hello(session.version())
    peer.receive_addendum()
    while True:
        packet_type = peer.receive_packet_type()
        if packet_type == ClientPacketTypes.PING:
            peer.send_pong()
        elif packet_type == ClientPacketTypes.QUERY:
            _serve_query(peer, session)
        elif packet_type != ClientPacketTypes.CANCEL:  # a cancel comes too late: the result was sent
            raise ProtocolError(f"unexpected packet {packet_type}")


def _serve_query(peer: NativeConnection, session: EngineSession) -> None:
    query = peer.receive_query()
    try:
        session.use_settings(query.settings)
        if insert := _INSERT.fullmatch(query.text):
            peer.send_blocks(session.insert_header(insert))
            session.insert_blocks(insert, peer.receive_blocks())
        else:
            with closing(session.result_blocks(query)) as blocks:
                for block in blocks:
                    peer.send_blocks(block)
    except RuntimeError as error:
        peer.send_exception(*_code_and_message(error))
    else:
        peer.send_end_of_stream()


def _code_and_message(error: RuntimeError) -> tuple[int, str]:
    if found := _ENGINE_MESSAGE.search(str(error)):
        return int(found["code"]), found["text"]
    is_ours = isinstance(error, NotImplementedError)
    return NOT_IMPLEMENTED_CODE if is_ours else UNKNOWN_EXCEPTION_CODE, str(error)


class Listener(socketserver.ThreadingTCPServer):
    """One port with its connections, served by its own threads until `close()`, which waits for them."""

    allow_reuse_address = True
    daemon_threads = False  # so that close() waits for the threads
    request_queue_size = 128

    def __init__(self, port: int, connect: Callable[[], ChdbConnection]) -> None:
        super().__init__((LOOPBACK, port), socketserver.BaseRequestHandler)
        self._connect = connect
        self._peers: set[socket.socket] = set()
        self._accepting = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._accepting.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Any]:
        peer, address = super().get_request()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peers.add(peer)
        return peer, address

    def finish_request(self, request: Any, client_address: Any) -> None:
        serve_client(request, self._connect)

    def shutdown_request(self, request: Any) -> None:
        self._peers.discard(request)
        super().shutdown_request(request)

    def close(self) -> None:
        self.shutdown()
        self._accepting.join()
        for peer in list(self._peers):
            with suppress(OSError):  # it ended by itself in the meantime
                peer.shutdown(socket.SHUT_RDWR)
        self.server_close()


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server process as its starter sees it."""

    process: subprocess.Popen[str]
    ports: tuple[int, ...]

    @property
    def pid(self) -> int:
        return self.process.pid

    def close_listener(self, port: int) -> None:
        """Returns when nothing listens on the port and its connections are gone."""
        self._order("close", port, {"closed": port})

    def open_listener(self, port: int) -> None:
        """Returns when a port that was closed is listened on again."""
        self._order("open", port, {"opened": port})

    def _order(self, verb: str, port: int, done: dict[str, int]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{verb} {port}\n")
        self.process.stdin.flush()
        reply = _reply(self.process)
        assert reply == done, reply


@contextmanager
def start(data_dir: Path, listeners: int = 1, configuration: Path | None = None) -> Generator[RunningServer]:
    """A server process over `data_dir` for the time of the block; it also ends when this process dies.

    `configuration`: ClickHouse's XML, such as `<remote_servers>`; of listeners it tells nothing.
    """
    command = [sys.executable, "-m", "tests.support.clickhouse_server", str(data_dir.resolve())]
    command += ["--until-stdin-ends", *["--port=0"] * listeners]
    command += [f"--configuration={configuration}"] if configuration else []
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield RunningServer(process, tuple(_reply(process)["ports"]))
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _reply(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the ClickHouse server for tests ended with code {process.wait(STOP_TIMEOUT_S)}")
    reply: dict[str, Any] = json.loads(line)
    return reply


def main() -> None:
    arguments = _parsed_arguments()
    import chdb  # half a gigabyte: only the server process pays, not those that import start()

    def connect() -> ChdbConnection:
        configuration = f"?config-file={arguments.configuration}" if arguments.configuration else ""
        connection: ChdbConnection = chdb.connect(f"{arguments.data_dir}{configuration}")  # type: ignore[no-untyped-call]
        return connection

    listeners: dict[int, Listener] = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with closing(connect()):  # keeps the engine alive between clients
        try:
            for port in arguments.port or [0]:
                listener = Listener(port, connect)
                listeners[listener.port] = listener
            print(json.dumps({"ports": list(listeners)}), flush=True)
            _obey_stdin(listeners, connect)
            if not arguments.until_stdin_ends:
                signal.pause()
        finally:
            for listener in listeners.values():
                listener.close()


def _parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.support.clickhouse_server")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--port", type=int, action="append", help="one more listener; 0 takes a free port")
    parser.add_argument("--configuration", type=Path, help="ClickHouse's configuration, in XML")
    parser.add_argument("--until-stdin-ends", action="store_true", help="stop also at the end of stdin")
    return parser.parse_args()


def _obey_stdin(listeners: dict[int, Listener], connect: Callable[[], ChdbConnection]) -> None:
    for line in sys.stdin:
        verb, text = line.split()
        port = int(text)
        if verb == "close":
            listeners.pop(port).close()
            print(json.dumps({"closed": port}), flush=True)
        elif verb == "open":
            listeners[port] = Listener(port, connect)
            print(json.dumps({"opened": port}), flush=True)
        else:
            raise ValueError(f"unknown command {line!r}")


if __name__ == "__main__":
    main()
