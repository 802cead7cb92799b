"""The schema on a cluster, as text: the golden file, what chooses a shard, what is refused, which settings go along."""

from __future__ import annotations

from pathlib import Path

import pytest

from thalweg_tracker.engine.cluster import Cluster, as_it_is, layout_of, quorum_of, settings_of
from thalweg_tracker.engine.migrate import Migration, bookkeeping, shipped, statements
from thalweg_tracker.errors import EngineError
from thalweg_tracker.model.settings import parse_store

GOLDEN = Path(__file__).parents[3] / "golden" / "cluster.sql"
"""What the shipped migrations make on a cluster. Written by `python -m tests.unit.tracker.engine.test_cluster`."""
CLUSTER = Cluster("main", "thalweg")


def cluster_schema() -> str:
    """The statements of all migrations."""
    every = [*bookkeeping(CLUSTER.lay_out), *statements(shipped(), CLUSTER.lay_out)]
    return "".join(f"{one};\n\n" for one in every).rstrip() + "\n"


def test_the_whole_schema() -> None:
    """A change of the schema, or of how it is laid out, is seen as what it makes on a cluster."""
    assert cluster_schema() == GOLDEN.read_text()


def laid(statement: str) -> str:
    return ";\n".join(CLUSTER.lay_out(statement))


@pytest.mark.parametrize(
    ("columns", "key", "place"),
    [
        ("run UInt64, x String", "(x, run)", "run"),
        ("\n    x String,\n    run    UInt64 CODEC(ZSTD(1))\n", "x", "run"),
        ("project String, metric UInt64", "(project, metric)", "cityHash64(project)"),
        ("number UInt32", "number", "cityHash64(number)"),
        ("runs UInt64, rerun UInt64", "runs", "cityHash64(runs)"),
    ],
)
def test_what_chooses_the_shard(columns: str, key: str, place: str) -> None:
    """The run; else the first column of the key, so that all versions of a row meet."""
    made = laid(f"CREATE TABLE t ({columns}) ENGINE = ReplacingMergeTree ORDER BY {key}")
    assert made.endswith(f"ENGINE = Distributed('main', 'thalweg', 't_local', {place})")


def test_arguments_and_settings_stay() -> None:
    """Those of the engine come after the keeper's path; those of the table after the one that all get."""
    made = laid("CREATE TABLE t (run UInt64, v UInt64)\nENGINE = ReplacingMergeTree(v)\nORDER BY run\nSETTINGS a = 1")
    path = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"
    assert f"ENGINE = ReplicatedReplacingMergeTree({path}, v)" in made
    assert "SETTINGS replicated_deduplication_window = 0, a = 1;" in made


def test_views_join_what_each_shard_has() -> None:
    """Every table that a view names is that of the shard."""
    made = laid("CREATE MATERIALIZED VIEW v TO t AS SELECT a.x FROM f AS a JOIN g AS b ON a.x = b.x")
    assert made == (
        "CREATE MATERIALIZED VIEW IF NOT EXISTS `thalweg`.`v` ON CLUSTER `main` TO `thalweg`.`t_local` AS\n"
        "SELECT a.x FROM `thalweg`.`f_local` AS a JOIN `thalweg`.`g_local` AS b ON a.x = b.x"
    )


def test_changes_of_tables() -> None:
    """Of columns: both tables, first that of the shards. Of anything else: that of the shards."""
    assert CLUSTER.lay_out("ALTER TABLE t ADD COLUMN y UInt8") == [
        "ALTER TABLE `thalweg`.`t_local` ON CLUSTER `main` ADD COLUMN y UInt8",
        "ALTER TABLE `thalweg`.`t` ON CLUSTER `main` ADD COLUMN y UInt8",
    ]
    assert len(CLUSTER.lay_out("ALTER TABLE t MODIFY SETTING a = 1")) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE t",
        "CREATE TABLE t (x UInt8) ENGINE = Memory",
        "CREATE TABLE t (x UInt8) ENGINE = MergeTree",
        "CREATE VIEW v AS SELECT 1",
        "SELECT 1",
    ],
)
def test_what_nobody_has_thought_of(statement: str) -> None:
    """It is refused, not passed on: a table on one host of many would look like one of all."""
    with pytest.raises(EngineError, match="cannot lay out on a cluster"):
        CLUSTER.lay_out(statement)


@pytest.mark.parametrize(("replicas", "quorum"), [(1, 1), (2, 1), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_the_quorum(replicas: int, quorum: int) -> None:
    """Most of the replicas, but never so many that the loss of one stops the ingest."""
    assert quorum_of(replicas) == quorum


def test_settings() -> None:
    """A quorum of one is none."""
    assert "insert_quorum" not in settings_of(1)
    assert settings_of(2)["insert_quorum"] == 2
    assert settings_of(2)["insert_quorum_parallel"] == 1


def test_only_a_cluster_is_laid_out(tmp_path: Path) -> None:
    """Folders, and servers without a cluster, get the statements as they are."""
    assert layout_of(parse_store("--store", str(tmp_path))) is as_it_is
    assert layout_of(parse_store("--store", "clickhouse://h/d")) is as_it_is
    layout = layout_of(parse_store("--store", "clickhouse://h/d?cluster=other"))
    (made, _) = statements([Migration(1, "x", "CREATE TABLE t (x UInt8) ENGINE = MergeTree ORDER BY x")], layout)
    assert made.startswith("CREATE TABLE IF NOT EXISTS `d`.`t_local` ON CLUSTER `other`")


if __name__ == "__main__":
    GOLDEN.write_text(cluster_schema())
