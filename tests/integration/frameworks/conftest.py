"""One server for the trainings of this folder; each is a run of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from thalweg.testing import ServerProcess, running_server


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A real server."""
    with running_server(tmp_path_factory.mktemp("server") / "data") as running:
        yield running
