"""What lies on this host: URIs, sizes, lists of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from thalweg.checkpoints.local import Place, file_path, list_files, look
from thalweg.checkpoints.manifest import ManifestFile
from thalweg.errors import InputError


@pytest.mark.parametrize(
    "uri", ["s3://bucket/key", "s3://bucket/a//b?x=1#y", "gs://b/k", "hf://org/model@main", "s3+http://x/y", "az://c/"]
)
def test_other_schemes_are_kept(uri: str) -> None:
    """A URI of another scheme is kept as it is."""
    assert look(uri, sizes=True, files=True) == Place(uri)


@pytest.mark.parametrize(
    "uri", ["", "s3://", "s3://bucket", "s3://bucket/", "file://host/x", "file://x", "gs://a\nb", "gs://\udc80", "a\0b"]
)
def test_refused(uri: str) -> None:
    """What names nothing is refused."""
    with pytest.raises(InputError, match="uri"):
        look(uri, sizes=True, files=True)


def test_uri_limit() -> None:
    """4096 bytes are taken, one more is not."""
    assert look("gs://b/" + "x" * 4089, sizes=False, files=False)
    with pytest.raises(InputError, match="4097 bytes"):
        look("gs://b/" + "x" * 4090, sizes=False, files=False)


def test_local_paths_become_absolute_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative, with "~" or "..", as text or as a path: always the absolute file:// URI; a folder's ends with "/"."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ck pt").mkdir()
    (tmp_path / "a%b.pt").write_bytes(b"12345")
    file_uri, folder_uri = (tmp_path / "a%b.pt").as_uri(), (tmp_path / "ck pt").as_uri() + "/"
    for place in (
        "a%b.pt",
        "./x/../a%b.pt",
        "~/a%b.pt",
        Path("a%b.pt"),
        file_uri,
        file_uri.replace("://", "://localhost"),
    ):
        assert look(place, sizes=True, files=True) == Place(file_uri, 5)
        assert look(place, sizes=False, files=True) == Place(file_uri)
    for place in ("ck pt", "ck pt/", Path("ck pt"), folder_uri, folder_uri.rstrip("/")):
        assert look(place, sizes=True, files=True) == Place(folder_uri)
    assert look("later.pt", sizes=True, files=True).uri == (tmp_path / "later.pt").as_uri()
    assert look("later/", sizes=True, files=True).uri == (tmp_path / "later").as_uri() + "/"
    assert file_path(file_uri) == tmp_path / "a%b.pt"
    assert file_path("s3://bucket/key") is None


def test_folder_is_listed_with_sizes(tmp_path: Path) -> None:
    """A folder's files with their sizes, sorted; empty folders are not there; links count as their files."""
    blob = tmp_path / "blobs" / "1"
    blob.parent.mkdir()
    blob.write_bytes(b"123")
    folder = tmp_path / "ckpt"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "deep" / "er" / "x").write_bytes(b"12")
    (folder / "a").touch()
    (folder / "link").symlink_to("../blobs/1")
    files = (ManifestFile("a"), ManifestFile("deep/er/x", 2), ManifestFile("link", 3))
    assert look(folder, sizes=True, files=True) == Place(folder.as_uri() + "/", 5, files)
    assert look(folder, sizes=True, files=False) == Place(folder.as_uri() + "/")


def test_what_cannot_be_listed_is_told(tmp_path: Path) -> None:
    """A folder whose files cannot be listed is still a place."""
    (tmp_path / "fine").touch()
    (tmp_path / "bad\udc80name").touch()
    place = look(tmp_path, sizes=True, files=True)
    assert place.uri == tmp_path.as_uri() + "/"
    assert not place.files
    assert "UTF-8" in place.problem


@pytest.mark.parametrize(
    ("name", "target", "told"),
    [
        ("out", "../outside", "leads outside"),
        ("out", "/etc/hostname", "leads outside"),
        ("gone", "nothing", "not there"),
        ("up", ".", "link to a folder"),
        ("side", "real", "link to a folder"),
    ],
)
def test_bad_links_are_refused(tmp_path: Path, name: str, target: str, told: str) -> None:
    """For an upload, links must lead to files inside the folder."""
    (tmp_path / "outside").write_bytes(b"secret")
    folder = tmp_path / "ckpt"
    (folder / "real").mkdir(parents=True)
    (folder / "real" / "x").touch()
    (folder / name).symlink_to(target)
    with pytest.raises(InputError, match=told):
        list_files(folder, only_inside=True)


def test_link_inside_and_link_to_the_folder(tmp_path: Path) -> None:
    """A link to a file inside is that file; the folder itself may be named by a link."""
    folder = tmp_path / "ckpt"
    folder.mkdir()
    (folder / "x").write_bytes(b"12")
    (folder / "y").symlink_to("x")
    (tmp_path / "latest").symlink_to("ckpt")
    assert [(file.path, file.size_bytes) for file in list_files(tmp_path / "latest", only_inside=True)] == [
        ("x", 2),
        ("y", 2),
    ]


def test_pipes_are_refused(tmp_path: Path) -> None:
    """What is neither file nor folder is refused, not read for ever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        list_files(tmp_path, only_inside=True)
