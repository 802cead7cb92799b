"""Names of the files, the identity, and the lock of the sender."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.spools import identity, new_folder
from thalweg.spool import layout


def test_identity_comes_back(tmp_path: Path) -> None:
    """What `create_folder` writes, `read_identity` reads."""
    written = identity(project="π", rank=65_535, primary=False, mode="offline")
    folder = layout.create_folder(tmp_path / "deep" / "spool", written)
    assert layout.read_identity(folder) == written
    assert folder.name == written.writer


@pytest.mark.parametrize(
    "origin",
    [
        layout.Origin("start", attempt="é"),
        layout.Origin("fork", "parent", None, -1.5),
        layout.Origin("fork", "parent", 0, 5.0),
        layout.Origin("rewind", step=5.0, attempt="x", branch=3),
        layout.Origin("rewind", attempt="x"),
    ],
)
def test_origin_comes_back(tmp_path: Path, origin: layout.Origin) -> None:
    """Branches that are not known, infinities, and the time of the beginning."""
    written = replace(identity(), origin=origin, began_us=1_700_000_000_000_000)
    assert layout.read_identity(layout.create_folder(tmp_path, written)) == written


def test_folders_of_older_versions_are_read(tmp_path: Path) -> None:
    """They say nothing of an origin."""
    folder = new_folder(tmp_path)
    document = json.loads((folder / layout.IDENTITY_FILE).read_text())
    for later in ("origin", "began_us"):
        del document[later]
    (folder / layout.IDENTITY_FILE).write_text(json.dumps(document))
    found = layout.read_identity(folder)
    assert (found.origin, found.began_us, found.writer) == (None, 0, folder.name)


@pytest.mark.parametrize("origin", [7, "fork", [1], {"no": "such field"}, {}])
def test_what_is_no_origin_is_refused(tmp_path: Path, origin: object) -> None:
    """A ValueError, as for any other damage: a fork is never delivered as a plain run."""
    folder = new_folder(tmp_path)
    document = json.loads((folder / layout.IDENTITY_FILE).read_text())
    (folder / layout.IDENTITY_FILE).write_text(json.dumps({**document, "origin": origin}))
    with pytest.raises(ValueError, match="cannot read"):
        layout.read_identity(folder)


def test_folder_is_private(tmp_path: Path) -> None:
    """Only the user may look into a writer's folder."""
    assert new_folder(tmp_path).stat().st_mode & 0o777 == 0o700


def test_folder_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that changes its working directory still finds its spool."""
    monkeypatch.chdir(tmp_path)
    assert new_folder(Path("spool")).is_absolute()


@pytest.mark.parametrize(
    "document",
    ["", "[]", "7", "null", "{}", '{"format": 2}', '{"format": 1}', '{"format": 1, "no": "such field"}', "\x00" * 10],
)
def test_what_is_no_identity_is_refused(tmp_path: Path, document: str) -> None:
    """A damaged or foreign writer.json is a ValueError."""
    (tmp_path / layout.IDENTITY_FILE).write_text(document)
    with pytest.raises(ValueError, match=r"."):
        layout.read_identity(tmp_path)


def test_identity_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    """A folder without identity is told apart from a damaged one."""
    with pytest.raises(FileNotFoundError):
        layout.read_identity(tmp_path)


def test_folders_come_oldest_first(tmp_path: Path) -> None:
    """Writers' folders are listed by age; other folders are none."""
    folders = [new_folder(tmp_path) for _ in range(5)]
    for age, folder in enumerate(folders):
        os.utime(folder / layout.IDENTITY_FILE, (100 - age, 100 - age))
    (tmp_path / layout.QUARANTINE_FOLDER).mkdir()
    assert layout.writer_folders(tmp_path) == folders[::-1]
    assert layout.writer_folders(tmp_path / "nowhere") == []


def test_segment_numbers_ignore_other_files(tmp_path: Path) -> None:
    """Only whole numbers with the suffix are segments; they come ascending."""
    for name in ("00000010.seg", "00000009.seg", "x.seg", "00000011.seg.draft", "state", ".seg"):
        (tmp_path / name).touch()
    assert layout.segment_numbers(tmp_path) == [9, 10]
    assert layout.segment_path(tmp_path, 9).name == "00000009.seg"


def test_write_atomically_replaces_and_leaves_nothing(tmp_path: Path) -> None:
    """The file has the new text, and no draft stays."""
    path = tmp_path / "x.json"
    layout.write_atomically(path, "old")
    layout.write_atomically(path, json.dumps({"new": 1}))
    assert path.read_text() == '{"new": 1}'
    assert list(tmp_path.iterdir()) == [path]


def test_one_sender_at_a_time(tmp_path: Path) -> None:
    """A second taker of the lock is told no; after the first has left it is told yes."""
    with layout.sender_lock(tmp_path) as first, layout.sender_lock(tmp_path) as second:
        assert (first, second) == (True, False)
    with layout.sender_lock(tmp_path) as third:
        assert third
