"""Names of objects: any text as one level of a key, and back from URIs. Pure.

Quoted as =XX, not as %XX: a key is part of a URI, where percent signs would be quoted again, and AWS names
"%" among the characters to avoid.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from typing import Final
from urllib.parse import quote, unquote, unquote_to_bytes

from thalweg_tracker.errors import RejectedError

LEVEL_MAX_CHARS: Final = 200
"""File systems take 255 bytes."""
KEY_MAX_BYTES: Final = 1024 - 257
"""S3's limit, less the longest prefix."""

_UNQUOTED: Final = re.compile(rb"[A-Za-z0-9_.-]")
_DIGEST_CHARS: Final = 32
_SLASHES: Final = re.compile(r"(/\.?)+/")
_LOCAL: Final = re.compile(r"^file:/(localhost/)?", re.IGNORECASE)


def join_key(parts: tuple[str, ...]) -> str:
    """Levels joined by "/". An empty last part makes it end so. Raises RejectedError "bad_key", "key_too_long"."""
    if not all(parts[:-1]) or parts in ((), ("",)):
        raise RejectedError("bad_key", f"cannot name an object after {parts!r}: a part of its name is empty")
    key = "/".join([quoted_level(part) if part else "" for part in parts])
    if len(key) > KEY_MAX_BYTES:
        raise RejectedError("key_too_long", f"the key {key[:100]} .. has {len(key)} bytes of {KEY_MAX_BYTES}")
    return key


def quoted_level(text: str) -> str:
    """A text as one level: never "", "." or "..", never hidden, no slash, at most LEVEL_MAX_CHARS plain letters."""
    raw = text.encode("utf-8", "surrogatepass")
    letters = [chr(byte) if _UNQUOTED.match(bytes([byte])) else f"={byte:02X}" for byte in raw]
    if letters[0] == ".":
        letters[0] = "=2E"
    quoted = "".join(letters)
    if len(quoted) <= LEVEL_MAX_CHARS:
        return quoted
    digest = hashlib.sha256(raw).hexdigest()[:_DIGEST_CHARS]
    return f"{quoted[: LEVEL_MAX_CHARS - _DIGEST_CHARS - 2]}=~{digest}"  # quoting makes no "=~"


def is_plain(key: str) -> bool:
    """Whether each level is one: not empty but the last, not "." or "..", and there is no NUL."""
    *folders, name = key.split("/")
    return "\0" not in key and not {"", ".", ".."} & set(folders) and name not in (".", "..") and key != ""


def file_uri(path: str) -> str:
    """The file:// URI of an absolute path, as `pathlib` writes it but with "=" as it is."""
    return "file://" + quote(path.encode("utf-8", "surrogateescape"), safe="/=")


def file_path(uri: str) -> str | None:
    """The absolute path of a file:// URI, decoded once; None if it is none, or its levels are not plain."""
    if not uri.startswith("file:///"):
        return None
    raw = uri.removeprefix("file://").encode("utf-8", "surrogatepass")
    path = unquote_to_bytes(raw).decode("utf-8", "surrogateescape")
    return path if is_plain(path[1:]) else None


def canonical(uri: str) -> str:
    """The one spelling of a file:// URI that stores take; others as they are. `Path.as_uri` writes "=" as %3D."""
    path = file_path(uri)
    return uri if path is None else file_uri(path)


def comparable(uri: str) -> str:
    """A form that is the same for all spellings of one place, and only good for comparing.

    Different places of S3 may have the same: what is compared in order to spare it may be taken for too much, never
    for too little. sql/checkpoint_references.sql does the same, but for "..".
    """
    text = _SLASHES.sub("/", unquote(uri, errors="surrogateescape"))
    text = _LOCAL.sub("file:/", text)
    return f"{posixpath.normpath(text)}{'/' if text.endswith('/') else ''}" if "/.." in text else text


def s3_key(bucket: str, uri: str) -> str | None:
    """The key of an s3:// URI of this bucket, as it is; None if it is none, or its levels are not plain."""
    begin = f"s3://{bucket}/"
    key = uri.removeprefix(begin)
    return key if uri.startswith(begin) and is_plain(key) else None
