"""Where backups lie: a folder, or objects below a prefix of a bucket. A place holds one backup.

A file that was put is there whole, and survives a loss of power. Threads: any. Errors are ObjectStoreError.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from thalweg_tracker.errors import NotFoundError, ObjectStoreError, ObjectStoreFullError, SettingError
from thalweg_tracker.model.settings import EmbeddedStore, FileObjects, S3Objects, parse_objects
from thalweg_tracker.objects.s3 import S3Store

T = TypeVar("T")
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Place(Protocol):
    """A place for one backup."""

    def is_empty(self) -> bool:
        """Whether nothing is there."""

    def size_bytes(self, name: str) -> int | None:
        """Size of a file; None if it is not there."""

    def put(self, name: str, content: bytes) -> None:
        """Writes a file."""

    def get(self, name: str) -> bytes:
        """A file. Raises NotFoundError."""


def open_place(key: str, text: str, environ: Mapping[str, str]) -> AbstractContextManager[Place]:
    """The place that a text names, a folder or s3://bucket/prefix, open within `with`. Raises SettingError."""
    settings = parse_objects(key, text, environ, EmbeddedStore(Path()))
    assert settings is not None  # there is a store
    if isinstance(settings, FileObjects):
        return _folder(settings)
    if not settings.prefix:
        raise SettingError(key, text, "s3://bucket/prefix: each backup has a prefix of its own")
    return _bucket(settings)


@contextmanager
def _folder(settings: FileObjects) -> Iterator[Place]:
    yield Folder(settings.folder)


@contextmanager
def _bucket(settings: S3Objects) -> Iterator[Place]:
    with _Loop() as loop:
        store = loop.run(S3Store(replace(settings, prefix="")).__aenter__())  # which lists what lies below a prefix
        try:
            yield Bucket(store, settings, loop)
        finally:
            loop.run(store.__aexit__())


class Folder:
    """A folder of this host."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def is_empty(self) -> bool:
        """See Place."""
        with self._errors("look at"):
            return not self._path.exists() or not any(self._path.iterdir())

    def size_bytes(self, name: str) -> int | None:
        """See Place."""
        with self._errors("look at"):
            try:
                return (self._path / name).stat().st_size
            except FileNotFoundError:
                return None

    def put(self, name: str, content: bytes) -> None:
        """See Place."""
        target = self._path / name
        unfinished = target.with_name(target.name + ".part")
        with self._errors("write to"):
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(target)
            for folder in {target.parent, self._path, self._path.parent}:  # the last one's entry is the folder's own
                _sync(folder)

    def get(self, name: str) -> bytes:
        """See Place."""
        with self._errors("read"):
            try:
                return (self._path / name).read_bytes()
            except FileNotFoundError as error:
                raise NotFoundError("no_file", f"{self._path / name} is not there") from error

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kind, mend = ObjectStoreError, "Look at its permissions, or name another place."
            if error.errno in _FULL:
                kind, mend = ObjectStoreFullError, "Make room there, or name another place."
            raise kind(f"cannot {verb} {self._path}: {error.strerror}. {mend}") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Bucket:
    """Objects below a prefix."""

    def __init__(self, store: S3Store, settings: S3Objects, loop: _Loop) -> None:
        self._store = store
        self._settings = settings
        self._loop = loop

    def __str__(self) -> str:
        return str(self._settings)

    def _uri(self, name: str) -> str:
        return f"{self._settings}/{name}"

    def is_empty(self) -> bool:
        """See Place."""
        return not self._loop.run(self._store.list_objects(self._uri(""), 1))

    def size_bytes(self, name: str) -> int | None:
        """See Place."""
        found = self._loop.run(self._store.head(self._uri(name)))
        return found.size_bytes if found else None

    def put(self, name: str, content: bytes) -> None:
        """See Place."""
        self._loop.run(self._store.put(self._uri(name), content))

    def get(self, name: str) -> bytes:
        """See Place."""
        return self._loop.run(self._store.fetch(self._uri(name)))


class _Loop:
    """An event loop in a thread of its own, for callers that have none."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bucket", daemon=True)

    def __enter__(self) -> _Loop:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """The result of a call, from whatever thread."""
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()
