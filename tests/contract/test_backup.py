"""A backup holds a database whole, on both engines and from one to the other, or says what is wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import archive
from tests.support.checkpoints import answering
from tests.support.clickhouse_server import RunningServer
from tests.support.engines import opened, server_store, store_of
from thalweg_tracker.care import manifest as manifests
from thalweg_tracker.care.backup import StoppedError, take_backup
from thalweg_tracker.care.places import Folder
from thalweg_tracker.care.restore import check_backup, read_manifest, restore_backup
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import apply, migrate, pending, shipped
from thalweg_tracker.errors import EngineError, RejectedError
from thalweg_tracker.model.settings import EmbeddedStore, Store


@contextmanager
def asked(store: Store) -> Iterator[tuple[Engine, httpx.Client]]:
    """A database as it is, and the API over it."""
    with opened(store) as engine, answering(engine, None) as tracker:
        yield engine, tracker.http


@pytest.fixture
def place(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "backup")


@dataclass(frozen=True)
class Filled:
    """A database, what the API says of it, and a folder with its backup. Nothing changes them."""

    store: Store
    told: dict[str, Any]
    folder: Path


@pytest.fixture(scope="module", params=["embedded", "server"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """Made once for each engine."""
    folder = tmp_path_factory.mktemp("filled")
    store = store_of(request, folder, "filled_for_backups")
    with archive.tracker_on(store) as tracker:
        archive.fill(tracker)
        told = archive.ask_all(tracker.http)
        take_backup(tracker.engine, Folder(folder / "backup"), 7)
    return Filled(store, told, folder / "backup")


@pytest.fixture
def backup(filled: Filled, place: Folder, tmp_path: Path) -> Folder:
    """A copy of the backup, at `place`."""
    shutil.copytree(filled.folder, tmp_path / "backup")
    return place


def rows_of(engine: Engine, table: str) -> int:
    count: int = engine.query(f"SELECT count() AS n FROM {table} FINAL")["n"][0].as_py()
    return count


@pytest.mark.parametrize("into", ["embedded", "server"])
def test_a_restored_database_answers_as_the_first_one(
    filled: Filled, backup: Folder, into: str, tmp_path: Path, clickhouse: RunningServer
) -> None:
    """Of either engine, from either. Copies, re-logged steps, ranks, forks, rewinds, NaN and all."""
    other: Store = EmbeddedStore(tmp_path / "restored")
    if into == "server":
        other = server_store(clickhouse, f"restored_{tmp_path.name.replace('-', '_')}"[:60])
    with opened(other) as engine:
        counted = restore_backup(engine, backup)
    with asked(other) as (engine, http):
        assert pending(engine) == []
        assert archive.differences(filled.told, archive.ask_all(http)) == {}
        assert counted.points == rows_of(engine, "points") == read_manifest(backup).rows_of("points") > 500
        assert (counted.runs, counted.projects) == (6, 2)


def test_a_restored_database_goes_on(backup: Folder, tmp_path: Path) -> None:
    """Writers that come back write on: their points join those that were restored, and steps said again count once."""
    store = EmbeddedStore(tmp_path / "restored")
    with opened(store) as engine:
        restore_backup(engine, backup)
        with answering(engine, None) as tracker:
            tracker.log("odd", "loss", {2.0: 30.0, 4.0: 40.0}, writer=21)
            (series,) = tracker.series(["odd"], ["loss"])
            assert (series["x"], series["value"]) == ([0.5, 1, 2, 3, 4], [4, 2, 3, 1, 40])
            detail = tracker.get(f"/projects/{archive.PROJECT}/runs/odd")
            assert detail["last_step"] == 4


def test_a_place_that_is_taken_stays_as_it_is(filled: Filled, backup: Folder) -> None:
    """A backup is not overwritten, nor is anything else."""
    before = backup.get(manifests.NAME)
    with opened(filled.store) as engine, pytest.raises(RejectedError, match="a backup is there") as caught:
        take_backup(engine, backup, 8)
    assert caught.value.code == "place_taken"
    assert backup.get(manifests.NAME) == before


def test_an_unfinished_backup_is_none(store: Store, place: Folder, tmp_path: Path) -> None:
    """What was called off before its end has no manifest, and is refused as a place and as a backup."""
    with archive.tracker_on(store) as tracker:
        archive.fill(tracker)
        with pytest.raises(StoppedError):
            take_backup(tracker.engine, place, 7, is_stopped=lambda: True)
        assert not place.is_empty()
        with pytest.raises(RejectedError, match="something is there"):
            take_backup(tracker.engine, place, 7)
        with pytest.raises(RejectedError, match="not finished"):
            read_manifest(place)


def test_a_database_with_rows_is_not_restored_into(filled: Filled, backup: Folder) -> None:
    """What is there stays."""
    with asked(filled.store) as (engine, http):
        with pytest.raises(RejectedError) as caught:
            restore_backup(engine, backup)
        assert caught.value.code == "not_empty"
        assert archive.differences(filled.told, archive.ask_all(http)) == {}


def damage(path: Path, how: str) -> None:
    """Spoils one file of a backup."""
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[:-1])
    else:
        path.write_bytes(content[:60] + bytes([content[60] ^ 1]) + content[61:])


@pytest.mark.parametrize("how", ["gone", "cut", "flipped"])
@pytest.mark.parametrize("name", ["points/000001.parquet", "attributes/000001.parquet", manifests.NAME])
def test_a_damaged_backup_is_refused(backup: Folder, tmp_path: Path, how: str, name: str) -> None:
    """Whichever file it is: the check says so, and a restore leaves nothing that could be taken for a database."""
    damage(tmp_path / "backup" / name, how)
    with pytest.raises(RejectedError) as caught:
        check_backup(backup)
    assert caught.value.code in ("damaged_backup", "no_backup")
    other = EmbeddedStore(tmp_path / "restored")
    with opened(other) as engine:
        with pytest.raises(RejectedError):
            restore_backup(engine, backup)
        if how == "flipped" and name != manifests.NAME:
            with pytest.raises(EngineError, match="a restore into it did not end"):
                migrate(engine)
        else:  # that was seen before anything was written
            assert migrate(engine) == shipped()


def test_rows_that_are_not_those_of_the_backup_are_found(backup: Folder, tmp_path: Path) -> None:
    """The sums are of what the database holds, not of what was read: here the manifest names others."""
    document = json.loads(backup.get(manifests.NAME))
    manifest = manifests.from_json(backup.get(manifests.NAME), "here")
    tables = [
        manifests.TableContent(one.name, one.rows, "0" * 16 if one.name == "attributes" else one.checksum, one.files)
        for one in manifest.tables
    ]
    assert document["tables"][0]["name"] == "points"
    other = manifests.Manifest(manifest.thalweg, manifest.created_us, manifest.migrations, tuple(tables))
    backup.put(manifests.NAME, manifests.to_json(other))
    with opened(EmbeddedStore(tmp_path / "restored")) as engine:
        with pytest.raises(EngineError, match="the restored table attributes is not that of the backup"):
            restore_backup(engine, backup)
        with pytest.raises(EngineError, match="a restore into it did not end"):
            pending(engine)


@pytest.mark.parametrize(("migrations", "code"), [({999: "x"}, "newer_backup"), ({1: "another"}, "other_backup")])
def test_a_backup_of_another_schema(store: Store, place: Folder, migrations: dict[int, str], code: str) -> None:
    """One that this version does not know is refused before anything is written, with what to do."""
    manifest = manifests.Manifest("9.9", 7, migrations, ())
    place.put(manifests.NAME, manifests.to_json(manifest))
    with opened(store) as engine:
        with pytest.raises(RejectedError) as caught:
            restore_backup(engine, place)
        assert caught.value.code == code
        assert migrate(engine) == shipped()


def test_a_backup_of_an_older_schema(store: Store, place: Folder, tmp_path: Path) -> None:
    """Its tables are made as they were, filled, and then migrated."""
    with opened(store) as engine:
        apply(engine, [one for one in shipped() if one.number <= 3])
        manifest = take_backup(engine, place, 7)
        assert manifest.schema == 3
    with opened(EmbeddedStore(tmp_path / "restored")) as engine:
        restore_backup(engine, place)
        assert pending(engine) == []


def test_a_database_without_tables_is_no_database(store: Store, place: Folder) -> None:
    """Nothing is backed up by mistake."""
    with opened(store) as engine, pytest.raises(RejectedError, match="it has no tables"):
        take_backup(engine, place, 7)
