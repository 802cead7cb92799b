"""Look-ups by key on every engine: what was inserted is seen by whoever looks afterwards, remembered or not."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from thalweg_tracker.engine.contract import Engine, Key, Lookup, Parameters
from thalweg_tracker.engine.lookups import Memory

NEWEST = Lookup(
    "notes",
    "name",
    "SELECT name, max(number) AS newest FROM notes"
    " WHERE project = {project:String} AND name IN {keys:Array(String)} GROUP BY name",
)
ALL = Lookup(
    "notes",
    "number",
    "SELECT number, name FROM notes"
    " WHERE project = {project:String} AND number IN {keys:Array(UInt64)} ORDER BY number, name",
)


def notes(project: str, *pairs: tuple[str, int]) -> pa.Table:
    schema = pa.schema([("project", pa.string()), ("name", pa.string()), ("number", pa.uint64())])
    rows = [{"project": project, "name": name, "number": number} for name, number in pairs]
    return pa.Table.from_pylist(rows, schema=schema)


@pytest.fixture
def noted(engine: Engine) -> Engine:
    """A table with a few rows."""
    engine.execute("CREATE TABLE notes (project String, name String, number UInt64) ENGINE = MergeTree ORDER BY name")
    engine.insert("notes", notes("p", ("a", 1), ("b", 1), ("b", 2)))
    return engine


def newest(engine: Engine, name: str, project: str = "p") -> int:
    return int(engine.look_up(NEWEST, project, [name])[name][0]["newest"])


def test_rows_by_key(noted: Engine) -> None:
    """In the order of the query; a key without rows has none; once or again."""
    for _ in range(2):
        found = noted.look_up(ALL, "p", [2, 1, 3, 1])
        assert {key: [row["name"] for row in rows] for key, rows in found.items()} == {1: ["a", "b"], 2: ["b"], 3: []}
        assert noted.look_up(ALL, "q", [1]) == {1: ()}
        assert noted.look_up(ALL, "p", []) == {}


def test_what_is_inserted_is_seen(noted: Engine) -> None:
    """Under its key and project, by every look-up of its table, also where nothing was before."""
    assert (newest(noted, "a"), newest(noted, "b")) == (1, 2)
    assert noted.look_up(NEWEST, "p", ["c"]) == {"c": ()}
    assert noted.look_up(ALL, "p", [5]) == {5: ()}
    noted.insert("notes", notes("p", ("a", 5), ("c", 4)))
    noted.insert("notes", notes("q", ("b", 9)))
    assert [newest(noted, name) for name in "abc"] == [5, 2, 4]
    assert newest(noted, "b", "q") == 9
    assert [row["name"] for row in noted.look_up(ALL, "p", [5])[5]] == ["a"]


def test_statements_are_seen(noted: Engine) -> None:
    """Whatever a statement does to the table."""
    assert newest(noted, "b") == 2
    noted.execute("TRUNCATE TABLE notes")
    assert noted.look_up(NEWEST, "p", ["b"]) == {"b": ()}


def test_an_answer_that_was_overtaken_is_not_kept(noted: Engine) -> None:
    """Many look while one inserts: nobody reads what is older than the last insert that had returned."""
    done = threading.Event()
    inserted = 0

    def look() -> int:
        looks = 0
        while not done.is_set():
            before = inserted
            assert newest(noted, "a") >= before
            looks += 1
        return looks

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(look) for _ in range(3)]
        try:
            for number in range(10, 60):
                noted.insert("notes", notes("p", ("a", number)))
                inserted = number
        finally:
            done.set()
        assert all(reader.result() for reader in readers)
    assert newest(noted, "a") == 59


class Asked:
    """Rows for keys, and for which it was asked."""

    def __init__(self) -> None:
        self.keys: list[list[Key]] = []

    def __call__(self, sql: str, parameters: Parameters) -> pa.Table:
        """One row a key."""
        keys = list(parameters["keys"])  # type: ignore[arg-type]
        self.keys.append(keys)
        return notes("p", *((str(key), 1) for key in keys))


def test_it_asks_once() -> None:
    """For what it does not know; again after an insert with the key, not after one with another."""
    memory, asked = Memory(), Asked()
    by_name = Lookup("notes", "name", "")
    for keys in (["a", "b"], ["b", "c"], ["a", "b", "c"]):
        assert set(memory.look_up(asked, by_name, "p", keys)) == set(keys)
    assert asked.keys == [["a", "b"], ["c"]]
    memory.inserted("notes", notes("p", ("a", 1)))
    memory.inserted("notes", notes("q", ("b", 1)))
    memory.inserted("other", pa.table({"x": [1]}))
    memory.look_up(asked, by_name, "p", ["a", "b", "c"])
    assert asked.keys[2:] == [["a"]]
    memory.forget()
    memory.look_up(asked, by_name, "p", ["b"])
    assert asked.keys[3:] == [["b"]]


def test_it_is_bounded() -> None:
    """The longest unused is forgotten first; one that is too large by itself is not kept."""
    memory, asked = Memory(max_bytes=10_000), Asked()
    by_name = Lookup("notes", "name", "")
    for number in range(20):
        memory.look_up(asked, by_name, "p", [f"{number}"])
        memory.look_up(asked, by_name, "p", ["0"])
    assert asked.keys.count(["0"]) == 1
    memory.look_up(asked, by_name, "p", ["19"])
    assert len(asked.keys) == 20
    memory.look_up(asked, by_name, "p", ["1"])
    assert asked.keys[20:] == [["1"]]
    memory.look_up(asked, by_name, "p", ["x" * 20_000])
    memory.look_up(asked, by_name, "p", ["x" * 20_000])
    assert asked.keys[-2:] == [["x" * 20_000]] * 2
