"""Reads a writer's folder from the front, while it may still be written to.

Guarantees: records come in order, each once; a damaged place is copied to `quarantine/`, reported and
skipped, and everything after it is still read. One thread.
"""

from __future__ import annotations

import logging
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from thalweg.spool import layout
from thalweg.spool.records import HEADER_BYTES, Header, next_record, read_header

log = logging.getLogger(__name__)

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Record:
    """A record's place. `view` is its segment; valid until the reader leaves or closes the segment."""

    header: Header
    view: memoryview
    at: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A damaged place that was moved aside."""

    segment: int
    at: int
    length_bytes: int


class SpoolReader:
    """The reading end. `advance()` gives the next record, or None when there is none yet."""

    def __init__(self, folder: Path, on_damage: Callable[[Damage], None]) -> None:
        self.folder = folder
        self._on_damage = on_damage
        self._map: mmap.mmap | None = None
        self._view = memoryview(b"")
        self._segment = 0
        self._at = 0
        self._suspect: tuple[int, int] | None = None
        self._unused: tuple[int, int] | None = None

    @property
    def segment(self) -> int:
        """Number of the segment of the last record; 0 before the first."""
        return self._segment

    def rewind(self) -> None:
        """Starts again at the oldest segment that is there."""
        self._unmap()
        self._segment = 0

    def advance(self, *, writer_ended: bool) -> Record | None:
        """The next record. With `writer_ended`, bytes that never became a record count as damage."""
        while self._map is not None or self._open_after(self._segment):
            header = read_header(self._view, self._at)
            if header is not None:
                record = Record(header, self._view, self._at)
                self._at += header.length
                return record
            has_successor = self._successor(self._segment) is not None
            if self._skip_damage(final=writer_ended or has_successor):
                continue
            if not has_successor or not self._open_after(self._segment):
                return None
        return None

    def _skip_damage(self, *, final: bool) -> bool:
        """Moves past bytes that are no record, if a record follows them or nothing more is to come here."""
        place = (self._segment, self._at)
        if place == self._unused or self._at >= len(self._view):
            return False
        begun = _any_set(self._view, self._at, self._at + HEADER_BYTES)
        if not final and (not begun or self._suspect != place):
            self._suspect = place if begun else None  # perhaps being written now: look again first
            return False
        following = next_record(self._view, self._at)
        # Records may have been written since the caller's look, and while this one went on: then a later one is found,
        # and not the one here, which was there before it. Whoever sees the later one sees this one, looking again.
        if following is not None and read_header(self._view, self._at) is not None:
            return True
        if following is None and final:
            following = len(self._view)
            if not _any_set(self._view, self._at, following):
                self._unused = place  # not to be looked through again
                return False
        if following is None:
            return False
        self._quarantine(following)
        return True

    def _quarantine(self, end: int) -> None:
        """Copies [at, end) of this segment aside, without trailing zeros, reports it and goes on at `end`."""
        damaged = bytes(self._view[self._at : end]).rstrip(b"\0")
        quarantine = self.folder / layout.QUARANTINE_FOLDER
        quarantine.mkdir(exist_ok=True)
        (quarantine / f"{self._segment:08d}-{self._at:08d}.bin").write_bytes(damaged)
        damage = Damage(self._segment, self._at, len(damaged))
        log.warning("moved %d damaged bytes of segment %d to %s", len(damaged), self._segment, quarantine)
        self._at = end
        self._on_damage(damage)

    def _successor(self, number: int) -> int | None:
        return next((n for n in layout.segment_numbers(self.folder) if n > number), None)

    def _open_after(self, number: int) -> bool:
        """Maps the oldest segment after `number` that holds anything, if there is one."""
        for successor in layout.segment_numbers(self.folder):
            fresh = _map_file(layout.segment_path(self.folder, successor)) if successor > number else None
            if fresh is not None:
                self._unmap()
                self._map, self._view, self._segment, self._at = fresh, memoryview(fresh), successor, 0
                return True
        return False

    def _unmap(self) -> None:
        self._view.release()
        if self._map is not None:
            self._map.close()
        self._map, self._view = None, memoryview(b"")

    def close(self) -> None:
        """Unmaps the segment."""
        self._unmap()


def _map_file(path: Path) -> mmap.mmap | None:
    """A file's bytes; None for a file that was cut to nothing."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) if size else None
    finally:
        os.close(descriptor)


def _any_set(view: memoryview, start: int, end: int) -> bool:
    """Whether any byte of [start, end) is not zero. In pieces, to keep a large segment out of memory."""
    pieces = range(start, min(end, len(view)), _PIECE_BYTES)
    return any(bytes(view[at : min(at + _PIECE_BYTES, end)]).strip(b"\0") for at in pieces)
