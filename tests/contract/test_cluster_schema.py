"""The cluster's schema and the real engine: all of it is parsed, and its tables are made, as far as one process can."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.clickhouse_server import start
from tests.support.engines import on_clusters_too, opened, server_store
from tests.support.two_shards import CONFIGURATION, TwoShardStore
from thalweg_tracker.cli.migrate import migrate as migrate_command
from thalweg_tracker.engine.cluster import Cluster, create_database
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import bookkeeping, migrate, pending, shipped, statements
from thalweg_tracker.engine.server import ServerEngine
from thalweg_tracker.errors import EngineError, SettingError, TrackerError
from thalweg_tracker.model.settings import ServerStore, Store, parse_store

CLUSTER = Cluster("main", "thalweg")
STATEMENTS = [
    create_database(ServerStore((("h", 1),), CLUSTER.database, "", "", CLUSTER.name)),
    *bookkeeping(CLUSTER.lay_out),
    *statements(shipped(), CLUSTER.lay_out),
]


def test_each_statement_is_parsed(engine: Engine) -> None:
    """As it is in the golden file, ON CLUSTER and all."""
    for statement in STATEMENTS:
        tree = engine.query(f"EXPLAIN AST {statement}")
        assert tree.num_rows > 1, statement


@on_clusters_too
def test_migrating_twice(store: Store) -> None:
    """A schema that is there is known to be, also where it is distributed."""
    with opened(store) as engine:
        assert migrate(engine) == shipped()
        assert pending(engine) == []
        assert migrate(engine) == []


def test_rows_lie_on_the_shard_of_their_run(tmp_path: Path) -> None:
    """Each shard has some of many runs, and no run is on two."""
    with opened(TwoShardStore(tmp_path / "data")) as engine:
        migrate(engine)
        engine.execute_plain("INSERT INTO run_metrics SELECT number * 7919, 'loss', 1 FROM numbers(1000)")  # type: ignore[attr-defined]
        found = engine.query("SELECT shardNum() AS shard, run % 2 AS rest, count() AS n FROM run_metrics GROUP BY 1, 2")
        assert sorted(zip(*(found[name].to_pylist() for name in ("shard", "rest", "n")), strict=True)) == [
            (1, 0, 500),
            (2, 1, 500),
        ]


REPLICATED = """
import os, sys
import chdb
connection = chdb.connect(sys.argv[1] + "?config-file=" + sys.argv[2])
for statement in sys.stdin.read().split(";;"):
    connection.query(statement)
rows = connection.query("SELECT table, zookeeper_path FROM system.replicas ORDER BY table", "CSV").bytes()
sys.stdout.write(rows.decode())
sys.stdout.flush()
os._exit(0)  # its keeper is a stub in memory: there is nothing to close
"""


def test_replicated_tables_are_made(tmp_path: Path) -> None:
    """The engine takes their arguments and settings, with a keeper of its own in memory.

    Not the changes of later migrations: with that keeper tables stay read-only. Those are tried on plain tables.
    """
    keeper = (
        "<zookeeper><implementation>testkeeper</implementation><node><host>localhost</host><port>1</port></node>"
        "</zookeeper><macros><shard>1</shard><replica>r1</replica></macros></clickhouse>"
    )
    configuration = tmp_path / "config.xml"
    configuration.write_text(CONFIGURATION.replace("</clickhouse>", keeper))
    plain = [one.replace(" ON CLUSTER `main`", "") for one in STATEMENTS if not one.startswith("ALTER ")]
    done = subprocess.run(
        [sys.executable, "-c", REPLICATED, str(tmp_path / "data"), str(configuration)],
        input=";;".join(plain),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = dict(line.replace('"', "").split(",") for line in done.stdout.splitlines())
    assert made["points_local"] == "/clickhouse/tables/1/thalweg/points_local"
    assert len(made) == sum("ENGINE = Replicated" in one for one in STATEMENTS)


# -- what a server says of its clusters

REPLICA = "<replica><host>127.0.0.1</host><port>9000</port></replica>"
CLUSTERS = f"""<clickhouse><tcp_port>9000</tcp_port><remote_servers>
<main><shard><internal_replication>true</internal_replication>{REPLICA}</shard></main>
<three><shard><internal_replication>true</internal_replication>{REPLICA * 3}</shard></three>
<copies><shard>{REPLICA * 2}</shard></copies>
</remote_servers></clickhouse>"""


@pytest.fixture(scope="module")
def knows_clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server with some clusters, and the database `thalweg`."""
    folder = tmp_path_factory.mktemp("clusters")
    (folder / "config.xml").write_text(CLUSTERS)
    with start(folder / "data", configuration=folder / "config.xml") as running:
        ServerEngine(server_store(running, "thalweg")).close()
        yield running.ports[0]


def store_of(port: int, options: str) -> ServerStore:
    store = parse_store("--store", f"clickhouse://u:open-sesame@127.0.0.1:{port}/{CLUSTER.database}?{options}")
    assert isinstance(store, ServerStore)
    return store


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ("cluster=absent", EngineError, "ClickHouse knows copies, main, three, not this one"),
        ("cluster=copies", EngineError, "<internal_replication>true</internal_replication>"),
        ("cluster=main&quorum=2", SettingError, "at most 1, the replicas of a shard"),
    ],
)
def test_clusters_that_cannot_be_used(knows_clusters: int, options: str, error: type[TrackerError], told: str) -> None:
    """Before any table is made, with what to mend."""
    with pytest.raises(error) as refused:
        ServerEngine(store_of(knows_clusters, options))
    assert told in str(refused.value)
    assert "open-sesame" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "quorum"), [("cluster=main", "0"), ("cluster=three", "2"), ("cluster=three&quorum=3", "3"), ("", "0")]
)
def test_statements_carry_the_settings_of_a_cluster(knows_clusters: int, options: str, quorum: str) -> None:
    """The quorum that fits its replicas, and the way to distribute; none of them without a cluster."""
    names = ("insert_quorum", "distributed_product_mode", "load_balancing", "distributed_foreground_insert")
    with opened(store_of(knows_clusters, options)) as engine:
        sql = "SELECT name, value FROM system.settings WHERE name IN {names:Array(String)}"
        found = {row["name"]: row["value"] for row in engine.query(sql, {"names": names}).to_pylist()}
    on_cluster = (quorum, "global", "in_order", "1")
    assert tuple(found[name] for name in names) == (on_cluster if options else ("0", "deny", "random", "0"))


@pytest.mark.parametrize("database", ["thalweg", "absent"])
def test_a_dry_run_prints_the_schema_of_the_cluster(knows_clusters: int, database: str) -> None:
    """What would be run, on every host, and nothing of it is: no table, nor the database if there is none."""
    store = f"clickhouse://u:open-sesame@127.0.0.1:{knows_clusters}/{database}?cluster=main"
    ended = CliRunner().invoke(migrate_command, ["--store", store, "--dry-run"])
    assert ended.exit_code == 0, ended.output
    layout = Cluster("main", database).lay_out
    for statement in statements(shipped(), layout):
        assert f"{statement};" in ended.stdout
    is_absent = database == "absent"
    assert ("CREATE DATABASE IF NOT EXISTS `absent` ON CLUSTER `main`;" in ended.stdout) == is_absent
    assert (bookkeeping(layout)[0] in ended.stdout) == is_absent
    assert "open-sesame" not in ended.output
    with opened(store_of(knows_clusters, "")) as engine:
        assert engine.query("SELECT name FROM system.tables WHERE database = 'thalweg'").num_rows == 0
        assert engine.query("SELECT name FROM system.databases WHERE name = 'absent'").num_rows == 0
