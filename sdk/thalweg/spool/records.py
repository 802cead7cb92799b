"""How a record lies in a segment. Pure: bytes in, bytes out.

A segment is a zero-filled file. Records follow each other, each starting at a multiple of 8:

    magic u32 | length u32 | crc u32 | kind u32 | sequence u64 | body ... zero padding

`length` counts the whole record with its padding. `crc` is the CRC-32 of everything after itself.
The first 12 bytes are written last, so a reader sees a record whole or not at all; where the
processor reorders the stores, the CRC tells. All numbers are little-endian.

Bodies:
    FRAME    schema u32 | count u32 | step f64 | time i64 (us) | count x f64
    SCHEMA   size u32 | 0 u32 | JSON {"id": 3, "names": ["a", "b"]}
    EVENT    size u32 | 0 u32 | JSON {"time_us": ..., "kind": ..., ...}
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Final

MAGIC: Final = 0x4C57_4854  # "THWL" as little-endian bytes
FRAME: Final = 1
SCHEMA: Final = 2
EVENT: Final = 3
KINDS: Final = frozenset({FRAME, SCHEMA, EVENT})

HEADER: Final = struct.Struct("<IIIIQ")
COMMIT: Final = struct.Struct("<III")
FRAME_FIELDS: Final = struct.Struct("<IQIIdq")  # kind, sequence, schema, count, step, time
FRAME_BODY: Final = struct.Struct("<IIdq")
TEXT_FIELDS: Final = struct.Struct("<IQII")  # kind, sequence, size, 0
TEXT_BODY: Final = struct.Struct("<II")

CRC_FROM: Final = COMMIT.size
HEADER_BYTES: Final = HEADER.size
FRAME_BYTES: Final = HEADER.size + FRAME_BODY.size
TEXT_BYTES: Final = HEADER.size + TEXT_BODY.size
ALIGNMENT_BYTES: Final = 8
_SCAN_BYTES: Final = 1 << 20  # a multiple of the alignment, so that no mark straddles two pieces


@dataclass(frozen=True, slots=True)
class Header:
    """The first 24 bytes of a record whose CRC was right."""

    length: int
    kind: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One `log()` call. `values` is a view of count x float64, valid while the segment is mapped."""

    schema: int
    step: float
    time_us: int
    values: memoryview


def text_record_bytes(text: bytes) -> int:
    """Length of a SCHEMA or EVENT record with this JSON text."""
    return TEXT_BYTES + (len(text) + ALIGNMENT_BYTES - 1) // ALIGNMENT_BYTES * ALIGNMENT_BYTES


def write_text(view: memoryview, at: int, kind: int, sequence: int, text: bytes) -> int:
    """Writes a SCHEMA or EVENT record at `at` and returns its length. The caller checked that it fits."""
    length = text_record_bytes(text)
    TEXT_FIELDS.pack_into(view, at + CRC_FROM, kind, sequence, len(text), 0)
    view[at + TEXT_BYTES : at + TEXT_BYTES + len(text)] = text
    COMMIT.pack_into(view, at, MAGIC, length, zlib.crc32(view[at + CRC_FROM : at + length]))
    return length


def read_header(view: memoryview, at: int) -> Header | None:
    """The header at `at`, or None if no whole, undamaged record starts there."""
    if at + HEADER_BYTES > len(view):
        return None
    magic, length, crc, kind, sequence = HEADER.unpack_from(view, at)
    if magic != MAGIC or kind not in KINDS or length < HEADER_BYTES or at + length > len(view):
        return None
    if zlib.crc32(view[at + CRC_FROM : at + length]) != crc:
        return None
    return Header(length, kind, sequence)


def read_frame(view: memoryview, at: int) -> Frame:
    """The frame at `at`, whose header was read before."""
    schema, count, step, time_us = FRAME_BODY.unpack_from(view, at + HEADER_BYTES)
    return Frame(schema, step, time_us, view[at + FRAME_BYTES : at + FRAME_BYTES + 8 * count])


def read_text(view: memoryview, at: int) -> dict[str, Any]:
    """The JSON object of the SCHEMA or EVENT record at `at`, whose header was read before."""
    size, _ = TEXT_BODY.unpack_from(view, at + HEADER_BYTES)
    document = json.loads(bytes(view[at + TEXT_BYTES : at + TEXT_BYTES + size]))
    assert isinstance(document, dict), document
    return document


def next_record(view: memoryview, start: int) -> int | None:
    """Where the next undamaged record at or after `start` begins, if there is one. `start` is aligned."""
    assert start % ALIGNMENT_BYTES == 0, start
    mark = MAGIC.to_bytes(4, "little")
    for base in range(start, len(view), _SCAN_BYTES):
        piece = bytes(view[base : base + _SCAN_BYTES])
        found = piece.find(mark)
        while found >= 0:
            if found % ALIGNMENT_BYTES == 0 and read_header(view, base + found) is not None:
                return base + found
            found = piece.find(mark, found + 1)
    return None
