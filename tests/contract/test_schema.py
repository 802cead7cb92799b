"""The shipped schema on every engine: migrations, and what its tables make of the rows that the ingest inserts."""

import math
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from tests.support.engines import NASTY_FLOATS, NASTY_TEXTS
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import bookkeeping, migrate, pending, shipped
from thalweg_tracker.errors import EngineError
from thalweg_tracker.ingest.events import ATTRIBUTES, WRITERS
from thalweg_tracker.lineage.chain import Branch, extend, root
from thalweg_tracker.lineage.tree import Origin
from thalweg_tracker.model.keys import run_key
from thalweg_tracker.model.rows import POINTS, STATS
from thalweg_tracker.runs.store import BRANCHES, greeted_row, read_lineage, write_branches

BIG = 2**64 - 1
LATE = 7_258_118_399_999_999  # 2199-12-31, in microseconds
NAMES = pa.schema([("project", pa.string()), ("metric", pa.uint64()), ("name", pa.string())])
STATS_OF_A_SERIES = """SELECT
    groupBitOr(flags) AS flags, min(first_step) AS first_step, max(last_step) AS last_step,
    toUnixTimestamp64Micro(max(last_time)) AS last_time,
    min(s.first).3 AS first, max(s.last).3 AS last,
    min(s.least).1 AS min, min(s.least).2 AS argmin, max(s.greatest).1 AS max, -max(s.greatest).2 AS argmax
FROM series_stats AS s GROUP BY run, metric, rank, writer"""


@pytest.fixture
def migrated(engine: Engine) -> Engine:
    """An engine with the newest schema."""
    migrate(engine)
    return engine


def tables(engine: Engine) -> set[str]:
    names = engine.query("SELECT name FROM system.tables WHERE database = currentDatabase()")["name"].to_pylist()
    return {name for name in names if not name.startswith(".inner")}


# -- migrations


def test_migrating_an_empty_database(engine: Engine) -> None:
    """Migrating applies everything in order, makes every table and says what it did."""
    assert migrate(engine) == shipped()
    assert {"migrations", "points", "series_stats", "series_stats_feed", "series_stats_view"} <= tables(engine)
    assert {"metric_names", "branches", "writers", "attributes"} <= tables(engine)


def test_migrating_twice(migrated: Engine) -> None:
    """A database that is up to date is left as it is."""
    assert pending(migrated) == []
    assert migrate(migrated) == []
    assert migrated.query("SELECT count() AS n FROM migrations")["n"].to_pylist() == [len(shipped())]


def test_what_is_pending(engine: Engine) -> None:
    """Asking what is pending names every migration of an empty database and makes no table."""
    assert pending(engine) == shipped()
    assert tables(engine) == set()


STATEMENTS = [statement for one in shipped() for statement in one.statements]
INTERRUPTIONS = [
    number
    for number, (statement, following) in enumerate(pairwise([*STATEMENTS, ""]), 1)
    if statement.startswith("CREATE ") or not following.startswith("ALTER ")
]
"""After so many statements: each that makes something, and the last of settings changed one after the other."""


@pytest.mark.parametrize("done", INTERRUPTIONS)
def test_an_interrupted_migration(engine: Engine, done: int) -> None:
    """Migrations that stopped after one of their statements are completed by the next one."""
    for statement in [*bookkeeping(), *STATEMENTS[:done]]:
        engine.execute(statement)
    assert migrate(engine) == shipped()
    assert len(tables(engine)) == sum(one.startswith("CREATE ") for one in STATEMENTS) + 1


@pytest.mark.parametrize(("number", "says"), [(9999, "newer"), (1, "not that of this version")])
def test_a_database_of_another_version(migrated: Engine, number: int, says: str) -> None:
    """A schema that is newer than this version, or another one, is refused in words."""
    row = {"number": pa.array([number], pa.uint32()), "name": ["later"], "sha256": ["0" * 64]}
    migrated.insert("migrations", pa.table(row))
    for step in (pending, migrate):
        with pytest.raises(EngineError, match=says):
            step(migrated)


# -- rows


def test_points(migrated: Engine) -> None:
    """A point keeps each bit of its step and value; of two points at a step the later one stays."""
    n = len(NASTY_FLOATS)
    finite = [number for number in NASTY_FLOATS if math.isfinite(number)]
    rows = {
        "run": np.full(n, BIG, np.uint64),
        "metric": np.arange(n, dtype=np.uint64) + np.uint64(BIG - n),
        "rank": np.full(n, 65_535, np.uint16),
        "step": np.resize(finite, n),
        "time": np.full(n, LATE),
        "value": np.array(NASTY_FLOATS),
    }
    older = {**rows, "time": np.full(n, LATE - 1), "value": np.full(n, 7.0)}
    for columns in (rows, older, rows):
        arrays = [pa.array(columns[field.name]).cast(field.type) for field in POINTS]
        migrated.insert("points", pa.Table.from_arrays(arrays, schema=POINTS))
    found = migrated.query("SELECT * FROM points FINAL ORDER BY metric")
    assert found.schema.equals(POINTS)
    assert found["time"].cast(pa.int64()).to_pylist() == [LATE] * n
    for name in ("run", "metric", "rank"):
        assert found[name].to_pylist() == rows[name].tolist()
    for name in ("step", "value"):
        assert found[name].to_numpy().view(np.uint64).tolist() == rows[name].view(np.uint64).tolist()


def feed(**changes: object) -> pa.Table:
    """One row of statistics: steps 1 to 3, values 10, 5, 20."""
    row: dict[str, object] = {
        "run": BIG,
        "metric": BIG - 1,
        "rank": 3,
        "writer": BIG - 2,
        "flags": 1,
        "first_step": 1.0,
        "first_time": 100,
        "first": 10.0,
        "last_step": 3.0,
        "last_time": 300,
        "last": 20.0,
        "min": 5.0,
        "argmin": 2.0,
        "max": 20.0,
        "argmax": 3.0,
    }
    return pa.Table.from_pylist([{**row, **changes}], schema=STATS)


ONE_BATCH = {
    "flags": 1,
    "first_step": 1.0,
    "last_step": 3.0,
    "last_time": 300,
    "first": 10.0,
    "last": 20.0,
    "min": 5.0,
    "argmin": 2.0,
    "max": 20.0,
    "argmax": 3.0,
}


def stats(engine: Engine) -> dict[str, object]:
    [row] = engine.query(STATS_OF_A_SERIES).to_pylist()
    return dict(row)


def test_statistics_of_one_batch(migrated: Engine) -> None:
    """A row of statistics reads as it was fed, and feeding it again changes nothing."""
    for _ in range(3):
        migrated.insert("series_stats_feed", feed())
    assert stats(migrated) == ONE_BATCH


def test_statistics_of_many_batches_in_any_order(migrated: Engine) -> None:
    """Batches merge to first, last, smallest and greatest, whichever comes first; flags add up."""
    later = feed(
        flags=4,
        first_step=4.0,
        first_time=400,
        first=1.0,
        last_step=6.0,
        last_time=600,
        last=2.0,
        min=1.0,
        argmin=4.0,
        max=30.0,
        argmax=5.0,
    )
    for rows in (later, feed(), later):
        migrated.insert("series_stats_feed", rows)
    assert stats(migrated) == {
        "flags": 5,
        "first_step": 1.0,
        "last_step": 6.0,
        "last_time": 600,
        "first": 10.0,
        "last": 2.0,
        "min": 1.0,
        "argmin": 4.0,
        "max": 30.0,
        "argmax": 5.0,
    }


def test_statistics_of_equal_extremes(migrated: Engine) -> None:
    """Of equal extremes the first step counts; of two values at the last step the one written last."""
    migrated.insert("series_stats_feed", feed())
    migrated.insert("series_stats_feed", feed(argmin=1.5, argmax=2.5, last_time=301, last=21.0))
    assert stats(migrated) == {**ONE_BATCH, "last_time": 301, "last": 21.0, "argmin": 1.5, "argmax": 2.5}


def test_statistics_without_numbers(migrated: Engine) -> None:
    """A batch of NaN, fed as +Inf and -Inf, hides no number of another batch; a NaN is a last value."""
    nothing = feed(flags=0, min=math.inf, argmin=9.0, max=-math.inf, argmax=9.0)
    nan_last = feed(last_step=9.0, last_time=900, last=math.nan)
    for rows in (nothing, feed(), nothing, nan_last):
        migrated.insert("series_stats_feed", rows)
    found = stats(migrated)
    assert math.isnan(found.pop("last"))  # type: ignore[arg-type]  # a number
    expected = {**ONE_BATCH, "last_step": 9.0, "last_time": 900}
    del expected["last"]
    assert found == expected


def test_writers(migrated: Engine) -> None:
    """News of a writer merge to the greatest of each field, counters key by key."""
    key = {"project": "p", "run": BIG, "writer": BIG, "rank": 65_535}
    began = {"primary": 1, "host": "hôst\0", "pid": 2**32 - 1, "started_at": 100, "last_seen_at": 100, "ended": ""}
    began |= {"sequence": BIG, "first_step": math.inf, "last_step": -math.inf}
    seen = {"primary": 0, "host": "", "pid": 0, "started_at": 0, "last_seen_at": LATE, "ended": "", "sequence": 3}
    seen |= {"first_step": -1.5, "last_step": 7.0}
    for news, counters in [
        (began, []),
        (seen, [("points", 7), ("dropped", BIG)]),
        ({**seen, "ended": '{"time_us": "1"}'}, [("points", 9), ("it's", 1)]),
        ({**seen, "first_step": 2.0, "last_step": 9.5}, [("points", 8)]),
    ]:
        migrated.insert("writers", pa.Table.from_pylist([{**key, **news, "counters": counters}], schema=WRITERS))
    found = migrated.query("SELECT * FROM writers FINAL")
    assert found.schema.equals(WRITERS)
    [row] = found.to_pylist()
    row["counters"] = dict(row["counters"])
    times = {name: found[name].cast(pa.int64())[0].as_py() for name in ("started_at", "last_seen_at")}
    assert {**row, **times} == {
        **key,
        **began,
        "last_seen_at": LATE,
        "first_step": -1.5,
        "last_step": 9.5,
        "ended": '{"time_us": "1"}',
        "counters": {"points": 9, "dropped": BIG, "it's": 1},
    }


def test_attributes(migrated: Engine) -> None:
    """Path and JSON keep every character; the latest word on a path stays."""
    rows = [
        {"project": "p", "run": 1, "path": f"{i}{text[:100]}", "json": text, "number": math.nan, "time": 2}
        for i, text in enumerate(NASTY_TEXTS)
    ]
    earlier = [{**row, "json": "old", "time": 1} for row in rows]
    for batch in (rows, earlier):
        migrated.insert("attributes", pa.Table.from_pylist(batch, schema=ATTRIBUTES))
    found = migrated.query("SELECT * FROM attributes FINAL ORDER BY toUInt8OrZero(extract(path, '^[0-9]+'))")
    assert found.schema.equals(ATTRIBUTES)
    assert found["json"].to_pylist() == NASTY_TEXTS
    assert found["path"].to_pylist() == [row["path"] for row in rows]
    assert all(map(math.isnan, found["number"].to_pylist()))


def test_names_and_branches(migrated: Engine) -> None:
    """Each is there once, however often it is registered: a branch since its first time, beside it its origin."""
    name = {"project": "größe", "metric": BIG, "name": "a/b\\c"}
    branch = Branch("it's", 2**32 - 1)
    key = run_key("p", "it's", 2**32 - 1)
    parent = Branch("parent")
    origin = Origin(branch, "fork", "parent", 0, 7.5, "", 5)
    for time in (2, 1, 3):
        migrated.insert("metric_names", pa.Table.from_pylist([name], schema=NAMES))
        row = greeted_row("p", branch, key, time)
        migrated.insert("branches", pa.Table.from_pylist([row], schema=BRANCHES))
        write_branches(migrated, "p", [(origin, extend(root(parent), 7.5, branch))], version=time)
    assert migrated.query("SELECT * FROM metric_names FINAL").to_pylist() == [name]
    found = migrated.query("SELECT * FROM branches FINAL ORDER BY has_origin")
    assert found.schema.equals(BRANCHES)
    greeted, began = found.set_column(5, "created_at", found["created_at"].cast(pa.int64())).to_pylist()
    assert greeted == greeted_row("p", branch, key, 1)
    assert (began["version"], began["created_at"], began["run"], began["fork_step"]) == (3, 5, key, 7.5)
    assert read_lineage(began) == extend(root(parent), 7.5, branch)
