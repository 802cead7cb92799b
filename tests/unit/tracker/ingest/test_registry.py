"""Names and runs behind their keys, on the real engine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from tests.support import wire
from tests.support.engines import opened
from tests.support.scripted_engine import ScriptedEngine
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.errors import EngineBusyError, RejectedError
from thalweg_tracker.ingest.decode import StreamDecoder, decode_hello
from thalweg_tracker.ingest.events import WriterNews, writer_rows
from thalweg_tracker.ingest.registry import Named, Naming, Registry
from thalweg_tracker.lineage.chain import Branch
from thalweg_tracker.model.keys import metric_key, run_key
from thalweg_tracker.model.settings import EmbeddedStore
from thalweg_tracker.runs.branches import Branches
from thalweg_tracker.runs.store import BRANCHES, greeted_row, load_known

NOTHING = Named({}, set())
NO_NAMES = pa.table({"metric": pa.array([], pa.uint64()), "name": pa.array([], pa.string())})


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A database for all tests; each takes a project of its own."""
    with opened(EmbeddedStore(tmp_path_factory.mktemp("registry") / "data")) as engine:
        migrate(engine)
        yield engine


def pairs(*names: str) -> list[tuple[int, str]]:
    """Names with their keys."""
    return [(metric_key(name), name) for name in names]


def test_names_are_permanent_before_the_call_returns(engine: Engine) -> None:
    """Another server finds them; a project's names are its own."""
    assert Registry(engine).register_names("perm", 7, pairs("a", "b'\\")) == NOTHING
    for names in ("metric_names WHERE project = 'perm'", "run_metrics WHERE run = 7"):
        rows = engine.query(f"SELECT name FROM {names} ORDER BY name")
        assert rows["name"].to_pylist() == ["a", "b'\\"]


def test_a_name_is_registered_for_each_run(engine: Engine) -> None:
    """One that the project has is new to a run; one that is refused is none of the run's."""
    registry = Registry(engine)
    registry.register_names("each", 1, [(5, "x")])
    assert registry.unknown_names("each", 2, [(5, "x")]) == [(5, "x")]
    assert registry.register_names("each", 2, [(5, "other"), (6, "y")]) == Named({5: "x"}, set())
    rows = engine.query("SELECT run, name FROM run_metrics WHERE run IN (1, 2) AND metric IN (5, 6) ORDER BY run, name")
    assert rows.to_pylist() == [{"run": 1, "name": "x"}, {"run": 2, "name": "y"}]


def test_the_second_name_of_a_key_is_refused(engine: Engine) -> None:
    """The name that is there keeps the key: in the database, in memory, and within one call."""
    first = Registry(engine)
    assert first.register_names("clash", 7, [(1, "old")]) == NOTHING
    for registry in (first, Registry(engine)):
        assert registry.register_names("clash", 7, [(1, "new"), *pairs("fine")]) == Named({1: "old"}, set())
        assert registry.unknown_names("clash", 7, pairs("fine")) == []
        assert registry.unknown_names("clash", 7, [(1, "new")]) == [(1, "new")]
    assert first.register_names("clash", 7, [(2, "one"), (2, "two")]) == Named({2: "one"}, set())
    assert first.register_names("other project", 7, [(1, "new")]) == NOTHING


def test_known_names_are_not_looked_up_again() -> None:
    """They cost a look into memory, no query."""
    engine = ScriptedEngine(answer=NO_NAMES)
    registry = Registry(engine)
    assert registry.unknown_names("p", 7, pairs("a", "b")) == pairs("a", "b")
    registry.register_names("p", 7, pairs("a"))
    assert registry.unknown_names("p", 7, pairs("a", "b")) == pairs("b")
    assert registry.unknown_names("q", 7, pairs("a")) == pairs("a")
    assert registry.unknown_names("p", 8, pairs("a")) == pairs("a")
    registry.register_names("p", 8, pairs("a"))
    assert len(engine.queries) == 1


def test_a_run_has_no_more_metrics_than_it_may(engine: Engine) -> None:
    """Those that it has go on, whoever registers them; another run has room of its own, and so has a greater limit."""
    registry = Registry(engine)
    (first,) = registry.register_all([Naming("most", 901, pairs("a", "b", "c"), 2)])
    assert first == Named({}, {metric_key("c")})
    again = Registry(engine)
    both = again.register_all([Naming("most", 901, pairs("c", "b", "a"), 2), Naming("most", 902, pairs("c"), 2)])
    assert both == [Named({}, {metric_key("c")}), NOTHING]
    assert again.register_all([Naming("most", 901, pairs("c"), 3)]) == [NOTHING]
    assert again.register_all([Naming("most", 901, pairs("d", "e"))]) == [NOTHING]


@pytest.mark.parametrize("table", ["metric_names", "run_metrics"])
def test_a_failed_registration_is_not_remembered(table: str) -> None:
    """The names go through again with the next batch."""
    engine = ScriptedEngine(answer=NO_NAMES, failures={table: [EngineBusyError("full")]})
    registry = Registry(engine)
    with pytest.raises(EngineBusyError):
        registry.register_names("p", 7, pairs("a"))
    assert registry.unknown_names("p", 7, pairs("a")) == pairs("a")
    assert registry.register_names("p", 7, pairs("a")) == NOTHING


def test_a_run_whose_key_is_taken_is_refused(engine: Engine) -> None:
    """The writer is told to choose another run_id; the run that has the key is untouched."""
    greeting = decode_hello(wire.hello("victim", project="taken"))
    row = greeted_row("taken", Branch("somebody else"), run_key("taken", "victim"), 1)
    engine.insert("branches", pa.Table.from_pylist([row], schema=BRANCHES))
    with pytest.raises(RejectedError) as caught:
        Registry(engine).place(greeting, wire.START_US)
    assert caught.value.code == "run_collision"
    found = engine.query("SELECT run_id FROM branches WHERE project = 'taken'")
    assert found["run_id"].to_pylist() == ["somebody else"]


def test_a_run_is_registered_once(engine: Engine) -> None:
    """By one server; a second one adds a row that changes nothing."""
    greeting = decode_hello(wire.hello("once", project="once"))
    registry = Registry(engine)
    for registering, rows in ((registry, 1), (registry, 1), (Registry(engine), 2)):
        registering.place(greeting, wire.START_US)
        found = engine.query("SELECT count() AS n FROM branches WHERE project = 'once'")
        assert 1 <= found["n"].to_pylist()[0] <= rows


def placed(registry: Registry, run_id: str, writer: int, **more: Any) -> tuple[int, float]:
    """Branch, and the step after which its own points begin."""
    greeting = wire.hello(run_id, writer, project="placed")
    greeting.MergeFrom(pb.Hello(**more))
    found = registry.place(decode_hello(greeting), wire.START_US + 1000)
    assert (found.run_id, found.run) == (run_id, run_key("placed", run_id, found.branch))
    return found.branch, found.after


def test_writers_are_placed_by_what_they_say(engine: Engine) -> None:
    """By their origin, whichever server they ask; the attempt counts, not the number alone."""
    rewind = pb.Origin(kind=pb.Origin.REWIND, step=5, attempt="a")
    told = pb.Origin(kind=pb.Origin.REWIND, step=5, attempt="a", branch=1)
    other = pb.Origin(kind=pb.Origin.REWIND, step=7, attempt="b", branch=1)
    fork = pb.Origin(kind=pb.Origin.FORK, parent_run_id="r", step=3)
    nothing = pb.Origin(kind=pb.Origin.REWIND, step=-math.inf, attempt="n")
    began = {"began_us": wire.START_US}
    for registry in (first := Registry(engine), first, Registry(engine)):
        assert placed(registry, "r", 1, **began) == (0, -math.inf)
        assert placed(registry, "r", 2, origin=rewind, began_us=wire.START_US + 1) == (1, 5.0)
        assert placed(registry, "r", 3, origin=told) == (1, 5.0)
        assert placed(registry, "r", 4, origin=other, began_us=wire.START_US + 2) == (2, 7.0)
        assert placed(registry, "f", 5, origin=fork) == (0, 3.0)
        assert placed(registry, "f", 6) == (0, 3.0)
        assert placed(registry, "n", 7, origin=nothing) == (1, -math.inf)
        assert placed(registry, "s", 8, origin=pb.Origin(kind=pb.Origin.START, attempt="x")) == (0, -math.inf)
    sql = """SELECT DISTINCT run_id, branch FROM branches
        WHERE project = 'placed' AND NOT has_origin ORDER BY run_id, branch"""
    found = [(row["run_id"], row["branch"]) for row in engine.query(sql).to_pylist()]
    assert found == [("f", 0), ("n", 1), ("r", 0), ("r", 1), ("r", 2), ("s", 0)]


def test_a_writer_stays_where_it_wrote(engine: Engine) -> None:
    """Also where its label names a later start by now: that of a launcher that says the same each time."""
    registry, start = Registry(engine), pb.Origin(kind=pb.Origin.START, attempt="L")
    greeting = decode_hello(pb.Hello(origin=start, **hello_fields("old", 1)))
    writer = registry.place(greeting, wire.START_US)
    assert writer.branch == 0
    news = [WriterNews(writer, [pb.Event(time_us=1, started=pb.WriterStarted(primary=True))], {}, 1, 1)]
    engine.insert("writers", writer_rows(news))
    assert Branches(engine).rewind("placed", "old", 5.0, "L", wire.START_US + 1, rank=0).branch.number == 1
    assert registry.place(greeting, wire.START_US + 2).branch == 0
    assert placed(registry, "old", 2, origin=start) == (1, 5.0)


def test_a_fork_may_come_after_its_continuation(engine: Engine) -> None:
    """It gains its history; not where it has points of its own there, which would vanish."""
    registry = Registry(engine)
    fork = pb.Origin(kind=pb.Origin.FORK, parent_run_id="base", step=3)
    for run_id, step in (("kid", 4.0), ("taken", 3.0)):
        greeting = wire.hello(run_id, 1, project="placed")
        writer = registry.place(decode_hello(greeting), wire.START_US)
        decoded = StreamDecoder(writer).decode(wire.batch(1, ["m"], [step], [[1.0]]))
        engine.insert("writers", writer_rows([WriterNews(writer, [], {}, 1, 1, *decoded.span)]))
    assert placed(registry, "kid", 2, origin=fork) == (0, 3.0)
    with pytest.raises(RejectedError, match="it is there already, and is no fork"):
        placed(registry, "taken", 2, origin=fork)


def test_clocks_ahead_do_not_count(engine: Engine) -> None:
    """A rewind that says it begins next year begins now: the next one is newer."""
    registry = Registry(engine)
    year_us = 365 * 86_400 * 10**6
    ahead = pb.Origin(kind=pb.Origin.REWIND, step=5, attempt="ahead")
    assert placed(registry, "clock", 1, origin=ahead, began_us=wire.START_US + year_us) == (1, 5.0)
    later = pb.Origin(kind=pb.Origin.REWIND, step=6, attempt="later")
    assert (
        registry.place(decode_hello(pb.Hello(origin=later, **hello_fields("clock", 2))), wire.START_US + 2000).branch
        == 2
    )
    assert load_known(engine, "placed", ["clock"]).continued("clock", wire.START_US + 3000, None).branch.number == 2


def hello_fields(run_id: str, writer: int) -> dict[str, Any]:
    """Those of a greeting in this file's project."""
    greeting = wire.hello(run_id, writer, project="placed")
    return {field.name: value for field, value in greeting.ListFields()}
