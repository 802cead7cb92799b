"""ClickHouse servers that go away: reads and inserts go on at another host, those of points say so, nothing leaks."""

import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.support.clickhouse_server import RunningServer, start
from tests.support.engines import opened, server_store
from tests.support.waiting import wait_until
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.failures import is_of_the_host
from thalweg_tracker.engine.server import POOL_SIZE, ServerEngine
from thalweg_tracker.errors import EngineBusyError, EngineError, RejectedError

SECRET = "open-sesame"
SLOW = "SELECT sum(sleepEachRow(0.1)) AS slow FROM numbers(10)"
ACTIVE = "SELECT count() AS n FROM system.processes WHERE startsWith(query, {begin:String})"
NO_ROWS = pa.schema([("x", pa.uint64())]).empty_table()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningServer]:
    """One server behind two ports, so that one host may go away."""
    with start(tmp_path, listeners=2) as server:
        yield server


@pytest.fixture
def engine(running: RunningServer) -> Iterator[Engine]:
    with opened(server_store(running, "faults", SECRET)) as engine:
        yield engine


def rows(numbers: range) -> pa.Table:
    return pa.table({"x": np.arange(numbers.start, numbers.stop, dtype=np.uint64)})


def wait_until_active(engine: Engine, begin: str, n: int, threads: Callable[[], bool]) -> None:
    """Returns when n queries that begin so are running; asks on connections of its own."""
    while sum(batch["n"][0].as_py() for batch in engine.stream(ACTIVE, {"begin": begin})) < n:
        assert threads(), f"the queries ended before {n} of them ran at once"


def test_a_read_goes_on_at_another_host(running: RunningServer, engine: Engine) -> None:
    """A query whose host goes away under it is answered by the other one; its caller notices nothing."""
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(engine.query, SLOW)
        wait_until_active(engine, SLOW, 1, lambda: not answer.done())
        running.close_listener(running.ports[0])
        assert answer.result().to_pylist() == [{"slow": 0}]


def insert_while_the_host_goes(running: RunningServer, engine: Engine, table: str) -> BaseException | None:
    """What an insert says whose host goes away under it."""
    engine.execute(
        f"CREATE TABLE {table} (x UInt64, CONSTRAINT slow CHECK sleepEachRow(0.1) = 0)"
        " ENGINE = ReplacingMergeTree ORDER BY x"
    )
    engine.query("SELECT 1")  # connections are used in turn: the next one is to the first host again
    with ThreadPoolExecutor(1) as thread:
        insert = thread.submit(engine.insert, table, rows(range(5)))
        wait_until_active(engine, f"INSERT INTO `{table}`", 1, lambda: not insert.done())
        running.close_listener(running.ports[0])
        return insert.exception()


def test_an_insert_goes_on_at_another_host(running: RunningServer, engine: Engine) -> None:
    """An insert whose host goes away under it is made again at the other one; its rows are there once."""
    assert insert_while_the_host_goes(running, engine, "t") is None
    assert engine.query("SELECT count() AS n FROM t FINAL")["n"].to_pylist() == [5]


def test_an_insert_of_points_says_that_its_host_went_away(running: RunningServer, engine: Engine) -> None:
    """Readers must be told before points can be there twice, so that insert is left to who can tell them."""
    failed = insert_while_the_host_goes(running, engine, "points")
    assert isinstance(failed, EngineBusyError)
    assert is_of_the_host(failed)
    engine.insert("points", rows(range(5)))
    assert engine.query("SELECT count() AS n FROM points FINAL")["n"].to_pylist() == [5]


def test_connections_are_spread_and_come_back(running: RunningServer, engine: Engine) -> None:
    """Of as many queries at once as the pool takes, half go to each host; after one was away, too."""

    def fail_all_of(port: int) -> int:
        """Closes one host under a full pool; returns how many of the queries it had, by the connections that broke."""

        def ask() -> Exception | None:
            try:
                engine.execute(SLOW)  # not asked again elsewhere
            except EngineBusyError as error:
                return error
            return None

        with ThreadPoolExecutor(POOL_SIZE) as threads:
            slow = [threads.submit(ask) for _ in range(POOL_SIZE)]
            wait_until_active(engine, SLOW, POOL_SIZE, lambda: not any(one.done() for one in slow))
            running.close_listener(port)
            return sum(one.result() is not None for one in slow)

    for port in running.ports:
        assert fail_all_of(port) == POOL_SIZE // 2
        engine.query("SELECT 1")
        assert f"(127.0.0.1:{port} went away)" in engine.describe()
        running.open_listener(port)
        wait_until(lambda: "away" not in engine.describe())


def test_a_host_goes_away_under_load(running: RunningServer, engine: Engine) -> None:
    """While a host goes away, reads never fail, inserts fail only as busy, and all rows are there once."""
    engine.execute("CREATE TABLE t (x UInt64) ENGINE = ReplacingMergeTree ORDER BY x")
    stop = threading.Event()
    progress = [threading.Semaphore(0) for _ in range(8)]

    def read(number: int) -> int:
        while not stop.is_set():
            engine.query("SELECT count() FROM t FINAL")
            progress[number].release()
        return 0

    def write(number: int) -> int:
        batch = 0
        while not stop.is_set():
            start_at = number * 1_000_000 + batch * 100
            try:
                engine.insert("t", rows(range(start_at, start_at + 100)))
            except EngineBusyError:
                continue
            batch += 1
            progress[number].release()
        return batch * 100

    def wait_for_progress() -> None:
        for semaphore in progress:
            for _ in range(5):
                assert semaphore.acquire(timeout=60)

    with ThreadPoolExecutor(8) as threads:
        work = [threads.submit(write if number % 2 else read, number) for number in range(8)]
        try:
            wait_for_progress()
            running.close_listener(running.ports[0])
            while any(semaphore.acquire(blocking=False) for semaphore in progress):
                pass
            wait_for_progress()
        finally:
            stop.set()
        written = sum(worker.result() for worker in work)
    assert engine.query("SELECT count() AS n FROM t FINAL")["n"].to_pylist() == [written]


def test_no_host_answers(running: RunningServer, engine: Engine) -> None:
    """With no host left every call, and a new engine, raises EngineBusyError at once; none names the password."""
    engine.execute("CREATE TABLE t (x UInt64) ENGINE = MergeTree ORDER BY x")
    for port in running.ports:
        running.close_listener(port)
    calls: list[Callable[[], object]] = [
        lambda: engine.query("SELECT 1"),
        lambda: engine.execute("SELECT 1"),
        lambda: engine.insert("t", rows(range(1))),
        lambda: list(engine.stream("SELECT 1")),
        lambda: ServerEngine(server_store(running, "faults", SECRET)),
    ]
    for call in calls * POOL_SIZE:
        with pytest.raises(EngineBusyError) as failed:
            call()
        assert failed.value.code == 210
        assert SECRET not in "".join(traceback.format_exception(failed.value))


def test_the_password_is_not_shown(running: RunningServer, engine: Engine) -> None:
    """Neither the store, nor the engine's description, nor a refusal shows the password."""
    store = server_store(running, "faults", SECRET)
    with pytest.raises(EngineError) as refused:
        engine.query("SELECT absent")
    shown = [repr(store), str(store), engine.describe(), repr(engine), *traceback.format_exception(refused.value)]
    assert SECRET not in "".join(shown)


def test_a_database_that_cannot_be(running: RunningServer) -> None:
    """A database whose name is no identifier is rejected before anything is sent."""
    with pytest.raises(RejectedError):
        ServerEngine(server_store(running, "no such; database"))


def test_a_database_that_is_gone(running: RunningServer, engine: Engine) -> None:
    """Where the database was dropped, calls raise EngineError with ClickHouse's number, not busy."""
    engine.execute("DROP DATABASE faults")
    for _ in range(2 * POOL_SIZE):
        with pytest.raises(EngineError) as refused:
            engine.query("SELECT * FROM t")
        assert refused.value.code in (60, 81)  # no such table, no such database
        assert not isinstance(refused.value, EngineBusyError)


def test_the_pool_neither_leaks_nor_hands_out_broken_connections(engine: Engine) -> None:
    """After hundreds of failures in 16 threads every call is right, and as many run at once as before."""
    engine.execute("CREATE TABLE t (x UInt64, CONSTRAINT small CHECK x < 10) ENGINE = MergeTree ORDER BY x")

    def fail(number: int) -> None:
        failures: list[Callable[[], object]] = [
            lambda: engine.query("SELECT absent"),
            lambda: engine.query("SELECT throwIf(number = 100000) AS x FROM numbers(1000000)"),
            lambda: engine.query("SELECT sum(cityHash64(number)) FROM numbers(1000000000000)", timeout_s=0.01),
            lambda: engine.insert("t", rows(range(20))),
            lambda: engine.insert("absent", NO_ROWS),
            lambda: engine.execute("SELECT throwIf(1)"),
        ]
        with pytest.raises(EngineError):
            failures[number % len(failures)]()
        assert engine.query("SELECT {n:UInt64} AS n", {"n": number})["n"].to_pylist() == [number]

    with ThreadPoolExecutor(POOL_SIZE) as threads:
        list(threads.map(fail, range(20 * POOL_SIZE)))
        slow = [threads.submit(engine.query, SLOW) for _ in range(POOL_SIZE)]
        wait_until_active(engine, SLOW, POOL_SIZE, lambda: not all(one.done() for one in slow))
        assert [one.result().to_pylist() for one in slow] == [[{"slow": 0}]] * POOL_SIZE
