"""A cluster of two shards in one process: the real engine, with real `Distributed` tables over the cluster's schema.

Both shards of its configuration are this process, so each `x_local` is one table that either shard reads; a filter
gives each shard the rows that the sharding key puts there. What a query makes of two shards is as on two machines:
partial aggregates of each are merged, FINAL is each shard's own, a subquery over a distributed table is asked first.

What it does NOT do: replicas (`Replicated…` engines become plain ones, ON CLUSTER is left out: there is no keeper), and
the network between hosts, so `prefer_localhost_replica` stays on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import chdb

from thalweg_tracker.engine.cluster import Cluster, local_name, settings_of
from thalweg_tracker.engine.embedded import DATABASE, EmbeddedEngine
from thalweg_tracker.model.settings import EmbeddedStore

CLUSTER: Final = Cluster("main", DATABASE)
_SHARD: Final = """<shard><internal_replication>true</internal_replication>
<replica><host>127.0.0.1</host><port>9000</port></replica></shard>"""
# The port is nobody's: it tells ClickHouse that the hosts are itself.
CONFIGURATION: Final = f"""<clickhouse><tcp_port>9000</tcp_port>
<remote_servers><main>{_SHARD}{_SHARD}</main></remote_servers></clickhouse>"""
_REPLICATED: Final = re.compile(r"Replicated(\w+)\('[^']*', '[^']*'(?:, )?([^()]*)\)")
_PLACED: Final = re.compile(r"ENGINE = Distributed\('\w+', '\w+', '(\w+)', (.*)\)$", re.DOTALL)
_OPTIMIZE: Final = re.compile(r"OPTIMIZE TABLE (\w+) FINAL")


@dataclass(frozen=True, slots=True)
class TwoShardStore(EmbeddedStore):
    """A folder for such an engine."""


class TwoShards(EmbeddedEngine):
    """See above. Statements of migrations are laid out on the cluster."""

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True)
        self._configuration = data_dir / "config.xml"
        self._configuration.write_text(CONFIGURATION)
        self._filters: dict[str, str] = {}
        super().__init__(data_dir)

    def _connect(self) -> Any:
        connection: Any = chdb.connect(f"{self._path}&config-file={self._configuration}")  # type: ignore[no-untyped-call]
        connection.query(f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Atomic")
        connection.query(f"USE {DATABASE}")
        settings = settings_of(1) | {"prefer_localhost_replica": 1}
        settings |= {"output_format_arrow_compression_method": "none", "optimize_on_insert": 0}
        connection.query("SET " + ", ".join(f"{name} = {value!r}" for name, value in settings.items()))
        if self._filters:
            filters = ", ".join(f"'{DATABASE}.{table}': '{one}'" for table, one in self._filters.items())
            connection.query(f"SET additional_table_filters = {{{filters}}}")
        return connection

    def execute_plain(self, sql: str) -> None:
        """A statement that is none of a migration."""
        super().execute(sql)

    def execute(self, sql: str) -> None:
        """See contract."""
        if found := _OPTIMIZE.fullmatch(sql):
            super().execute(f"OPTIMIZE TABLE {local_name(found[1])} FINAL")
            return
        if " ON CLUSTER " in sql or not sql.startswith(("ALTER", "CREATE")):
            super().execute(sql.replace(" ON CLUSTER `main`", ""))
            return
        for statement in CLUSTER.lay_out(sql):
            plain = statement.replace(" ON CLUSTER `main`", "")
            plain = plain.replace("replicated_deduplication_window = 0, ", "")
            plain = plain.replace("\nSETTINGS replicated_deduplication_window = 0", "")
            super().execute(_REPLICATED.sub(r"\1(\2)", plain))
            placed = _PLACED.search(statement)
            if placed and "ENGINE = Null" not in sql:  # a view reads what is inserted, whichever shard that is
                self._filters[placed[1]] = f"({placed[2]}) % 2 = shardNum() - 1"
        while self._idle:  # those that do not know of the table's filter
            self._idle.pop().close()
