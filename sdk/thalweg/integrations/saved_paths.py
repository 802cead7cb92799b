"""Checkpoints that a framework saves, overwrites and deletes by itself, below names that it chooses.

One step may lie at several places (the best and the last): the first of them that is there is recorded. When the
framework deletes or overwrites it, the next one is; when none is left, the checkpoint is taken back: it is
recorded as "staged" again, which nothing restores from. What was uploaded stays. Not thread-safe: hooks are called
by the training's thread.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from thalweg.checkpointing import local_uri
from thalweg.run import Run

_Key = tuple[float, str]  # step, kind
_Stamp = tuple[int, ...]


@dataclass(slots=True)
class _Copy:
    """One place at which the checkpoint of a step lies."""

    place: str
    step: float
    kind: str
    metrics: Mapping[str, Any]
    metadata: Mapping[str, Any]
    stamp_before: _Stamp | None
    """Of what lay there before the save; while it is there still, the save is not written."""
    stamp: _Stamp | None = None
    """Of what was written; None: nothing yet."""

    def look(self) -> bool:
        """Sees what is there now. False where the checkpoint was written, and has gone."""
        now = _stamp(self.place)
        if self.stamp is None and now != self.stamp_before:
            self.stamp = now
        return self.stamp is None or self.stamp == now


class SavedPaths:
    """The checkpoints of one training, as its framework keeps them."""

    def __init__(self, run: Run, *, upload: bool) -> None:
        """With `upload` each goes to the server's object store while the training waits, and stays there."""
        self._run = run
        self._upload = upload
        self._copies: dict[_Key, list[_Copy]] = {}
        self._said: dict[_Key, tuple[str, str]] = {}
        self._uploaded: set[_Key] = set()
        self._stamps: dict[str, _Stamp] = {}
        """Of files. A folder that is written again looks the same: it counts as written at once."""

    def record(
        self, place: str, *, step: float, kind: str, metrics: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        """Records what was saved at a path or URI. What another step had there is gone."""
        for copies in self._copies.values():
            copies[:] = [copy for copy in copies if copy.place != place]
        if (step, kind) not in self._uploaded:
            copy = _Copy(place, step, kind, metrics, metadata, stamp_before=self._stamps.get(place))
            self._copies.setdefault((step, kind), []).append(copy)
        self.settle()

    def settle(self) -> None:
        """Records what has been written, overwritten or deleted since the last look."""
        for key, copies in list(self._copies.items()):
            copies[:] = [copy for copy in copies if copy.look()]
            self._stamps.update({copy.place: copy.stamp for copy in copies if copy.stamp and len(copy.stamp) > 1})
            written = [copy for copy in copies if copy.stamp is not None]
            if written:
                self._tell_written(key, written[0])
            elif copies:
                self._tell(key, copies[0], "staged")
            else:
                self._take_back(key)

    def _tell_written(self, key: _Key, copy: _Copy) -> None:
        path = _local_path(copy.place)
        if path is None or not self._upload:
            self._tell(key, copy, "durable")
            return
        if self._said.get(key) == (copy.place, "durable"):
            return
        self._said[key] = (copy.place, "durable")
        uri = self._run.save_checkpoint(
            path, step=copy.step, kind=copy.kind, metrics=copy.metrics, metadata=copy.metadata
        )
        if uri != local_uri(path):  # else the upload failed, and it stays where it is
            self._uploaded.add(key)
            del self._copies[key]

    def _tell(self, key: _Key, copy: _Copy, state: str) -> None:
        if self._said.get(key) == (copy.place, state):
            return
        self._said[key] = (copy.place, state)
        self._run.log_checkpoint(
            copy.place, step=copy.step, kind=copy.kind, metrics=copy.metrics, metadata=copy.metadata, state=state
        )

    def _take_back(self, key: _Key) -> None:
        del self._copies[key]
        place, state = self._said.pop(key)
        if state == "durable":
            step, kind = key
            removed = {"removed": "the framework has deleted or overwritten it"}
            self._run.log_checkpoint(place, step=step, kind=kind, metadata=removed, state="staged")


def _local_path(place: str) -> Path | None:
    """None for a place that is not on this host."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if "://" in place else Path(place)


def _stamp(place: str) -> _Stamp | None:
    """Changes when a file is written again. None where nothing is; constant where that cannot be seen from here."""
    path = _local_path(place)
    if path is None:
        return (0,)
    try:
        found = path.stat()
    except OSError:
        return None
    if stat.S_ISDIR(found.st_mode):  # files may come into a folder later, from other ranks
        return (found.st_ino,)
    return (found.st_ino, found.st_size, found.st_mtime_ns)


__all__ = ["SavedPaths"]
