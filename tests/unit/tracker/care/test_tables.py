"""The tables of a backup are those that the migrations make and that keep rows."""

from thalweg_tracker.care.tables import StoredTable, stored_tables
from thalweg_tracker.engine.migrate import Migration, shipped


def test_all_tables_that_keep_rows() -> None:
    """Neither what a view feeds, nor what is made of the points again."""
    tables = {table.name: table for table in stored_tables(shipped())}
    assert tables["points"] == StoredTable("points", ("run", "metric", "rank", "step"), True)
    assert {"branches", "writers", "attributes", "checkpoints", "custom_metrics", "deletions"} <= tables.keys()
    assert not {"series_stats", "series_stats_feed", "series_stats_view"} & tables.keys()


def test_forms_of_declarations() -> None:
    """One key without brackets; an engine that merges nothing; settings after the keys."""
    text = (
        "CREATE TABLE a (x UInt8, y Array(String)) ENGINE = MergeTree ORDER BY x;"
        " CREATE TABLE b (x UInt8) ENGINE = ReplacingMergeTree(x) ORDER BY (x, y) SETTINGS index_granularity = 2;"
        " CREATE TABLE c (x UInt8) ENGINE = Null"
    )
    assert stored_tables([Migration(1, "x", text)]) == [
        StoredTable("a", ("x",), False),
        StoredTable("b", ("x", "y"), True),
    ]
    assert [table.final for table in stored_tables([Migration(1, "x", text)])] == ["", "FINAL"]
