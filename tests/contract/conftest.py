"""Both engines, empty at the begin of each test; for what queries the shipped schema, also a cluster of two shards."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engines import opened, store_of
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.model.settings import Store

_numbers = itertools.count()


@pytest.fixture(params=["embedded", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Where the data of this test lies; nothing is there yet."""
    return store_of(request, tmp_path, f"contract_{next(_numbers)}")


@pytest.fixture
def engine(store: Store) -> Iterator[Engine]:
    """An engine with an empty database."""
    with opened(store) as engine:
        yield engine
