"""Paths, sizes and digests of files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from thalweg.checkpoints.local import list_files
from thalweg.checkpoints.manifest import ManifestFile, check_digest, check_files, check_path, check_size, digest_of
from thalweg.errors import InputError
from thalweg.wire import limits

HEX = "ab" * 32


@pytest.mark.parametrize("path", ["a", "a/b.pt", "..a", "a..", ".hidden", "a b", "größe", "a\\b", "x" * 1024])
def test_good_paths(path: str) -> None:
    """Plain relative paths are taken as they are."""
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/./b", "a\0b", "\udc80", 7, None, "x" * 1025]
)
def test_bad_paths(path: object) -> None:
    """Nothing that could leave the folder is taken."""
    with pytest.raises(InputError, match="path"):
        check_path(path)


@pytest.mark.parametrize(
    ("given", "kept"), [(None, ""), ("", ""), (HEX, f"sha256:{HEX}"), (f"SHA256:{HEX.upper()}", f"sha256:{HEX}")]
)
def test_digests(given: str | None, kept: str) -> None:
    """A digest is kept with its name, in small letters."""
    assert check_digest(given) == kept


@pytest.mark.parametrize("digest", ["md5:" + HEX, HEX[:-1], HEX + "0", "g" * 64, 7, b"ab"])
def test_bad_digests(digest: object) -> None:
    """Other algorithms and lengths are refused."""
    with pytest.raises(InputError, match="digest"):
        check_digest(digest)


@pytest.mark.parametrize("size", [-1, 1 << 63, 1.5, "7", True])
def test_bad_sizes(size: object) -> None:
    """Sizes are whole numbers that fit in 63 bits."""
    with pytest.raises(InputError, match="size"):
        check_size(size)


def test_manifest_limits() -> None:
    """A path may be there once, and files as many as the protocol takes."""
    with pytest.raises(InputError, match="twice"):
        check_files([ManifestFile("a"), ManifestFile("b"), ManifestFile("a")])
    with pytest.raises(InputError, match=f"over {limits.CHECKPOINT_FILES_MAX}"):
        check_files([ManifestFile(str(number)) for number in range(limits.CHECKPOINT_FILES_MAX + 1)])


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs coreutils")
def test_digest_of_a_folder_is_that_of_coreutils(tmp_path: Path) -> None:
    """The documented command computes the digest of a folder, whatever its files are called."""
    names = ["b", "a/c", "a-b", "a.pt", ".hidden", "größe", "back\\slash", "new\nline", "-n", "Z"]
    manifest = []
    for number, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode() * number)
    for file in list_files(tmp_path, only_inside=True):
        told = subprocess.run(["sha256sum"], input=file.source.read_bytes(), capture_output=True, check=True).stdout
        manifest.append(ManifestFile(file.path, file.size_bytes, f"sha256:{told[:64].decode()}"))
    command = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum -- | sha256sum"
    told = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=True).stdout
    assert digest_of(reversed(manifest)) == f"sha256:{told[:64].decode()}"
