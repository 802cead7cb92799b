"""What an upload has done so far, in a small file, so that after a crash the next call goes on. Thread-safe.

The file says for each file that was begun its size and time of change, the id of its upload, and, once it is
complete, its URI and digest. It is replaced as a whole, so that what is read is whole.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from thalweg.checkpoints.local import LocalFile
from thalweg.console import say
from thalweg.spool import layout

FORMAT: Final = 1

_SHARE_OF_TIME: Final = 20  # of many files not each change is written: at most 1/20 of the time goes into writing


@dataclass(frozen=True, slots=True)
class Target:
    """Which checkpoint of which run an upload makes."""

    project: str
    run_id: str
    branch: int | None
    step: float
    kind: str
    shard: int = 0


@dataclass(frozen=True, slots=True)
class FileState:
    """One file. Without `uri` it is not complete."""

    size_bytes: int
    mtime_ns: int
    upload_id: str
    uri: str = ""
    digest: str = ""

    def is_of(self, file: LocalFile) -> bool:
        """Whether the file is still the one that was begun."""
        return (self.size_bytes, self.mtime_ns) == (file.size_bytes, file.mtime_ns)


@dataclass(slots=True)
class _Saved:
    source: str
    target: dict[str, Any]
    upload: str
    folder_uri: str = ""
    files: dict[str, FileState] = field(default_factory=dict)


class UploadState:
    """The state of one upload."""

    def __init__(self, path: Path, source: Path, target: Target, monotonic: Callable[[], float]) -> None:
        """Goes on with what lies at `path`, if it is of this source and target."""
        self._path = path
        self._monotonic = monotonic
        self._due_s = 0.0
        self._lock = threading.Lock()
        self._is_broken = False
        saved = _read(path)
        if saved is None or (saved.source, saved.target) != (str(source), asdict(target)):
            saved = _Saved(str(source), asdict(target), uuid.uuid4().hex)
        self._saved = saved

    @property
    def upload(self) -> str:
        """Names this upload among those of the same checkpoint: 32 hexadecimal digits."""
        return self._saved.upload

    @property
    def folder_uri(self) -> str:
        """Where its files go, once the server has said so."""
        return self._saved.folder_uri

    def find(self, path: str) -> FileState | None:
        """What is known of a file."""
        with self._lock:
            return self._saved.files.get(path)

    def put(self, path: str, state: FileState, folder_uri: str, *, now: bool) -> None:
        """Takes note of a file; with `now` it is written before this returns."""
        with self._lock:
            self._saved.files[path] = state
            self._saved.folder_uri = folder_uri
            self._write(now=now)

    def save(self) -> None:
        """Writes what was put off."""
        with self._lock:
            self._write(now=True)

    def _write(self, *, now: bool) -> None:
        started_s = self._monotonic()
        if self._is_broken or not (now or started_s >= self._due_s):
            return
        try:
            self._path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
            layout.write_atomically(self._path, json.dumps({"format": FORMAT, **asdict(self._saved)}))
        except OSError as error:  # the upload itself can do without
            self._is_broken = True
            say(f"cannot keep the state of an upload in {self._path}: {error}. After a crash it begins anew.")
        ended_s = self._monotonic()
        self._due_s = ended_s + _SHARE_OF_TIME * (ended_s - started_s)

    def remove(self) -> None:
        """The upload is done. What cannot be removed says so: all is there already."""
        with suppress(OSError):
            self._path.unlink()


def _read(path: Path) -> _Saved | None:
    """None also for what is damaged, or of another format: then the upload begins anew."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        document = json.loads(path.read_text())
        if document.pop("format") == FORMAT:
            document["files"] = {name: FileState(**one) for name, one in document["files"].items()}
            Target(**document["target"])
            return _Saved(**document)
    return None
