"""Trackers with a store of files and with a bucket, for the tests of checkpoints."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkpoints import Place, answering
from tests.support.s3_server import S3Server, credentials, start_s3
from tests.support.tracker import Tracker
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.model.settings import FileObjects, S3Objects
from thalweg_tracker.objects.files import FileStore
from thalweg_tracker.objects.s3 import S3Store

_numbers = itertools.count()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One database for all tests of this file: each has a project of its own."""
    engine = EmbeddedEngine(tmp_path_factory.mktemp("checkpoints") / "data")
    try:
        migrate(engine)
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the store of files."""
    return tmp_path_factory.mktemp("objects")


@pytest.fixture(scope="module")
def on_files(engine: Engine, folder: Path) -> Iterator[Tracker]:
    with answering(engine, FileStore(FileObjects(folder))) as tracker:
        yield tracker


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with start_s3() as running:
        running.make_bucket("bucket")
        yield running


@pytest.fixture
def place(on_files: Tracker) -> Place:
    """A project of its own, with the store of files."""
    return Place(on_files, f"p {next(_numbers)}")


@pytest.fixture
def on_s3(engine: Engine, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A project of its own, with a bucket."""
    for name, value in credentials().items():
        monkeypatch.setenv(name, value)
    settings = S3Objects("bucket", "team/x", s3.endpoint, None, True, None)
    with answering(engine, S3Store(settings, attempts=1)) as tracker:
        yield Place(tracker, f"s {next(_numbers)}")


@pytest.fixture(params=["files", "s3"])
def either(request: pytest.FixtureRequest) -> Place:
    """Each of the two stores."""
    found: Place = request.getfixturevalue("place" if request.param == "files" else "on_s3")
    return found
