"""What lies on this host's disks: URIs of paths, sizes, lists of files. Reads no content."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

from thalweg.checkpoints.manifest import ManifestFile, check_path
from thalweg.errors import InputError
from thalweg.values import shorten
from thalweg.wire import limits

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_S3: Final = re.compile(r"s3://[^/]+/[^/].*", re.DOTALL)

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a checkpoint lies, and what is known of it without reading it."""

    uri: str
    size_bytes: int = 0
    files: tuple[ManifestFile, ...] = ()
    problem: str = ""
    """Why the manifest of a folder that is here could not be taken."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to be read. `path`: relative to the folder that was listed; of a single file its name."""

    path: str
    source: Path
    size_bytes: int
    mtime_ns: int


def look(place: PathLike, *, sizes: bool, files: bool) -> Place:
    """The place that a URI or local path names; if it is on this host, the size of a file, or a folder's `files`.

    Local paths become file:// URIs; those of folders end with "/". Raises InputError.
    """
    given = os.fspath(place)
    if not isinstance(given, str):
        raise InputError(f"uri {shorten(place)} is not text")
    path = file_path(given)
    if path is None:
        return Place(check_uri(given))
    uri = path.as_uri()
    try:
        found = path.stat()
    except OSError:  # it may lie on another host, or be written later
        return Place(check_uri(uri + "/" if given.endswith("/") else uri))
    if not stat.S_ISDIR(found.st_mode):
        return Place(check_uri(uri), found.st_size if sizes else 0)
    uri = check_uri(uri.rstrip("/") + "/")
    if not files:
        return Place(uri)
    try:
        listed = tuple(ManifestFile(file.path, file.size_bytes) for file in list_files(path, only_inside=False))
    except (InputError, OSError) as error:
        return Place(uri, problem=str(error))
    return Place(uri, sum(file.size_bytes for file in listed), listed)


def check_uri(uri: str) -> str:
    """Raises InputError for a URI that cannot be kept."""
    try:
        size = len(uri.encode())
    except UnicodeEncodeError:
        raise InputError(f"uri {shorten(uri)} is not valid UTF-8") from None
    if not 1 <= size <= limits.CHECKPOINT_URI_MAX_BYTES:
        raise InputError(f"uri {shorten(uri)} has {size} bytes; 1 to {limits.CHECKPOINT_URI_MAX_BYTES} are allowed")
    if not uri.isprintable():
        raise InputError(f"uri {shorten(uri)} has control characters")
    if uri.startswith("s3://") and not _S3.fullmatch(uri):
        raise InputError(f"uri {shorten(uri)} has no bucket or no key: wanted s3://BUCKET/KEY")
    return uri


def file_path(place: str) -> Path | None:
    """The absolute path that a local path or a file:// URI names; None for another scheme. Raises InputError."""
    scheme = _SCHEME.match(place)
    if scheme is None:
        if not place or "\0" in place:
            raise InputError(f"uri {shorten(place)} is neither a URI nor a path")
        return Path(os.path.abspath(Path(place).expanduser()))
    if scheme[1].lower() != "file":
        return None
    text = place[len("file://") :].removeprefix("localhost")
    if not text.startswith("/"):
        raise InputError(f"uri {shorten(place)} names no absolute path: wanted file:///PATH")
    path = os.fsdecode(unquote_to_bytes(text))
    if "\0" in path:
        raise InputError(f"uri {shorten(place)} names no path")
    return Path(os.path.abspath(path))


def list_files(root: Path, *, only_inside: bool) -> list[LocalFile]:
    """The files below a folder, sorted by path; empty folders are not kept. Links to files are followed.

    With `only_inside`, links that lead out of the folder are refused; links to folders always are, and what
    is neither file nor folder. Raises InputError, OSError.
    """
    top = os.path.realpath(root)
    files: list[LocalFile] = []
    for folder, folders, names in os.walk(top, onerror=_raise):
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                path = os.path.relpath(os.path.join(folder, name), top)
                raise InputError(f"{shorten(path)} is a link to a folder. Remove it, or take that folder itself")
        for name in names:
            if len(files) == limits.CHECKPOINT_FILES_MAX:
                raise InputError(f"it has more than {limits.CHECKPOINT_FILES_MAX} files. Pack them into fewer")
            files.append(_list_file(Path(folder, name), top, only_inside=only_inside))
    return sorted(files, key=lambda file: file.path)


def _raise(error: OSError) -> None:
    raise error


def _list_file(source: Path, top: str, *, only_inside: bool) -> LocalFile:
    path = check_path(os.path.relpath(source, top))
    if source.is_symlink():
        target = os.path.realpath(source)
        if only_inside and os.path.commonpath([top, target]) != top:
            raise InputError(f"{shorten(path)} is a link that leads outside, to {target}. Replace it by the file")
        if not os.path.exists(target):
            raise InputError(f"{shorten(path)} is a link to {target}, which is not there")
    return describe_file(source, path)


def describe_file(source: Path, path: str) -> LocalFile:
    """A file as it is now. Raises InputError where it is none, OSError."""
    found = source.stat()
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{shorten(path)} is neither a file nor a folder")
    return LocalFile(path, source, found.st_size, found.st_mtime_ns)
