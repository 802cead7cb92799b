"""Signed URLs: good for what they were made for, until their time."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from thalweg_tracker.errors import ObjectStoreError, RejectedError
from thalweg_tracker.objects.signing import KEY_BYTES, check_signature, load_key, signature

KEY = bytes(range(KEY_BYTES))
GIVEN = signature(KEY, "PUT", ("uri", "upload", "1"), 100)


@pytest.mark.parametrize(
    ("key", "method", "subject", "expires_s", "given", "now_s", "code"),
    [
        (KEY, "PUT", ("uri", "upload", "1"), 100, GIVEN, 100, ""),
        (KEY, "PUT", ("uri", "upload", "1"), 100, GIVEN, 100.1, "url_expired"),
        (KEY, "PUT", ("uri", "upload", "1"), 200, GIVEN, 0, "bad_signature"),
        (KEY, "PUT", ("uri", "upload", "2"), 100, GIVEN, 0, "bad_signature"),
        (KEY, "PUT", ("uri", "upload1", ""), 100, GIVEN, 0, "bad_signature"),
        (KEY, "PUT", ("uri", "upload"), 100, GIVEN, 0, "bad_signature"),
        (KEY, "GET", ("uri", "upload", "1"), 100, GIVEN, 0, "bad_signature"),
        (KEY[::-1], "PUT", ("uri", "upload", "1"), 100, GIVEN, 0, "bad_signature"),
        (KEY, "PUT", ("uri", "upload", "1"), 100, "", 0, "bad_signature"),
        (KEY, "PUT", ("uri", "upload", "1"), 100, "é", 0, "bad_signature"),
        (KEY, "PUT", ("uri", "upload", "1"), 100, GIVEN.upper(), 0, "bad_signature"),
    ],
)
def test_signatures(
    key: bytes, method: str, subject: tuple[str, ...], expires_s: int, given: str, now_s: float, code: str
) -> None:
    """A change of anything is seen, before the time is looked at."""
    try:
        check_signature(key, method, subject, expires_s, given, now_s)
        found = ""
    except RejectedError as error:
        found = error.code
    assert found == code


def test_the_key_is_kept_for_its_owner(tmp_path: Path) -> None:
    """Made once, mode 0600, also if someone has opened it to others since."""
    path = tmp_path / "url.key"
    key = load_key(path)
    assert len(key) == KEY_BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert load_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["url.key"]


def test_processes_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    """The first one made stays."""
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(load_key, [tmp_path / "url.key"] * 32))) == 1


def test_a_damaged_key_is_told(tmp_path: Path) -> None:
    """It is not replaced in silence: URLs given out would end."""
    (tmp_path / "url.key").write_bytes(b"short")
    with pytest.raises(ObjectStoreError, match="5 bytes, not 32"):
        load_key(tmp_path / "url.key")
