"""Names of objects: any text is one level, and a URI is read once, strictly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg_tracker.objects.keys import (
    LEVEL_MAX_CHARS,
    canonical,
    comparable,
    file_path,
    file_uri,
    is_plain,
    quoted_level,
    s3_key,
)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("model.pt", "model.pt"),
        ("step-1_000", "step-1_000"),
        ("a b", "a=20b"),
        ("a/b", "a=2Fb"),
        ("a=20b", "a=3D20b"),
        (".", "=2E"),
        ("..", "=2E."),
        (".hidden", "=2Ehidden"),
        ("ä", "=C3=A4"),
        ("\0", "=00"),
        ("%2e", "=252e"),
    ],
)
def test_levels(text: str, quoted: str) -> None:
    """Letters, digits and -_. as they are, but for a dot at the begin."""
    assert quoted_level(text) == quoted


@given(st.lists(st.text(min_size=1), min_size=2, max_size=2, unique=True))
def test_levels_are_apart(texts: list[str]) -> None:
    """Different texts are different levels, plain and short."""
    one, other = map(quoted_level, texts)
    assert one != other
    assert is_plain(one)
    assert "/" not in one
    assert len(one) <= LEVEL_MAX_CHARS


@given(st.text(min_size=LEVEL_MAX_CHARS), st.text(min_size=1))
def test_long_levels_are_cut_and_apart(text: str, more: str) -> None:
    """They end in their hash; a text that looks like a cut level is not taken for it."""
    cut = quoted_level(text + more)
    assert len(cut) <= LEVEL_MAX_CHARS
    assert cut != quoted_level(text)
    assert quoted_level(cut) != cut or cut == text + more


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4))
def test_paths_and_back(levels: list[bytes]) -> None:
    """Any path that a file can have, also one that is not UTF-8, or none if its levels are not plain."""
    path = "/" + b"/".join(levels).decode("utf-8", "surrogateescape")
    assert file_path(file_uri(path)) == (path if is_plain(path[1:]) else None)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///a/b", "/a/b"),
        ("file:///a/b/", "/a/b/"),
        ("file:///a%20b", "/a b"),
        ("file:///a b", "/a b"),
        ("file:///a%2520b", "/a%20b"),
        ("file:///a=2F", "/a=2F"),
        ("file:///a#1?x", "/a#1?x"),
        ("file:///", None),
        ("file://host/a", None),
        ("file:/a", None),
        ("FILE:///a", None),
        ("/a", None),
        ("file:///a/../b", None),
        ("file:///a/%2e%2E/b", None),
        ("file:///a/..", None),
        ("file:///a/.%2e", None),
        ("file:///a%2f..%2fb", None),
        ("file:///a/./b", None),
        ("file:///a//b", None),
        ("file:////a", None),
        ("file:///a%00b", None),
        ("file:///a\0b", None),
        ("file:///\ud800", "/\udced\udca0\udc80"),
    ],
)
def test_files(uri: str, path: str | None) -> None:
    """Decoded once; what could leave its place is no path, however it is written."""
    assert file_path(uri) == path


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        ("s3://b/a/c", "a/c"),
        ("s3://b/a/", "a/"),
        ("s3://b/a%20c", "a%20c"),
        ("s3://b/%2e%2e/c", "%2e%2e/c"),
        ("s3://b/", None),
        ("s3://b", None),
        ("s3://c/a", None),
        ("s3://bb/a", None),
        ("s3://b/../c", None),
        ("s3://b/a//c", None),
        ("S3://b/a", None),
    ],
)
def test_keys_of_s3(uri: str, key: str | None) -> None:
    """As they are; levels that a proxy on the way could fold are refused."""
    assert s3_key("b", uri) == key


@pytest.mark.parametrize(
    ("uri", "spelling"),
    [
        ("file:///a%3D20/%62", "file:///a=20/b"),
        ("file:///a b/", "file:///a%20b/"),
        ("file:///a/../b", "file:///a/../b"),
        ("s3://b/a%3D", "s3://b/a%3D"),
    ],
)
def test_the_one_spelling(uri: str, spelling: str) -> None:
    """Of files; what is no plain path, or of another store, stays as it is."""
    assert canonical(uri) == spelling


@pytest.mark.parametrize(
    "uri",
    [
        "file:///a=20/b",
        "file:///a%3D20/b",
        "file:///a%3d20/%62",
        "file://localhost/a=20/b",
        "FILE:///a=20/b",
        "file:/a=20/b",
        "file:////a=20//b",
        "file:///./a=20/././b",
        "file:///a=20/x/../b",
        "file:///%2e/a=20/b",
    ],
)
def test_spellings_of_one_place(uri: str) -> None:
    """All are the same when what must be spared is looked for."""
    assert comparable(uri) == "file:/a=20/b"
    assert comparable(f"{uri}/") == "file:/a=20/b/"
