"""A folder as a place for a backup: files are whole or not there, and what fails says what to do."""

from pathlib import Path

import pytest

from thalweg_tracker.care.places import Folder, open_place
from thalweg_tracker.errors import NotFoundError, ObjectStoreError, SettingError


def test_files(tmp_path: Path) -> None:
    """The folder is made with the first one; only its owner may read it."""
    place = Folder(tmp_path / "a" / "b")
    assert place.is_empty()
    assert not (tmp_path / "a").exists()
    place.put("points/1", b"one")
    place.put("points/1", b"another")
    assert (place.get("points/1"), place.size_bytes("points/1"), place.size_bytes("points/2")) == (b"another", 7, None)
    assert not place.is_empty()
    assert [path.name for path in (tmp_path / "a/b/points").iterdir()] == ["1"]
    assert (tmp_path / "a/b/points/1").stat().st_mode & 0o777 == 0o600
    with pytest.raises(NotFoundError):
        place.get("points/2")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ObjectStoreError, match=r"cannot write to .*: Not a directory\. Look at its permissions"):
        Folder(tmp_path / "file" / "below").put("x", b"")
    with pytest.raises(ObjectStoreError, match="cannot look at"):
        Folder(tmp_path / "file").is_empty()


@pytest.mark.parametrize("text", ["s3://bucket", "s3://bucket/", "s3://b/x", "gs://bucket/x", "s3://bucket/../x"])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(SettingError, match="TO="):
        open_place("TO", text, {})
