"""The test server is told apart from a ClickHouse server by nothing that the tracker's tests use.

A real subprocess, the real engine, the real driver.
"""

import contextlib
import datetime as dt
import math
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from clickhouse_driver import Client
from clickhouse_driver.block import RowOrientedBlock
from clickhouse_driver.errors import NetworkError, ServerException

from tests.support.clickhouse_server import REPOSITORY, RunningServer, start
from tests.support.native_protocol import REVISION

HOST = "127.0.0.1"
Connect = Callable[..., Client]

NASTY_TEXTS = [
    "",
    "plain",
    "it's",
    '"double"',
    "`back`",
    "a\\b",
    "\\",
    "\\N",
    "\\'",
    "tab\tnew\nreturn\r",
    "\b\f\a\v",
    "nul\0inside",
    "größe \N{SNOWMAN} \N{PILE OF POO}",
    "{x:UInt64} %(x)s ?",
    "'; DROP TABLE t --",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with start(tmp_path_factory.mktemp("chdb")) as running:
        yield running


@pytest.fixture
def connect(server: RunningServer) -> Iterator[Connect]:
    """Makes clients of the shared server, or of another port, and disconnects them."""
    with contextlib.ExitStack() as clients:

        def make(port: int = server.ports[0], **options: object) -> Client:
            client: Client = clients.enter_context(Client(HOST, port=port, **options))
            return client

        yield make


@pytest.fixture
def client(connect: Connect) -> Iterator[Client]:
    """A client with server-side parameters in a database of its own."""
    owner = connect()
    owner.execute("CREATE DATABASE d ENGINE = Atomic")
    yield connect(database="d", settings={"server_side_params": True})
    owner.execute("DROP DATABASE d")


def start_insert(client: Client, sql: str, rows: list[tuple[object, ...]]) -> None:
    """Sends the rows of an insert, waits until the server has them, and does not end the insert."""
    client.connection.force_connect()
    client.connection.send_query(sql)
    client.connection.send_external_tables([])
    sample = client.receive_sample_block()
    client.connection.send_data(RowOrientedBlock(sample.columns_with_types, rows))
    client.connection.receive_packet()


def test_hello_and_ping(client: Client) -> None:
    version = client.execute("SELECT version()")[0][0]
    assert client.connection.ping()
    assert client.connection.server_info.used_revision == REVISION == 54459
    assert version.startswith(".".join(str(part) for part in client.connection.server_info.version_tuple()))


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1::UInt8", 1),
        ("-5::Int128", -5),
        ("1.5", 1.5),
        ("true", True),
        ("NULL", None),
        ("toNullable('x')", "x"),
        ("toFixedString('ab', 2)", "ab"),
        ("1.25::Decimal(30, 2)", Decimal("1.25")),
        ("'b'::Enum8('a,(' = 1, 'b' = 2)", "b"),
        (
            "toDateTime64('2026-01-02 03:04:05.000006', 6, 'UTC')",
            dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.timezone.utc),
        ),
        ("toUUID('00000000-0000-0000-0000-00000000000a')::String", "00000000-0000-0000-0000-00000000000a"),
        ("[[1, 2], [], [3]]", [[1, 2], [], [3]]),
        ("[]::Array(String)", []),
        ("['a', NULL]", ["a", None]),
        ("toLowCardinality('lc')", "lc"),
        ("[toLowCardinality('x'), 'y', 'x']", ["x", "y", "x"]),
        ("NULL::LowCardinality(Nullable(String))", None),
        ("map('a', [1, 2], 'b', [])", {"a": [1, 2], "b": []}),
        ("(1, 'x', (2, [toLowCardinality('z')]))", (1, "x", (2, ["z"]))),
        ("(1, 'x')::Tuple(`a b` UInt8, c LowCardinality(String))", (1, "x")),
    ],
)
def test_each_layout_of_a_column_arrives_whole(client: Client, expression: str, value: object) -> None:
    """The text after it would be garbled if the column's end were found wrongly."""
    assert client.execute(f"SELECT {expression}, 'after'") == [(value, "after")]


def test_empty_result_has_its_columns(client: Client) -> None:
    query = "SELECT number AS n, {s:String} AS s FROM numbers(3) WHERE n > 5; "
    assert client.execute(query, {"s": "x"}, with_column_types=True) == (
        [],
        [("n", "UInt64"), ("s", "String")],
    )


def test_statements_that_do_not_stream(client: Client) -> None:
    client.execute("CREATE TABLE t (x UInt64) ENGINE = Memory")
    client.execute("INSERT INTO t VALUES (1), (2)")
    client.execute("INSERT INTO t SELECT x + {more:UInt64} FROM t", {"more": 10})
    assert client.execute("SHOW TABLES") == [("t",)]
    assert client.execute("SELECT x FROM t ORDER BY x") == [(1,), (2,), (11,), (12,)]


@pytest.mark.parametrize("text", NASTY_TEXTS)
def test_string_parameter_arrives_exactly(client: Client, text: str) -> None:
    query = "SELECT {s:String}, {ss:Array(String)}, length({s:String})"
    expected = (text, [text, "", text], len(text.encode()))
    assert client.execute(query, {"s": text, "ss": [text, "", text]}) == [expected]


def test_number_parameters_arrive_exactly(client: Client) -> None:
    query = "SELECT {x:UInt64}, {i:Int64}, {a:Array(UInt64)}, {e:Array(UInt64)}, {f:Float64}, {fs:Array(Float64)}"
    values = {"x": 2**64 - 1, "i": -(2**63), "a": [0, 2**64 - 1], "e": [], "f": 0.1, "fs": [1e300, -0.5]}
    assert client.execute(query, values) == [tuple(values.values())]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_float_parameter_may_be_infinite_or_nan(client: Client, value: float) -> None:
    [(single, [in_array])] = client.execute("SELECT {f:Float64}, {fs:Array(Float64)}", {"f": value, "fs": [value]})
    assert repr(single) == repr(in_array) == repr(value)


def test_parameter_of_the_wrong_type_is_refused(client: Client) -> None:
    with pytest.raises(ServerException, match="x") as caught:
        client.execute("SELECT {x:UInt64}", {"x": "not a number"})
    assert caught.value.code == 457  # BAD_QUERY_PARAMETER


def test_row_insert(client: Client) -> None:
    client.execute(
        "CREATE TABLE t (id UInt64, text String, tag LowCardinality(String), maybe Nullable(Float64),"
        " list Array(String), twice UInt64 MATERIALIZED id * 2) ENGINE = MergeTree ORDER BY id"
    )
    rows = [
        (i, text, "even" if i % 2 == 0 else "odd", None if i % 3 else 0.5, [text] * i)
        for i, text in enumerate(NASTY_TEXTS)
    ]
    assert client.execute("INSERT INTO t (id, text, tag, maybe, list) VALUES", rows) == len(rows)
    assert (
        client.execute("/* rows follow */ INSERT INTO d.`t` SETTINGS max_threads = 1 VALUES", [(99, "x", "y", 1.0, [])])
        == 1
    )
    assert client.execute("SELECT * FROM t WHERE id < 99 ORDER BY id") == rows
    assert client.execute("SELECT id, twice FROM t WHERE id = 99") == [(99, 198)]


def test_insert_into_some_columns_fills_the_others_with_defaults(client: Client) -> None:
    client.execute("CREATE TABLE t (a UInt64, b String DEFAULT 'b', c UInt8) ENGINE = Memory")
    client.execute("INSERT INTO t (c, a) VALUES", [(7, 1)])
    client.execute("INSERT INTO t (c, a) VALUES", [])
    assert client.execute("SELECT a, b, c FROM t") == [(1, "b", 7)]


def test_numpy_columnar_insert_and_select(client: Client, connect: Connect) -> None:
    """Several blocks (insert_block_size); NaN and infinities keep their place."""
    client.execute(
        "CREATE TABLE d.t (id UInt64, small UInt16, value Float64, at DateTime64(6, 'UTC'), text String,"
        " tag LowCardinality(String)) ENGINE = MergeTree ORDER BY id"
    )
    n_rows = 1000
    ids = np.arange(n_rows, dtype=np.uint64) + np.uint64(2**63)
    small = (np.arange(n_rows) % 65536).astype(np.uint16)
    values = np.linspace(-1.0, 1.0, n_rows)
    values[:3] = [np.nan, np.inf, -np.inf]
    at = np.datetime64("2026-01-02T03:04:05.000006", "ns") + np.arange(n_rows) * np.timedelta64(1, "us")
    text = np.array([NASTY_TEXTS[i % len(NASTY_TEXTS)] for i in range(n_rows)], dtype=object)
    tags = np.array([f"tag{i % 300}" for i in range(n_rows)], dtype=object)
    arrays = connect(settings={"use_numpy": True, "insert_block_size": 300})

    columns = [ids, small, values, at, text, tags]
    assert arrays.execute("INSERT INTO d.t (id, small, value, at, text, tag) VALUES", columns, columnar=True) == n_rows

    got = arrays.execute("SELECT id, small, value, at, text, tag FROM d.t ORDER BY id", columnar=True)
    for wanted, arrived in zip(columns, got, strict=True):
        np.testing.assert_array_equal(np.asarray(arrived), wanted)


def test_query_arrow(connect: Connect) -> None:
    arrays = connect(settings={"use_numpy": True})
    table = arrays.query_arrow("SELECT number AS n, toString(number) AS s, number / 2 AS f FROM numbers(200000)")
    assert table.column_names == ["n", "s", "f"]
    assert table.num_rows == 200_000
    assert table.slice(199_999).to_pylist() == [{"n": 199_999, "s": "199999", "f": 99_999.5}]


def test_large_result_streams_in_bounded_memory(tmp_path: Path, connect: Connect) -> None:
    """A million rows of a thousand bytes: the server's peak grows by a few blocks of 8 MB, not by 1 GB."""
    with start(tmp_path) as server:
        client = connect(server.ports[0], settings={"max_block_size": 8192})
        client.execute("SELECT 1")
        before_bytes = peak_memory_bytes(server.pid)
        rows = client.execute_iter("SELECT number, repeat('x', 1000) FROM numbers(1000000)")
        assert sum(number for number, _ in rows) == 499_999_500_000
        assert peak_memory_bytes(server.pid) - before_bytes < 250 << 20


def peak_memory_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def test_other_clients_are_answered_while_a_stream_is_open(client: Client, connect: Connect) -> None:
    stream = client.execute_iter("SELECT number FROM numbers(5000000)")
    first = next(stream)
    assert connect().execute("SELECT 'other'") == [("other",)]
    assert first == (0,)
    assert sum(1 for _ in stream) == 4_999_999


def test_client_that_leaves_a_stream_ends_only_itself(connect: Connect) -> None:
    leaver = connect()
    next(leaver.execute_iter("SELECT number FROM numbers(1000000000)"))
    leaver.disconnect()
    assert leaver.execute("SELECT 1") == [(1,)]


def test_cancel_leaves_the_connection_usable(client: Client) -> None:
    stream = client.execute_iter("SELECT number FROM numbers(1000000)")
    next(stream)
    socket_before = client.connection.socket
    client.cancel()
    assert client.execute("SELECT 1") == [(1,)]
    assert client.connection.socket is socket_before


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ("SELECT * FROM missing", 60, "UNKNOWN_TABLE"),
        ("INSERT INTO missing SELECT 1", 60, "UNKNOWN_TABLE"),
        ("SELECT missing", 47, "UNKNOWN_IDENTIFIER"),
        ("SELEC 1", 62, "SYNTAX_ERROR"),
        ("SELECT throwIf(number = 900000, 'too far') FROM numbers(1000000)", 395, "too far"),
        ("SELECT sumState(1)", 48, "AggregateFunction"),
        ("SELECT 1 FORMAT TSV", 1002, "FORMAT clause"),
    ],
)
def test_exception_has_code_and_message(client: Client, query: str, code: int, message: str) -> None:
    with pytest.raises(ServerException, match=message) as caught:
        client.execute(query)
    assert caught.value.code == code
    assert client.execute("SELECT 1") == [(1,)]


def test_connection_itself_survives_an_exception(client: Client) -> None:
    """The driver reconnects after each exception, so this goes below its `execute`."""
    client.connection.connect()
    for query, outcome in (("SELECT missing", 2), ("SELECT 1", 1)):  # packet types: exception, data
        client.connection.send_query(query)
        client.connection.send_external_tables([])
        assert client.connection.receive_packet().type == outcome


def test_insert_into_a_missing_table_or_column_is_refused_before_the_rows(client: Client) -> None:
    client.execute("CREATE TABLE t (a UInt64) ENGINE = Memory")
    for insert, code in (("INSERT INTO missing VALUES", 60), ("INSERT INTO t (b) VALUES", 47)):
        with pytest.raises(ServerException) as caught:
            client.execute(insert, [(1,)])
        assert caught.value.code == code


def test_rows_of_an_insert_keep_their_order(client: Client) -> None:
    """ReplacingMergeTree without a version keeps the last row of a key."""
    client.execute("CREATE TABLE t (a UInt64, i UInt64) ENGINE = ReplacingMergeTree ORDER BY a")
    rows = [(5, i) for i in range(10_000)]
    client.execute("INSERT INTO t VALUES", rows, settings={"insert_block_size": 100})
    assert client.execute("SELECT a, i FROM t FINAL") == [(5, 9_999)]


def test_insert_that_the_engine_refuses_at_its_end(client: Client) -> None:
    client.execute("CREATE TABLE t (a UInt64, CONSTRAINT small CHECK a < 10) ENGINE = MergeTree ORDER BY a")
    with pytest.raises(ServerException, match="small") as caught:
        client.execute("INSERT INTO t VALUES", [(1,), (11,)])
    assert caught.value.code == 469  # VIOLATED_CONSTRAINT
    assert client.execute("SELECT count() FROM t") == [(0,)]


def test_settings_of_an_insert_hold_in_its_text_and_beside_it(client: Client) -> None:
    client.execute("CREATE TABLE t (a UInt64) ENGINE = MergeTree PARTITION BY a ORDER BY a")
    rows = [(1,), (2,), (3,)]
    limit = "max_partitions_per_insert_block"
    for clause, settings in ((f" SETTINGS {limit} = 2", {}), ("", {limit: 2})):
        with pytest.raises(ServerException) as caught:
            client.execute(f"INSERT INTO t (a){clause} VALUES", rows, settings=settings)
        assert caught.value.code == 252  # TOO_MANY_PARTS
    assert client.execute("INSERT INTO t VALUES", rows) == 3
    assert client.execute("SELECT count() FROM t") == [(3,)]


def test_settings_hold_for_their_query_only(client: Client) -> None:
    query = "SELECT getSetting('max_block_size'), getSetting('final')"
    [usual] = client.execute(query)
    assert client.execute(query, settings={"max_block_size": 77, "final": 1}) == [(77, True)]
    assert client.execute(query) == [usual]
    with pytest.raises(ServerException) as caught:
        client.execute(query, settings={"no_such_setting": 1})
    assert caught.value.code == 115  # UNKNOWN_SETTING


def test_database_of_the_hello(client: Client, connect: Connect) -> None:
    assert client.execute("SELECT currentDatabase()") == [("d",)]
    with pytest.raises(ServerException) as caught:
        connect(database="no`such").execute("SELECT 1")
    assert caught.value.code == 81  # UNKNOWN_DATABASE


def test_compression_and_external_tables_are_refused_clearly(connect: Connect) -> None:
    client = connect()
    client.connection.connect()
    client.connection.compression = 1  # what compression=True sends; the codecs themselves are not installed
    with pytest.raises(ServerException, match="compression is not supported"):
        client.execute("SELECT 1")
    client.connection.compression = 0
    table = {"name": "e", "structure": [("x", "UInt64")], "data": [{"x": 1}]}
    with pytest.raises(ServerException, match="external tables are not supported"):
        client.execute("SELECT * FROM e", external_tables=[table])
    assert client.execute("SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 100,
        b"\x00\x05\xff\xff\xff\xff\xff",
        b"\x00" + b"\xff" * 20,
        b"\x00" * 30,
        bytes(range(256)) * 50,
    ],
)
def test_garbage_ends_its_own_connection_only(server: RunningServer, client: Client, garbage: bytes) -> None:
    client.execute("SELECT 1")
    before = client.connection.socket
    with socket.create_connection((HOST, server.ports[0])) as peer:
        peer.sendall(garbage)
        peer.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while peer.recv(4096):
                pass
    assert client.execute("SELECT 1") == [(1,)]
    assert client.connection.socket is before


def test_client_that_vanishes_during_an_insert_leaves_nothing(tmp_path: Path, connect: Connect) -> None:
    """Closing the listener waits for its connections, so the count is taken after the server saw the end."""
    with start(tmp_path, listeners=2) as server:
        stays, vanishes = (connect(port) for port in server.ports)
        stays.execute("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        start_insert(vanishes, "INSERT INTO t VALUES", [(i,) for i in range(1000)])
        vanishes.disconnect()
        server.close_listener(server.ports[1])
        assert stays.execute("SELECT count() FROM t") == [(0,)]
        assert stays.execute("INSERT INTO t VALUES", [(1,)]) == 1
        assert stays.execute("SELECT count() FROM t") == [(1,)]


def test_closed_listener_cuts_its_clients_and_others_take_over(tmp_path: Path, connect: Connect) -> None:
    with start(tmp_path, listeners=2) as server:
        first, second = server.ports
        bound_to_first, inserting = connect(first), connect(first)
        moves_on = connect(first, alt_hosts=f"{HOST}:{second}")
        bound_to_first.execute("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        start_insert(inserting, "INSERT INTO t VALUES", [(1,)])
        assert moves_on.execute("SELECT count() FROM t") == [(0,)]

        server.close_listener(first)

        with pytest.raises(NetworkError):
            bound_to_first.execute("SELECT 1")
        assert moves_on.execute("SELECT count() FROM t") == [(0,)]
        assert moves_on.connection.port == second


def test_data_stays_over_a_restart_and_sigterm_ends_well(tmp_path: Path, connect: Connect) -> None:
    with start(tmp_path) as server:
        connect(server.ports[0]).execute("CREATE TABLE t ENGINE = MergeTree ORDER BY a AS SELECT 5 AS a")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    with start(tmp_path) as server:
        assert connect(server.ports[0]).execute("SELECT a FROM t") == [(5,)]


def test_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """A killed test run closes the server's stdin and leaves no server behind."""
    with start(tmp_path) as server:
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.wait(30) == 0


def test_server_over_a_data_directory_in_use_does_not_start(server: RunningServer, tmp_path: Path) -> None:
    with start(tmp_path), pytest.raises(RuntimeError, match="ended with code 1"), start(tmp_path):
        pytest.fail("two engines over one directory")


def test_starting_side_does_not_load_the_engine() -> None:
    code = "import sys, tests.support.clickhouse_server; sys.exit('chdb' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)
