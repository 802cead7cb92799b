"""Both engines, empty at the begin of each test; for what queries the shipped schema, also a cluster of two shards."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engines import opened, server_store
from tests.support.two_shards import TwoShardStore
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.model.settings import EmbeddedStore, Store

_numbers = itertools.count()


@pytest.fixture(params=["embedded", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Where the data of this test lies; nothing is there yet."""
    if request.param == "cluster":
        return TwoShardStore(tmp_path / "data")
    if request.param == "embedded":
        return EmbeddedStore(tmp_path / "data")
    return server_store(request.getfixturevalue("clickhouse"), f"contract_{next(_numbers)}")


@pytest.fixture
def engine(store: Store) -> Iterator[Engine]:
    """An engine with an empty database."""
    with opened(store) as engine:
        yield engine
