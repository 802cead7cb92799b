"""Databases of older schemas, as they were made then, are migrated when they are opened, and answer as before."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from tests.support import archive
from tests.support.clickhouse_server import RunningServer
from tests.support.engines import opened, server_store
from thalweg_tracker.engine.migrate import applied, migrate, pending, shipped
from thalweg_tracker.errors import EngineError
from thalweg_tracker.model.settings import EmbeddedStore

FIXTURES = sorted((Path(__file__).parents[1] / "fixtures").glob("schema_*.tar.gz"))
ROW = pa.schema([("number", pa.uint32()), ("name", pa.string()), ("sha256", pa.string())])


def unpacked(fixture: Path, folder: Path) -> Path:
    with tarfile.open(fixture) as packed:
        packed.extractall(folder, filter="data")
    return folder / "data"


def test_there_are_fixtures() -> None:
    assert [path.name for path in FIXTURES][:1] == ["schema_3.tar.gz"]


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: str(path.name).partition(".")[0])
def test_an_older_database_answers_as_before(fixture: Path, tmp_path: Path) -> None:
    """Opening it migrates it; every answer is the one that was given when it was made; and it can be written to."""
    data = unpacked(fixture, tmp_path)
    schema = int(fixture.name.partition(".")[0].removeprefix("schema_"))
    with opened(EmbeddedStore(data)) as engine:
        assert max(applied(engine)) == schema
        assert [one.number for one in pending(engine)] == [one.number for one in shipped() if one.number > schema]
    with archive.tracker_on(EmbeddedStore(data)) as tracker:
        assert (
            archive.differences(json.loads((tmp_path / "answers.json").read_text()), archive.ask_all(tracker.http))
            == {}
        )
        tracker.log("later", "loss", {1.0: 2.0}, writer=70)
        (series,) = tracker.series(["later"], ["loss"])
        assert series["value"] == [2.0]


def newer(engine_folder: Path) -> None:
    """A database that a later version has migrated."""
    with opened(EmbeddedStore(engine_folder)) as engine:
        migrate(engine)
        engine.insert("migrations", pa.table({"number": [999], "name": ["later"], "sha256": ["x"]}, schema=ROW))


def test_every_command_refuses_a_newer_database(tmp_path: Path) -> None:
    """And says what to do."""
    data, to = str(tmp_path / "data"), str(tmp_path / "backup")
    newer(Path(data))
    call = "from thalweg_tracker.cli.{0} import {1}; {1}()"
    commands = (
        ["-m", "thalweg.cli.main", "up", "--data", data, "--http=127.0.0.1:0", "--grpc=127.0.0.1:0"],
        ["-m", "thalweg.cli.main", "migrate", "--data", data],
        ["-m", "thalweg.cli.main", "migrate", "--data", data, "--dry-run"],
        ["-c", call.format("backup", "backup"), to, "--data", data],
    )
    for arguments in commands:
        line = [sys.executable, *arguments]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1, arguments
        assert "it has schema 999, newer than this version's" in done.stderr, arguments
        assert "Upgrade thalweg." in done.stderr
    assert not Path(to).exists()


def test_a_newer_database_on_a_server(clickhouse: RunningServer) -> None:
    """It is refused in the same words."""
    with opened(server_store(clickhouse, "newer_schema")) as engine:
        migrate(engine)
        engine.insert("migrations", pa.table({"number": [999], "name": ["later"], "sha256": ["x"]}, schema=ROW))
        with pytest.raises(EngineError, match="it has schema 999, newer than"):
            pending(engine)
        with pytest.raises(EngineError, match="it has schema 999, newer than"):
            migrate(engine)
