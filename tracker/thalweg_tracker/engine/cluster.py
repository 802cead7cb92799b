"""The schema on a cluster: each table as a replicated one on every shard, and a distributed one over those under the
name that queries use. Pure text; why it is right is said in docs/decisions/0017-cluster.md.

Rows lie on the shard that `run` names, so all versions of a row, which a merge makes one, meet there. Tables without a
run are placed by the first column of their key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from thalweg_tracker.engine.literals import between_quotes, quote_identifier
from thalweg_tracker.errors import EngineError
from thalweg_tracker.model.settings import ServerStore, Store

Layout = Callable[[str], list[str]]
"""What makes of a statement of a migration the statements that are run."""

PATH: Final = "/clickhouse/tables/{shard}/{database}/{table}"
REPLICA: Final = "{replica}"
QUORUM_TIMEOUT_MS: Final = 60_000
_LOCAL_SETTINGS: Final = "replicated_deduplication_window = 0"

_TABLE: Final = re.compile(
    r"CREATE TABLE (?:IF NOT EXISTS )?(?P<name>\w+)\s*\((?P<columns>.*)\)\s*"
    r"ENGINE = (?P<engine>\w+)(?:\((?P<arguments>[^()]*)\))?(?P<rest>.*)",
    re.DOTALL,
)
_VIEW: Final = re.compile(
    r"CREATE MATERIALIZED VIEW (?:IF NOT EXISTS )?(?P<name>\w+) TO (?P<target>\w+) AS\s+(?P<select>.*)", re.DOTALL
)
_ALTER: Final = re.compile(r"ALTER TABLE (?P<name>\w+)\s+(?P<change>.*)", re.DOTALL)
_OF_COLUMNS: Final = re.compile(r"(ADD|DROP|RENAME) COLUMN\b")
_SOURCE: Final = re.compile(r"\b(FROM|JOIN) (\w+)")
_HAS_RUN: Final = re.compile(r"(?:^|[\n,])\s*run\s+UInt64\b")
_FIRST_OF_KEY: Final = re.compile(r"\bORDER BY\s*\(?\s*(\w+)")
_SETTINGS: Final = re.compile(r"\bSETTINGS\s+(.*)", re.DOTALL)

# Each has its reason in 0017-cluster.md.
_READ_AND_WRITE: Final[dict[str, int | str]] = {
    "distributed_product_mode": "global",
    "load_balancing": "in_order",
    "prefer_localhost_replica": 0,
    "skip_unavailable_shards": 0,
    "distributed_foreground_insert": 1,
    "distributed_insert_skip_read_only_replicas": 1,
    "select_sequential_consistency": 0,
}


def local_name(table: str) -> str:
    """The table on each shard in which the rows of a distributed one lie."""
    return f"{table}_local"


def as_it_is(statement: str) -> list[str]:
    """The layout where there is no cluster."""
    return [statement]


def layout_of(store: Store) -> Layout:
    """How the tables of a store are made."""
    if isinstance(store, ServerStore) and store.cluster:
        return Cluster(store.cluster, store.database).lay_out
    return as_it_is


def create_database(store: ServerStore) -> str:
    """The statement that makes the database of a store, on all hosts of its cluster."""
    everywhere = f" ON CLUSTER {quote_identifier(store.cluster)}" if store.cluster else ""
    return f"CREATE DATABASE IF NOT EXISTS {quote_identifier(store.database)}{everywhere}"


def quorum_of(replicas: int) -> int:
    """Replicas that must have a row before its insert returns: most of them, but ingest goes on without any one."""
    return max(1, min(replicas // 2 + 1, replicas - 1))


def settings_of(quorum: int) -> dict[str, int | str]:
    """ClickHouse's settings for all statements on a cluster."""
    if quorum == 1:
        return dict(_READ_AND_WRITE)
    return _READ_AND_WRITE | {
        "insert_quorum": quorum,
        "insert_quorum_parallel": 1,
        "insert_quorum_timeout": QUORUM_TIMEOUT_MS,
    }


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster, and the database on all its hosts. Both names are identifiers."""

    name: str
    database: str

    def lay_out(self, statement: str) -> list[str]:
        """The statements for one of a migration. Raises EngineError for one that is none of those it knows."""
        if found := _TABLE.fullmatch(statement):
            return [self._local_table(found), self._distributed_table(found)]
        if found := _VIEW.fullmatch(statement):
            return [self._view(found)]
        if found := _ALTER.fullmatch(statement):
            names = [local_name(found["name"])]
            if _OF_COLUMNS.match(found["change"]):
                names.append(found["name"])
            return [f"ALTER TABLE {self._full(name)} {self._everywhere} {found['change']}" for name in names]
        raise EngineError(f"cannot lay out on a cluster: {statement[:200]}")

    @property
    def _everywhere(self) -> str:
        return f"ON CLUSTER {quote_identifier(self.name)}"

    def _full(self, name: str) -> str:
        return f"{quote_identifier(self.database)}.{quote_identifier(name)}"

    def _local_table(self, found: re.Match[str]) -> str:
        engine, rest, arguments = found["engine"], found["rest"].rstrip(), found["arguments"]
        if engine.endswith("MergeTree"):
            places = [f"'{PATH}'", f"'{REPLICA}'", *([arguments] if arguments else [])]
            engine = f"Replicated{engine}({', '.join(places)})"
            if settings := _SETTINGS.search(rest):
                rest = f"{rest[: settings.start(1)]}{_LOCAL_SETTINGS}, {settings[1]}"
            else:
                rest = f"{rest}\nSETTINGS {_LOCAL_SETTINGS}"
        elif engine != "Null":
            raise EngineError(f"cannot lay out on a cluster: a table of engine {engine}")
        name = self._full(local_name(found["name"]))
        return f"CREATE TABLE IF NOT EXISTS {name} {self._everywhere}\n({found['columns']})\nENGINE = {engine}{rest}"

    def _distributed_table(self, found: re.Match[str]) -> str:
        local = local_name(found["name"])
        places = [f"'{between_quotes(text)}'" for text in (self.name, self.database, local)]
        return (
            f"CREATE TABLE IF NOT EXISTS {self._full(found['name'])} {self._everywhere} AS {self._full(local)}\n"
            f"ENGINE = Distributed({', '.join(places)}, {_place(found)})"
        )

    def _view(self, found: re.Match[str]) -> str:
        """Each shard's own rows come through its own view."""

        def local(source: re.Match[str]) -> str:
            return f"{source[1]} {self._full(local_name(source[2]))}"

        select = _SOURCE.sub(local, found["select"])
        target = self._full(local_name(found["target"]))
        return (
            f"CREATE MATERIALIZED VIEW IF NOT EXISTS {self._full(found['name'])} {self._everywhere} TO {target} AS\n"
            f"{select}"
        )


def _place(found: re.Match[str]) -> str:
    """What chooses the shard of a row: a number that is the same for all versions of it."""
    if _HAS_RUN.search(found["columns"]):
        return "run"
    key = _FIRST_OF_KEY.search(found["rest"])
    if key is None:
        raise EngineError(f"cannot lay out on a cluster: the table {found['name']} has neither a run nor a key")
    return f"cityHash64({key[1]})"
