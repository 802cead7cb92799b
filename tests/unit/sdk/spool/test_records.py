"""Records as bytes: round trip, alignment, and what damage does."""

from __future__ import annotations

import json
import struct
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.spools import bits
from thalweg.spool import records
from thalweg.spool.records import ALIGNMENT_BYTES, EVENT, FRAME, FRAME_BYTES, SCHEMA

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
ANY_DOUBLE = U64.map(lambda number: struct.unpack("<d", struct.pack("<Q", number))[0])
"""Every bit pattern: NaN payloads, infinities, -0.0, denormals."""


def frame_bytes(sequence: int, schema: int, step: float, time_us: int, values: list[float]) -> bytearray:
    """A FRAME record as the writer lays it out."""
    length = FRAME_BYTES + 8 * len(values)
    buffer = bytearray(length)
    fields = (FRAME, sequence, schema, len(values), step, time_us)
    records.FRAME_FIELDS.pack_into(buffer, records.CRC_FROM, *fields)
    buffer[FRAME_BYTES:] = array("d", values).tobytes()
    crc = records.zlib.crc32(memoryview(buffer)[records.CRC_FROM :])
    records.COMMIT.pack_into(buffer, 0, records.MAGIC, length, crc)
    return buffer


def text_bytes(kind: int, sequence: int, document: object) -> bytearray:
    """A SCHEMA or EVENT record."""
    text = json.dumps(document).encode()
    buffer = bytearray(records.text_record_bytes(text))
    assert records.write_text(memoryview(buffer), 0, kind, sequence, text) == len(buffer)
    return buffer


SMALL = text_bytes(EVENT, 7, {"kind": "x"})
WHOLE = frame_bytes(3, 1, 2.5, 99, [1.0, float("nan")])


@given(U64, U32, ANY_DOUBLE, st.integers(-(2**63), 2**63 - 1), st.lists(ANY_DOUBLE, max_size=20))
def test_frame_comes_back_bit_for_bit(
    sequence: int, schema: int, step: float, time_us: int, values: list[float]
) -> None:
    """Any float survives, NaN payloads and -0.0 too."""
    view = memoryview(frame_bytes(sequence, schema, step, time_us, values))
    header = records.read_header(view, 0)
    assert header == records.Header(len(view), FRAME, sequence)
    frame = records.read_frame(view, 0)
    assert (frame.schema, frame.time_us) == (schema, time_us)
    assert bits([frame.step]) == bits([step])
    assert bytes(frame.values) == b"".join(bits(values))


@given(st.lists(st.text(), max_size=10), U32)
def test_any_names_come_back(names: list[str], schema: int) -> None:
    """A schema keeps its names, whatever characters they have, lone surrogates too."""
    document = {"id": schema, "names": names}
    view = memoryview(text_bytes(SCHEMA, 1, document))
    assert records.read_header(view, 0) is not None
    assert records.read_text(view, 0) == document


@given(st.binary(max_size=64))
def test_text_records_are_aligned(text: bytes) -> None:
    """Each record is a multiple of the alignment long, so the next one begins aligned."""
    assert records.text_record_bytes(text) % ALIGNMENT_BYTES == 0
    assert records.text_record_bytes(text) - records.TEXT_BYTES - len(text) in range(ALIGNMENT_BYTES)


def test_frames_are_aligned() -> None:
    """A frame's fixed part keeps the values aligned."""
    assert FRAME_BYTES % ALIGNMENT_BYTES == 0


@given(st.sampled_from([WHOLE, SMALL]), st.data())
def test_any_flipped_byte_is_seen(record: bytearray, data: st.DataObject) -> None:
    """Any change of one byte, anywhere in a record, makes it no record."""
    at = data.draw(st.integers(0, len(record) - 1))
    flip = data.draw(st.integers(1, 255))
    damaged = bytearray(record)
    damaged[at] ^= flip
    assert records.read_header(memoryview(damaged), 0) is None


@pytest.mark.parametrize("record", [WHOLE, SMALL], ids=["frame", "event"])
def test_cut_record_is_none(record: bytearray) -> None:
    """No prefix of a record is a record, whatever its length."""
    assert not any(records.read_header(memoryview(record)[:length], 0) for length in range(len(record)))


@pytest.mark.parametrize(
    ("garbage", "found"),
    [
        (b"", 0),
        (bytes(8), 8),
        (b"THWL" + bytes(4), 8),  # a mark without a record
        (b"\xff" * 24, 24),
        (bytes(4) + b"THWL", 8),  # a mark that is not aligned
        (bytes(WHOLE[:-8]), len(WHOLE) - 8),  # the beginning of a record
        (bytes(records._SCAN_BYTES), records._SCAN_BYTES),  # in the next piece of the scan
        (bytes(records._SCAN_BYTES - 8), records._SCAN_BYTES - 8),  # across two pieces
    ],
)
def test_next_record_is_found_behind_garbage(garbage: bytes, found: int) -> None:
    """The first good record at or after an aligned place is found."""
    view = memoryview(garbage + bytes(WHOLE) + bytes(SMALL))
    assert records.next_record(view, 0) == found


def test_next_record_may_be_absent() -> None:
    """Where no good record follows, there is none."""
    assert records.next_record(memoryview(bytes(WHOLE[:-8])), 0) is None
    assert records.next_record(memoryview(bytes(WHOLE)), 8) is None
