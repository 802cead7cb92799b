"""Fixtures for all tests."""

from collections.abc import Iterator

import pytest

from tests.support.clickhouse_server import RunningServer, start


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A ClickHouse server for the whole session: each test takes a database of its own."""
    with start(tmp_path_factory.mktemp("clickhouse")) as running:
        yield running
