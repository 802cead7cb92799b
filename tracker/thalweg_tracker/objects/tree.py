"""The files of a folder as objects: which URIs are in it, what lies there, putting and removing them.

No symbolic link below the folder is followed, so nothing outside is written, removed or downloaded. What is
outside may be looked at (`head`), where links are followed. Calls block; any thread may make them.
Where an OSError can come up, it is raised as ObjectStoreError, or ObjectStoreFullError.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Final

from thalweg_tracker.errors import ObjectStoreError, ObjectStoreFullError, RejectedError
from thalweg_tracker.objects import keys
from thalweg_tracker.objects.contract import ObjectInfo

_OWN: Final = ".thalweg"
_NOT_THERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


class Tree:
    """A folder of objects."""

    def __init__(self, folder: Path) -> None:
        self.root = os.path.abspath(folder).rstrip("/")
        self.own = Path(self.root, _OWN)
        """What is no object: the store's own files."""
        self._folders = threading.Lock()  # held while some are made, or removed for being empty

    def covers(self, uri: str) -> bool:
        """Whether it is an object of the folder, or a folder of them, in its one spelling. Pure.

        Under another one it could be deleted although it is pointed at under this one.
        """
        path = keys.file_path(uri)
        if path is None or keys.file_uri(path) != uri:
            return False
        return self._is_inside(path) and not self._is_own(path) and path != f"{self.root}/"

    def readable(self, uri: str) -> bool:
        """Whether it may be looked at. Pure."""
        path = keys.file_path(uri)
        return path is not None and not self._is_own(path)

    def _is_inside(self, path: str) -> bool:
        return path.startswith(f"{self.root}/")

    def _is_own(self, path: str) -> bool:
        return f"{path}/".startswith(f"{self.own}/")

    def object_path(self, uri: str) -> str:
        """The path of an object that is covered. Pure. Raises RejectedError "not_covered"."""
        path = keys.file_path(uri)
        if path is None or not self.covers(uri) or path.endswith("/"):
            where = f"the folder {self.root}"
            raise RejectedError("not_covered", f"{uri[:200]!r} is no object of {where}", "Take the URI that was given.")
        return path

    def first_level(self, uri: str) -> str:
        """The first level of the name of an object. Pure. Raises RejectedError "not_covered"."""
        return self.object_path(uri).removeprefix(f"{self.root}/").partition("/")[0]

    def head(self, uri: str) -> ObjectInfo | None:
        """See contract."""
        with self._looking(uri) as path:
            return _info(path)

    def list_objects(self, uri: str, limit: int) -> list[ObjectInfo]:
        """See contract."""
        if not uri.endswith("/") or not self.covers(uri):  # else anyone could read the names of all files here
            raise RejectedError("not_readable", f"cannot list {uri[:200]!r}: wanted a folder below {self.root}, with /")
        with self._looking(uri) as path:
            found = (_info(one, follow_links=False) for one in _walk(path.rstrip("/")) if not self._is_own(one))
            return list(islice((info for info in found if info), limit))

    def move_in(self, draft: Path, uri: str) -> None:
        """Makes a file the object, at once and for good. Raises RejectedError "bad_key", "not_covered"."""
        path = self.object_path(uri)
        folder = os.path.dirname(path)
        with self.failures("put the object at", path):
            try:
                self._refuse_links(path)
                with self._folders:
                    os.makedirs(folder, mode=0o700, exist_ok=True)
                    os.replace(draft, path)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                in_way = "a folder or file is in its way"
                raise RejectedError("bad_key", f"cannot put an object at {path}: {in_way}") from error
            for one in (folder, *map(str, Path(folder).parents)):
                if one.startswith(self.root):  # new levels are entries of the ones above
                    _sync_folder(one)

    def delete(self, uri: str) -> str:
        """Why it could not be deleted; empty if it is not there any more. Raises RejectedError "not_covered"."""
        path = self.object_path(uri)
        try:
            self._refuse_links(path)
            os.unlink(path)
        except OSError as error:
            return "" if error.errno in _NOT_THERE else f"cannot delete it: {error.strerror}"
        self._remove_empty(os.path.dirname(path))
        return ""

    def _remove_empty(self, folder: str) -> None:
        with self._folders:
            while len(folder) > len(self.root):
                try:
                    os.rmdir(folder)
                except OSError:
                    return  # something is in it
                folder = os.path.dirname(folder)

    @contextmanager
    def _looking(self, uri: str) -> Iterator[str]:
        """The path of what may be looked at. Raises RejectedError "not_readable"."""
        path = keys.file_path(uri)
        if path is None or not self.readable(uri):
            raise RejectedError("not_readable", f"cannot look at {uri[:200]!r}: wanted file:// and an absolute path")
        with self.failures("look at", path):
            if self._is_inside(path):
                self._refuse_links(path)
                yield path
                return
            try:
                yield path
            except PermissionError as error:
                raise RejectedError("not_readable", f"the server may not look at {path}") from error

    def _refuse_links(self, path: str) -> None:
        """Raises RejectedError if a level below the folder is a symbolic link; OSError."""
        place = self.root
        for level in path.removeprefix(self.root).strip("/").split("/"):
            place = f"{place}/{level}"
            try:
                is_link = stat.S_ISLNK(os.lstat(place).st_mode)
            except OSError as error:
                if error.errno in _NOT_THERE:
                    return
                raise
            if is_link:
                raise RejectedError("not_covered", f"cannot use {path}: {place} is a symbolic link")

    @contextmanager
    def failures(self, verb: str, what: str = "") -> Iterator[None]:
        """OSErrors as errors of the store."""
        try:
            yield
        except OSError as error:
            message = f"cannot {verb} {what or self.root}: {error.strerror} (objects are in the folder {self.root})"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise ObjectStoreFullError(f"{message}. Make room there; uploads can go on where they are.") from error
            raise ObjectStoreError(f"{message}. See to it that the server may use it.") from error


def _info(path: str, follow_links: bool = True) -> ObjectInfo | None:
    """None for what is no file. The etag is of time and size: reading a checkpoint takes minutes. Raises OSError."""
    try:
        status = os.stat(path, follow_symlinks=follow_links)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise
    if not stat.S_ISREG(status.st_mode):
        return None
    etag = f"{status.st_mtime_ns:x}-{status.st_size:x}"
    modified_at = datetime.fromtimestamp(status.st_mtime_ns // 1_000_000_000, timezone.utc)
    return ObjectInfo(keys.file_uri(path), status.st_size, etag, "", modified_at)


def _walk(folder: str) -> Iterator[str]:
    """Paths of files in the order of their keys, without following links. Lazy: a caller may stop early."""
    try:
        with os.scandir(folder or "/") as found:
            entries = [(f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name) for entry in found]
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in sorted(entries):
        if name.endswith("/"):
            yield from _walk(f"{folder}/{name[:-1]}")
        else:
            yield f"{folder}/{name}"


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
