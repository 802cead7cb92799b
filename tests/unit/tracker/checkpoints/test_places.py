"""Names of uploads and of files."""

from __future__ import annotations

import pytest

from thalweg_tracker.checkpoints.places import (
    UploadPlace,
    common_folder,
    file_uri,
    last_level,
    path_below,
    path_problem,
)

UPLOAD = UploadPlace("p", "r", 2, 100.0, "full", 3, "0" * 32)


def test_levels_of_an_upload() -> None:
    """Each part of the identity is one, the path's as well; without a path it is the folder."""
    begin = ("p", "r", "branch-2", "step-100", "full", "shard-3", "0" * 32)
    assert UPLOAD.levels("a/b.pt") == (*begin, "a", "b.pt")
    assert UPLOAD.levels() == (*begin, "")


@pytest.mark.parametrize(
    ("step", "told"), [(-0.0, "step-0"), (0.1, "step-0.1"), (1e22, "step-1e+22"), (-7.5, "step--7.5")]
)
def test_steps_in_names(step: float, told: str) -> None:
    """As short as they can be told apart."""
    assert UploadPlace("p", "r", 0, step, "full", 0, "u").levels()[3] == told


@pytest.mark.parametrize(
    ("path", "is_good"),
    [("a", True), ("a/b c/é", True), ("..a", True), ("", False), ("/a", False), ("a/", False), ("a/../b", False),
     ("./a", False), ("a\0", False), ("x" * 1024, True), ("x" * 1025, False), ("\ud800", True)],
)  # fmt: skip
def test_paths(path: str, is_good: bool) -> None:
    """Relative and plain."""
    assert (path_problem(path) == "") == is_good


@pytest.mark.parametrize(
    ("folder", "path", "uri"),
    [
        ("s3://b/f/", "a b/c%", "s3://b/f/a b/c%"),
        ("s3://b/f", "a", "s3://b/f/a"),
        ("file:///d%20e/", "a b/c%", "file:///d%20e/a%20b/c%25"),
    ],
)
def test_files_of_a_manifest(folder: str, path: str, uri: str) -> None:
    """Below the URI; quoted where the scheme is."""
    assert file_uri(folder, path) == uri
    assert path_below(f"{folder.rstrip('/')}/", uri) == path
    assert last_level(uri) == path.rpartition("/")[2]


def test_the_folder_that_some_have_in_common() -> None:
    """By whole levels."""
    assert common_folder(["s3://b/a1/x", "s3://b/a2/x"]) == "s3://b/"
