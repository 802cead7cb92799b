"""The embedded engine's folder: one owner at a time, and what a killed owner leaves."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine_owner import ROWS, owning
from tests.support.engines import opened
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.errors import EngineError, EngineOwnedError
from thalweg_tracker.model.settings import EmbeddedStore


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def engine(data_dir: Path) -> Iterator[EmbeddedEngine]:
    engine = EmbeddedEngine(data_dir)
    yield engine
    engine.close()


def test_a_second_process_is_told_who_owns_the_folder(data_dir: Path) -> None:
    """Opening a folder that another process has names that process, where it serves, and a way out."""
    with owning(data_dir) as owner, pytest.raises(EngineOwnedError) as refused:
        EmbeddedEngine(data_dir)
    for word in (str(data_dir), f"process {owner.pid} ", "http://127.0.0.1:7412", "--data"):
        assert word in str(refused.value)


def test_a_killed_owner_leaves_its_inserts(data_dir: Path) -> None:
    """After `kill -9` the folder can be opened at once, and every insert that had returned is there."""
    with owning(data_dir) as owner:
        owner.kill()
        owner.wait()
        with opened(EmbeddedStore(data_dir)) as engine:
            assert engine.query("SELECT count() AS n, sum(x) AS s FROM t").to_pylist() == [
                {"n": ROWS, "s": ROWS * (ROWS - 1) // 2}
            ]


def test_a_second_engine_in_this_process(engine: EmbeddedEngine, data_dir: Path) -> None:
    """The owner itself opens its folder once; the refusal leaves the first engine as it was."""
    with pytest.raises(EngineOwnedError, match=f"process {os.getpid()} "):
        EmbeddedEngine(data_dir)
    assert engine.query("SELECT 1 AS x")["x"].to_pylist() == [1]


def test_another_folder_while_one_is_open(engine: EmbeddedEngine, tmp_path: Path) -> None:
    """A process has one folder open at a time; another one is refused, stays unowned, and opens afterwards."""
    other = EmbeddedStore(tmp_path / "other")
    with pytest.raises(EngineError):
        EmbeddedEngine(other.data_dir)
    with owning(other.data_dir):
        pass
    engine.query("SELECT 1")


def test_folders_one_after_the_other(tmp_path: Path) -> None:
    """Closing an engine lets go of everything: its folder, and the engine behind it."""
    for name in ("a", "b", "a"):
        with opened(EmbeddedStore(tmp_path / name)) as engine:
            engine.execute(f"CREATE TABLE IF NOT EXISTS {name} (x UInt64) ENGINE = MergeTree ORDER BY x")
            names = engine.query("SELECT name FROM system.tables WHERE database = currentDatabase()")
            assert names["name"].to_pylist() == [name]


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """A path that is a file is refused with its name and the reason."""
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(EngineError, match=f"{file}.*exists"):
        EmbeddedEngine(file)


def test_a_folder_that_chdb_cannot_name(tmp_path: Path) -> None:
    """A path with a question mark is refused, and nothing is made elsewhere: chDB takes what follows as settings."""
    with pytest.raises(EngineError, match="question mark"):
        EmbeddedEngine(tmp_path / "which?" / "data")
    assert not list(tmp_path.iterdir())


def test_merges_yield(engine: EmbeddedEngine) -> None:
    """The engine takes the setting by which merges leave the processor to inserts and queries."""
    asked = "SELECT value, changed FROM system.server_settings WHERE name = 'os_threads_nice_value_merge_mutate'"
    [found] = engine.query(asked).to_pylist()
    assert int(found["value"]) > 0
    assert found["changed"]


def test_the_folder_is_private(engine: EmbeddedEngine, data_dir: Path) -> None:
    """A folder that the engine makes is for its user only."""
    assert data_dir.stat().st_mode & 0o077 == 0
