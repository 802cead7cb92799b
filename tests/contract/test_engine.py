"""What every engine guarantees: inserts, answers, streams, errors, threads."""

import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from tests.support.engines import NASTY_FLOATS, NASTY_TEXTS, opened
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.failures import read_too_much, took_too_long
from thalweg_tracker.errors import EngineBusyError, EngineError, RejectedError
from thalweg_tracker.model.settings import Store

UTC_US = pa.timestamp("us", "UTC")
FOREVER = "SELECT sum(cityHash64(number)) FROM numbers(1000000000000)"
SECOND_US = 1_000_000


def numbers_table(engine: Engine, constraint: str = "") -> None:
    engine.execute(f"CREATE TABLE t (x UInt64 {constraint}) ENGINE = MergeTree ORDER BY x")


def numbers_rows(numbers: range) -> pa.Table:
    return pa.table({"x": np.arange(numbers.start, numbers.stop, dtype=np.uint64)})


def count(engine: Engine, table: str = "t") -> int:
    return int(engine.query(f"SELECT count() AS n FROM {table}")["n"][0].as_py())


def round_trip(engine: Engine, clickhouse_type: str, values: pa.Array) -> pa.ChunkedArray:
    """The values after an insert into a column of that type, in the same order."""
    engine.execute(f"CREATE TABLE t (i UInt64, v {clickhouse_type}) ENGINE = MergeTree ORDER BY i")
    engine.insert("t", pa.table({"i": np.arange(len(values), dtype=np.uint64), "v": values}))
    return engine.query("SELECT v FROM t ORDER BY i")["v"]


# -- inserts


def test_texts_come_back(engine: Engine) -> None:
    """A text column keeps every character, up to a mebibyte."""
    assert round_trip(engine, "String", pa.array(NASTY_TEXTS)).to_pylist() == NASTY_TEXTS


@pytest.mark.parametrize("count", [1, 500, 20_000])
def test_floats_come_back_bit_by_bit(engine: Engine, count: int) -> None:
    """A float column keeps each bit, in inserts of any size: NaN, infinities, -0.0, denormals."""
    drawn = np.random.default_rng(1).integers(0, 2**64, count, np.uint64, endpoint=False).view(np.float64)
    values = np.array([*NASTY_FLOATS, *drawn[~np.isnan(drawn)]])
    back = round_trip(engine, "Float64 CODEC(Gorilla, ZSTD(1))", pa.array(values)).to_numpy()
    assert back.view(np.uint64).tolist() == values.view(np.uint64).tolist()


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "uint64", "int8", "int64"])
def test_integers_come_back(engine: Engine, kind: str) -> None:
    """Both ends of each integer type survive."""
    ends = np.iinfo(kind)
    values = pa.array([ends.min, 0, 1, ends.max], kind)
    assert round_trip(engine, kind.replace("ui", "UI").replace("i", "I", 1), values).to_pylist() == values.to_pylist()


def test_times_come_back(engine: Engine) -> None:
    """A time keeps its microseconds, from 1970 to 2199."""
    end_of_2199 = 7_258_118_400 * SECOND_US - 1
    values = pa.array([0, 1, 1_700_000_000_123_457, end_of_2199], UTC_US)
    back = round_trip(engine, "DateTime64(6, 'UTC')", values)
    assert back.type == UTC_US
    assert back.combine_chunks().equals(values)


def test_maps_come_back(engine: Engine) -> None:
    """A map keeps keys and 64-bit values; it may be empty."""
    values = pa.array([[("a", 2**64 - 1), ("it's\0", 0)], [], [("", 1)]], pa.map_(pa.string(), pa.uint64()))
    assert round_trip(engine, "Map(String, UInt64)", values).to_pylist() == values.to_pylist()


def test_an_insert_may_leave_out_and_reorder_columns(engine: Engine) -> None:
    """Columns are matched by name; one that is left out has its default."""
    engine.execute("CREATE TABLE t (a UInt64, b String DEFAULT 'none', c Float64) ENGINE = MergeTree ORDER BY a")
    engine.insert("t", pa.table({"c": [0.5], "a": pa.array([7], pa.uint64())}))
    assert engine.query("SELECT * FROM t").to_pylist() == [{"a": 7, "b": "none", "c": 0.5}]


def test_rows_in_many_chunks(engine: Engine) -> None:
    """A table of many chunks, or a slice of one, is inserted row by row as it reads."""
    numbers_table(engine)
    rows = pa.concat_tables([numbers_rows(range(start, start + 10)) for start in range(0, 100, 10)])
    engine.insert("t", rows.slice(5, 90))
    assert engine.query("SELECT x FROM t ORDER BY x")["x"].to_pylist() == list(range(5, 95))


def test_an_empty_table(engine: Engine) -> None:
    """No rows are inserted without complaint."""
    engine.execute("CREATE TABLE t (x UInt64, s String) ENGINE = MergeTree ORDER BY x")
    engine.insert("t", pa.schema([("x", pa.uint64()), ("s", pa.string())]).empty_table())
    engine.insert("t", pa.schema([("x", pa.uint64())]).empty_table())
    assert count(engine) == 0


@pytest.mark.parametrize("good", [9, 999_999])
def test_a_refused_insert_leaves_nothing(engine: Engine, good: int) -> None:
    """An insert is atomic: one bad row among ten or a million, the last, and no row is there."""
    numbers_table(engine, f", CONSTRAINT small CHECK x < {good}")
    with pytest.raises(EngineError) as refused:
        engine.insert("t", numbers_rows(range(good + 1)))
    assert refused.value.code == 469
    assert count(engine) == 0
    engine.insert("t", numbers_rows(range(good)))
    assert count(engine) == good


@pytest.mark.parametrize("rows", [1, 100_000])
def test_an_insert_that_a_view_refuses(engine: Engine, rows: int) -> None:
    """A materialized view that fails makes the insert fail."""
    numbers_table(engine)
    engine.execute("CREATE MATERIALIZED VIEW v ENGINE = MergeTree ORDER BY y AS SELECT throwIf(x >= 0) AS y FROM t")
    with pytest.raises(EngineError) as refused:
        engine.insert("t", numbers_rows(range(rows)))
    assert refused.value.code == 395


@pytest.mark.parametrize(("table", "code"), [("absent", 60), ("t", 0)])
def test_an_insert_into_what_is_not_there(engine: Engine, table: str, code: int) -> None:
    """A table or a column that is missing is an error; empty rows are no excuse."""
    numbers_table(engine)
    for rows in (pa.table({"y": [1.0]}), pa.table({"y": pa.array([], pa.float64())})):
        with pytest.raises(EngineError) as refused:
            engine.insert(table, rows)
        assert not isinstance(refused.value, EngineBusyError)
        assert not code or refused.value.code == code


@pytest.mark.parametrize("name", ["", "a b", "t`; DROP TABLE t", "1t", "a.b", "ä", "x" * 129])
def test_names_are_not_repaired(engine: Engine, name: str) -> None:
    """A table or column whose name is no plain identifier is rejected."""
    numbers_table(engine)
    with pytest.raises(RejectedError):
        engine.insert(name, numbers_rows(range(1)))
    with pytest.raises(RejectedError):
        engine.insert("t", pa.table({name: [1]}))


def test_rows_inserted_again_disappear(engine: Engine) -> None:
    """With FINAL, rows of a ReplacingMergeTree that were inserted twice are there once."""
    engine.execute("CREATE TABLE t (k UInt64, v UInt64) ENGINE = ReplacingMergeTree(v) ORDER BY k")
    for value in (1, 2, 2):
        rows = {"k": np.arange(1000, dtype=np.uint64), "v": np.full(1000, value, np.uint64)}
        engine.insert("t", pa.table(rows))
    assert engine.query("SELECT count() AS n, sum(v) AS s FROM t FINAL").to_pylist() == [{"n": 1000, "s": 2000}]


# -- answers

SELECT_TYPES = """SELECT
    toUInt8(1) AS u8, toUInt16(1) AS u16, toUInt32(1) AS u32, toUInt64(18446744073709551615) AS u64,
    toInt8(-1) AS i8, toInt32(-1) AS i32, toInt64(-1) AS i64, toFloat32(0.5) AS f32, toFloat64(0.5) AS f64,
    true AS b, 'é' AS s, toLowCardinality('low') AS low,
    toDateTime64('2199-12-31 23:59:59.999999', 6, 'UTC') AS time,
    map('k', toUInt64(1)) AS m, [1.5, nan] AS floats, ['a', ''] AS texts, [[toUInt64(1)], []] AS nested,
    toNullable(toUInt64(1)) AS some, CAST(NULL AS Nullable(UInt64)) AS none, CAST(NULL AS Nullable(String)) AS no_text,
    [toNullable(1.5), NULL] AS holes"""
TYPES = pa.schema(
    [
        ("u8", pa.uint8()),
        ("u16", pa.uint16()),
        ("u32", pa.uint32()),
        ("u64", pa.uint64()),
        ("i8", pa.int8()),
        ("i32", pa.int32()),
        ("i64", pa.int64()),
        ("f32", pa.float32()),
        ("f64", pa.float64()),
        ("b", pa.bool_()),
        ("s", pa.string()),
        ("low", pa.string()),
        ("time", UTC_US),
        ("m", pa.map_(pa.string(), pa.uint64())),
        ("floats", pa.list_(pa.float64())),
        ("texts", pa.list_(pa.string())),
        ("nested", pa.list_(pa.list_(pa.uint64()))),
        ("some", pa.uint64()),
        ("none", pa.uint64()),
        ("no_text", pa.string()),
        ("holes", pa.list_(pa.float64())),
    ]
)


def test_types_of_an_answer(engine: Engine) -> None:
    """An answer has the Arrow types that the contract names: no `not null`, no metadata."""
    answer = engine.query(SELECT_TYPES)
    assert answer.schema.equals(TYPES, check_metadata=True)
    [row] = answer.to_pylist()
    assert math.isnan(row.pop("floats")[1])
    assert row.pop("time").isoformat() == "2199-12-31T23:59:59.999999+00:00"
    assert row == {
        "u8": 1,
        "u16": 1,
        "u32": 1,
        "u64": 2**64 - 1,
        "i8": -1,
        "i32": -1,
        "i64": -1,
        "f32": 0.5,
        "f64": 0.5,
        "b": True,
        "s": "é",
        "low": "low",
        "m": [("k", 1)],
        "texts": ["a", ""],
        "nested": [[1], []],
        "some": 1,
        "none": None,
        "no_text": None,
        "holes": [1.5, None],
    }


def test_types_of_an_empty_answer(engine: Engine) -> None:
    """An answer without rows has its columns and types all the same."""
    answer = engine.query(f"SELECT * FROM ({SELECT_TYPES}) WHERE u8 = 0")
    assert answer.num_rows == 0
    assert answer.schema.equals(TYPES, check_metadata=True)


def test_types_of_a_stream(engine: Engine) -> None:
    """A batch of a stream has the types of an answer."""
    [batch] = engine.stream(SELECT_TYPES)
    assert batch.schema.equals(TYPES, check_metadata=True)


def test_aggregating_columns_have_plain_types(engine: Engine) -> None:
    """A SimpleAggregateFunction column is inserted and read as the type that it holds."""
    time = pa.array([7_258_118_399_999_999], UTC_US)
    counters = pa.array([[("k", 2**64 - 1)]], pa.map_(pa.string(), pa.uint64()))
    engine.execute(
        "CREATE TABLE t (k String, n SimpleAggregateFunction(max, UInt64),"
        " f SimpleAggregateFunction(min, Float64), s SimpleAggregateFunction(max, String),"
        " time SimpleAggregateFunction(max, DateTime64(6, 'UTC')),"
        " m SimpleAggregateFunction(maxMap, Map(String, UInt64))) ENGINE = AggregatingMergeTree ORDER BY k"
    )
    rows = pa.table(
        {"k": ["k"], "n": pa.array([2**64 - 1], pa.uint64()), "f": [5e-324], "s": ["é"], "time": time, "m": counters}
    )
    engine.insert("t", rows)
    assert engine.query("SELECT * FROM t FINAL").equals(rows)
    merged = "SELECT k, max(n) AS n, min(f) AS f, max(s) AS s, max(time) AS time, maxMap(m) AS m FROM t GROUP BY k"
    assert engine.query(merged).equals(rows)


def test_a_statement_may_end_in_a_comment(engine: Engine) -> None:
    """Comments, line ends and a timeout do not disturb each other."""
    sql = "-- one\nSELECT 1 AS x /* two */ UNION ALL SELECT 2 AS x -- three"
    assert sorted(engine.query(sql, timeout_s=60)["x"].to_pylist()) == [1, 2]


# -- streams


def test_a_stream_comes_in_batches(engine: Engine) -> None:
    """A long answer is streamed in order, in several batches of bounded size."""
    batches = list(engine.stream("SELECT number AS x FROM numbers(500000) ORDER BY x"))
    assert len(batches) > 3
    assert max(batch.num_rows for batch in batches) <= 100_000
    assert np.concatenate([batch["x"].to_numpy() for batch in batches]).tolist() == list(range(500_000))


def test_a_stream_without_rows(engine: Engine) -> None:
    """An answer without rows is a stream without batches."""
    assert list(engine.stream("SELECT number FROM numbers(0)")) == []


def test_a_stream_closed_early(engine: Engine) -> None:
    """A stream that is closed, or forgotten, before its end leaves the engine as it was."""
    for _ in range(20):  # more than a pool has
        stream = engine.stream("SELECT number AS x FROM numbers(1000000000)")
        assert next(stream)["x"][0].as_py() == 0
        stream.close()  # type: ignore[attr-defined]  # it is a generator
    next(engine.stream("SELECT number AS x FROM numbers(1000000000)"))
    assert engine.query("SELECT 1 AS x")["x"].to_pylist() == [1]


def test_other_calls_while_a_stream_is_open(engine: Engine) -> None:
    """A stream goes on, undisturbed, beside other streams, queries and inserts of the same thread."""
    numbers_table(engine)
    stream = engine.stream("SELECT number AS x FROM numbers(300000)")
    rows = next(stream).num_rows
    for other in engine.stream("SELECT number AS x FROM numbers(200000)"):
        engine.insert("t", numbers_rows(range(10)))
        assert count(engine) > 0
        assert other.num_rows
    assert rows + sum(batch.num_rows for batch in stream) == 300_000


def test_a_stream_that_fails_on_its_way(engine: Engine) -> None:
    """An error after the first batches is an EngineError with ClickHouse's number; the engine stays usable."""
    stream = engine.stream("SELECT throwIf(number = 1000000) AS x FROM numbers(10000000)")
    assert next(stream).num_rows
    with pytest.raises(EngineError) as failed:
        list(stream)
    assert failed.value.code == 395
    assert engine.query("SELECT 1 AS x")["x"].to_pylist() == [1]


# -- errors


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT (", 62),
        ("SELECT * FROM absent", 60),
        ("SELECT absent", 47),
        ("SELECT nofunction(1)", 46),
        ("SELECT throwIf(1)", 395),
        ("SELECT toUInt8('x')", 6),
    ],
)
def test_errors_have_their_number(engine: Engine, sql: str, code: int) -> None:
    """A refused statement is an EngineError with ClickHouse's number and text, however it is run."""
    calls: list[Callable[[str], object]] = [engine.query, engine.execute, lambda sql: list(engine.stream(sql))]
    for call in calls:
        with pytest.raises(EngineError) as refused:
            call(sql)
        assert not isinstance(refused.value, EngineBusyError)
        assert refused.value.code == code
        assert f"Code: {code}. " in str(refused.value)
        assert "Stack trace" not in str(refused.value)
    assert engine.query("SELECT 1 AS x")["x"].to_pylist() == [1]


def test_a_query_that_takes_too_long(engine: Engine) -> None:
    """A query past its timeout is ended; the next one has no timeout any more."""
    with pytest.raises(EngineBusyError) as ended:
        engine.query(FOREVER, timeout_s=0.1)
    assert ended.value.code == 159
    setting = engine.query("SELECT value FROM system.settings WHERE name = 'max_execution_time'")
    assert setting["value"].to_pylist() == ["0"]


def test_a_stream_that_takes_too_long(engine: Engine) -> None:
    """A stream past its timeout is ended, before its first batch or between two; the engine stays usable."""
    for sql in (FOREVER, "SELECT number AS x FROM numbers(1000000000000)"):
        with pytest.raises(EngineBusyError) as ended:
            deque(engine.stream(sql, timeout_s=0.1), maxlen=0)
        assert took_too_long(ended.value)
    assert [batch.to_pylist() for batch in engine.stream("SELECT 1 AS x", timeout_s=60)] == [[{"x": 1}]]


def test_a_query_that_reads_too_much(engine: Engine) -> None:
    """A query or stream that would read more rows than it may is refused; one that reads as many is answered."""
    numbers_table(engine)
    engine.insert("t", numbers_rows(range(100_000)))
    sql = "SELECT x FROM t UNION ALL SELECT x FROM t WHERE x < {x:UInt64}"
    calls: list[Callable[[int], int]] = [
        lambda most: engine.query(sql, {"x": 100_000}, 60, most).num_rows,
        lambda most: sum(batch.num_rows for batch in engine.stream(sql, {"x": 100_000}, 60, most)),
    ]
    for call in calls:
        with pytest.raises(EngineError) as refused:
            call(199_999)
        assert read_too_much(refused.value)
        assert not isinstance(refused.value, EngineBusyError)
        assert call(200_000) == 200_000


def test_a_failed_answer_does_not_leak_into_the_next(engine: Engine) -> None:
    """After a query that failed with half of its answer written, the next answer is its own, whole and alone."""
    for sql, timeout_s in [
        ("SELECT throwIf(number = 1000000) AS secret FROM numbers(2000000)", None),
        ("SELECT sleepEachRow(0.01) AS secret FROM (SELECT * FROM numbers(1000) SETTINGS max_block_size = 1)", 0.1),
    ]:
        with pytest.raises(EngineError):
            engine.query(sql, timeout_s=timeout_s)
        assert engine.query("SELECT 1 AS x").to_pylist() == [{"x": 1}]


# -- threads and life


def test_eight_threads(engine: Engine) -> None:
    """Inserts and queries of eight threads at once do not mix."""
    engine.execute("CREATE TABLE t (thread UInt64, x UInt64, s String) ENGINE = MergeTree ORDER BY (thread, x)")
    mine = "SELECT count() AS n, min(s) AS low, max(s) AS high FROM t WHERE thread = {thread:UInt64}"
    begin = threading.Barrier(8)

    def work(thread: int) -> None:
        begin.wait()
        for turn in range(1, 6):
            x = np.arange(1000, dtype=np.uint64)
            engine.insert(
                "t", pa.table({"thread": np.full(1000, thread, np.uint64), "x": x, "s": [str(thread)] * 1000})
            )
            [row] = engine.query(mine, {"thread": thread}).to_pylist()
            assert row == {"n": 1000 * turn, "low": str(thread), "high": str(thread)}
            assert sum(batch.num_rows for batch in engine.stream("SELECT number FROM numbers(100000)")) == 100_000

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert count(engine) == 8 * 5 * 1000


def test_reopening(store: Store) -> None:
    """What was inserted is there after the engine was closed and opened again."""
    with opened(store) as engine:
        numbers_table(engine)
        engine.insert("t", numbers_rows(range(1000)))
    with opened(store) as engine:
        assert count(engine) == 1000


def test_the_description_is_one_line(engine: Engine) -> None:
    """An engine says on one line what it is and where."""
    assert engine.describe()
    assert "\n" not in engine.describe()
