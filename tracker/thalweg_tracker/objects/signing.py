"""URLs that open one thing until a time: HMAC-SHA256 over the method, what is meant, and the time."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from thalweg_tracker.errors import ObjectStoreError, RejectedError

KEY_BYTES: Final = 32


def signature(key: bytes, method: str, subject: tuple[str, ...], expires_s: int) -> str:
    """64 hex digits. `subject`: all that the URL is to be good for."""
    text = json.dumps([method, *subject, expires_s])  # a list in JSON has one meaning, joined texts have several
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def check_signature(
    key: bytes, method: str, subject: tuple[str, ...], expires_s: int, given: str, now_s: float
) -> None:
    """Raises RejectedError "bad_signature", "url_expired"."""
    if not hmac.compare_digest(signature(key, method, subject, expires_s).encode(), given.encode()):
        raise RejectedError("bad_signature", "the signature of the URL is wrong", "Use the URL as it was given.")
    if now_s > expires_s:
        raise RejectedError("url_expired", "the URL has expired", "Ask the server for a new one.")


def load_key(path: Path) -> bytes:
    """The key that this file holds, made if there is none; only its owner may read it. Raises ObjectStoreError."""
    try:
        if not path.exists():
            _make_key(path)
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        key = path.read_bytes()
    except OSError as error:
        raise ObjectStoreError(f"cannot use the key of URLs {path}: {error.strerror}") from error
    if len(key) != KEY_BYTES:
        raise ObjectStoreError(
            f"cannot use the key of URLs {path}: it has {len(key)} bytes, not {KEY_BYTES}. Delete it."
        )
    return key


def _make_key(path: Path) -> None:
    """Whole or not at all; of several processes at once, the first one's stays."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, secrets.token_bytes(KEY_BYTES))
        os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.close(descriptor)
        draft.unlink()
