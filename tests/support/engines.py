"""Engines for tests: how to open one, and what they must all bring back unchanged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.clickhouse_server import LOOPBACK, RunningServer
from tests.support.two_shards import TwoShards, TwoShardStore
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.engine.server import ServerEngine
from thalweg_tracker.model.settings import EmbeddedStore, ServerStore, Store

on_clusters_too = pytest.mark.parametrize("store", ["embedded", "server", "cluster"], indirect=True)
"""For what asks the shipped schema: the fixture `store` of the contract tests is a cluster of two shards, too."""
NASTY_TEXTS: Final = [
    "",
    "plain",
    "it's",
    '"double"',
    "`back`",
    "a\\b",
    "\\",
    "\\N",
    "\\'",
    "tab\tnew\nreturn\r",
    "\b\f\a\v",
    "nul\0inside",
    "größe \N{SNOWMAN} \N{PILE OF POO}",
    "{x:UInt64} %(x)s ? $1",
    "'; DROP TABLE t --",
    "') OR 1 = 1 --",
    "\\'); DROP TABLE t; --",
    "[1,2]",
    "x" * (1 << 20),
]
NASTY_FLOATS: Final = [
    0.0,
    -0.0,
    0.1,
    1 / 3,
    math.nan,
    math.inf,
    -math.inf,
    5e-324,
    -2.2250738585072009e-308,
    1.7976931348623157e308,
]


def store_of(request: pytest.FixtureRequest, folder: Path, database: str) -> Store:
    """An empty one of the kind that is the parameter of a fixture: "embedded", "server" or "cluster"."""
    if request.param == "cluster":
        return TwoShardStore(folder / "data")
    if request.param == "embedded":
        return EmbeddedStore(folder / "data")
    return server_store(request.getfixturevalue("clickhouse"), database)


@contextmanager
def opened(store: Store) -> Iterator[Engine]:
    """The engine of a store, closed after the block. A process has at most one embedded engine open at a time."""
    engine: Engine
    if isinstance(store, TwoShardStore):
        engine = TwoShards(store.data_dir)
    else:
        engine = EmbeddedEngine(store.data_dir) if isinstance(store, EmbeddedStore) else ServerEngine(store)
    try:
        yield engine
    finally:
        engine.close()


def server_store(running: RunningServer, database: str, password: str = "") -> ServerStore:
    """The store that a test server is, with all its listeners as hosts."""
    return ServerStore(tuple((LOOPBACK, port) for port in running.ports), database, "default", password)
