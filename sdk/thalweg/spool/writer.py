"""Appends records to a writer's folder. Owns segments and their quota; knows nothing of the network.

Not thread-safe: `thalweg.recorder` holds one lock around it. After `append_frame` returns, the record is
in the page cache: `kill -9` of this process does not lose it.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
from array import array
from pathlib import Path
from typing import Final
from zlib import crc32

from thalweg.spool import layout
from thalweg.spool.records import (
    COMMIT,
    CRC_FROM,
    EVENT,
    FRAME,
    FRAME_BYTES,
    FRAME_FIELDS,
    MAGIC,
    SCHEMA,
    text_record_bytes,
    write_text,
)

SEGMENT_BYTES: Final = 32 << 20
"""Size of a segment: above the largest record (a schema of 8 MiB), small enough to free space early."""


SCHEMAS_MAX: Final = 4096
SCHEMA_NAMES_MAX: Final = 1_000_000
"""Schemas of a writer at a time, whose ids follow each other, and names over all of them. Bound the memory of the
training process, sender and server."""


class SpoolFullError(Exception):
    """The quota or the disk has no room for another segment."""


class SpoolWriter:
    """One process' appending end of a spool folder."""

    def __init__(
        self, folder: Path, limit_bytes: int, *, after_sequence: int = 0, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        """Continues a folder after its last segment and `after_sequence`. Touches no file yet."""
        self.folder = folder
        self.sequence = after_sequence
        self._limit_bytes = limit_bytes
        self._segment_bytes = segment_bytes
        self._segment = max(layout.segment_numbers(folder), default=0)
        self._map: mmap.mmap | None = None
        self._view = memoryview(b"")
        self._at = segment_bytes
        self.declared: dict[tuple[str, ...], int] = {}
        """Ids of the schemas that the current segment holds."""
        self._schema_ids: dict[tuple[str, ...], int] = {}
        self._schema_names = 0
        self._next_schema = 0

    def _open_next_segment(self) -> None:
        """Maps the next segment. Its blocks are reserved first: a full disk is an error here, not a SIGBUS later.

        It gets its name last, so that a reader never maps a part of it.
        """
        waiting = len(layout.segment_numbers(self.folder)) * self._segment_bytes
        if waiting + self._segment_bytes > self._limit_bytes:
            raise SpoolFullError(f"{waiting} of {self._limit_bytes} bytes are in use")
        path = layout.segment_path(self.folder, self._segment + 1)
        draft = path.with_name(path.name + ".draft")
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._segment_bytes)
            fresh = mmap.mmap(descriptor, self._segment_bytes)
            draft.rename(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM):
                raise SpoolFullError(f"{path}: {error.strerror}") from error
            raise
        finally:
            os.close(descriptor)
        self.close()
        self._map, self._view = fresh, memoryview(fresh)
        self._segment += 1
        self._at = 0
        self.declared.clear()

    def _make_room(self, length: int) -> None:
        """Goes to the next segment if `length` bytes do not fit in this one. Raises SpoolFullError."""
        if length > self._segment_bytes:
            raise SpoolFullError(f"a record of {length} bytes is larger than a segment of {self._segment_bytes}")
        if self._at + length > self._segment_bytes:
            self._open_next_segment()

    def declare(self, names: tuple[str, ...], points: int) -> int:
        """Id of the schema with these names, written to the segment in which a frame of `points` will fit.

        A segment must be readable without those before it, so each repeats the schemas it uses. The
        names were checked by the caller. Raises SpoolFullError.
        """
        schema = self._schema_ids.get(names)
        if schema is None:
            schema = self._new_schema_id(names)
        frame_bytes = FRAME_BYTES + 8 * points
        if names in self.declared:
            self._make_room(frame_bytes)
        if names not in self.declared:  # making room may have opened a segment, in which nothing is declared
            text = json.dumps({"id": schema, "names": names}).encode()
            self._make_room(text_record_bytes(text) + frame_bytes)
            self._append_text(SCHEMA, text)
            self.declared[names] = schema
        return schema

    def _new_schema_id(self, names: tuple[str, ...]) -> int:
        """The next id. When there are too many schemas, all are forgotten: both sides stay bounded.

        An id never gets a second meaning, so that a schema in a damaged place is missed, not mistaken.
        """
        self._schema_names += len(names)
        if len(self._schema_ids) >= SCHEMAS_MAX or self._schema_names > SCHEMA_NAMES_MAX:
            self._schema_ids.clear()
            self.declared.clear()
            self._schema_names = len(names)
        schema = self._schema_ids[names] = self._next_schema
        self._next_schema += 1
        return schema

    def append_frame(self, schema: int, step: float, time_us: int, values: array[float]) -> bool:
        """Appends one frame of a schema that was declared in this segment, if there is room in it, and says so."""
        at, count, sequence = self._at, len(values), self.sequence + 1
        length = FRAME_BYTES + 8 * count
        end = at + length
        if end > self._segment_bytes:
            return False
        view = self._view
        body = FRAME_FIELDS.pack(FRAME, sequence, schema, count, step, time_us) + values.tobytes()
        view[at + CRC_FROM : end] = body
        crc = crc32(body)
        self.sequence, self._at = sequence, end  # first, and with no call between: a signal handler may raise there
        COMMIT.pack_into(view, at, MAGIC, length, crc)
        return True

    def append_event(self, text: bytes) -> None:
        """Appends an event's JSON text. Raises SpoolFullError."""
        self._make_room(text_record_bytes(text))
        self._append_text(EVENT, text)

    def _append_text(self, kind: int, text: bytes) -> None:
        self.sequence += 1
        self._at += write_text(self._view, self._at, kind, self.sequence, text)

    def close(self) -> None:
        """Unmaps the segment. The files stay for the sender."""
        self._view.release()
        if self._map is not None:
            self._map.close()
        self._map, self._at = None, self._segment_bytes
