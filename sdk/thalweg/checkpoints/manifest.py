"""The files of a checkpoint: their paths, sizes and digests, and what they may be. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from thalweg.errors import InputError
from thalweg.values import shorten
from thalweg.wire import limits

SIZE_MAX_BYTES: Final = (1 << 63) - 1
DIGEST_PREFIX: Final = "sha256:"
UNKNOWN_DIGEST: Final = ""

_HEX: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file. `path` is relative to the checkpoint's URI, with "/" between its parts, and not quoted."""

    path: str
    size_bytes: int = 0  # 0: empty, or not known
    digest: str = UNKNOWN_DIGEST

    def as_json(self) -> dict[str, Any]:
        """As it stands in records and answers."""
        return {"path": self.path, "size_bytes": self.size_bytes, "digest": self.digest}


def check_path(path: object) -> str:
    """A path that stays below where it is used. Raises InputError with what is wrong with it."""
    if not isinstance(path, str):
        raise InputError(f"path {shorten(path)} is a {type(path).__name__}, not text")
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise InputError(f"path {shorten(path)} is not valid UTF-8") from None
    if not 1 <= size <= limits.CHECKPOINT_PATH_MAX_BYTES:
        limit = limits.CHECKPOINT_PATH_MAX_BYTES
        raise InputError(f"path {shorten(path)} has {size} bytes; 1 to {limit} are allowed")
    if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise InputError(f"path {shorten(path)} is not a plain relative path, such as model/part-0.safetensors")
    return path


def check_size(size_bytes: object) -> int:
    """A number of bytes; None is 0, unknown. Raises InputError."""
    if size_bytes is None:
        return 0
    if isinstance(size_bytes, bool) or not hasattr(size_bytes, "__index__"):
        raise InputError(f"size {shorten(size_bytes)} is not a whole number of bytes")
    size = size_bytes.__index__()
    if not 0 <= size <= SIZE_MAX_BYTES:
        raise InputError(f"size {shorten(size_bytes)} is not within 0..2^63-1 bytes")
    return int(size)


def check_digest(digest: object) -> str:
    """A SHA-256 as "sha256:<hex>", from this or from the digits alone; None or "" is unknown. Raises InputError."""
    if digest is None or digest == "":
        return UNKNOWN_DIGEST
    digits = digest.lower().removeprefix(DIGEST_PREFIX) if isinstance(digest, str) else ""
    if not _HEX.fullmatch(digits):
        raise InputError(f"digest {shorten(digest, 100)} is not sha256: and 64 hexadecimal digits")
    return DIGEST_PREFIX + digits


def digest_of(files: Iterable[ManifestFile]) -> str:
    """The digest of a folder: the SHA-256 over the lines that `sha256sum` prints of its files, sorted by path.

    cd FOLDER && find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum -- | sha256sum
    """
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path.encode()):
        path = file.path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        mark = "\\" if path != file.path else ""  # as sha256sum marks a line with an escaped name
        digest.update(f"{mark}{file.digest.removeprefix(DIGEST_PREFIX)}  {path}\n".encode())
    return DIGEST_PREFIX + digest.hexdigest()


def check_files(files: Sequence[ManifestFile]) -> None:
    """That no two have the same place, and that there are not too many. Raises InputError."""
    if len(files) > limits.CHECKPOINT_FILES_MAX:
        raise InputError(f"it has {len(files)} files, over {limits.CHECKPOINT_FILES_MAX}. Pack them into fewer")
    seen: set[str] = set()
    for file in files:
        if file.path in seen:
            raise InputError(f"path {shorten(file.path)} is there twice")
        seen.add(file.path)
