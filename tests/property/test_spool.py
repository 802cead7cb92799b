"""The spool under random writing and random damage."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.spools import SMALL_SEGMENT_BYTES, append, new_folder, read_all, segments, small_writer
from thalweg.spool import layout
from thalweg.spool.records import read_header
from thalweg.spool.writer import SpoolWriter

NAMES = [("a",), ("a", "b"), ("c", "d", "e"), tuple(f"wide/{index}" for index in range(60))]
OPERATIONS = st.lists(st.one_of(st.integers(0, len(NAMES) - 1), st.just("event"), st.just("reopen")), max_size=120)


@dataclass(frozen=True)
class Hit:
    """Damage to a segment: bytes [at, at + length) are overwritten."""

    segment: int
    at: int
    length: int
    pattern: int | None  # None: every bit of the bytes is turned

    def strike(self, data: bytearray) -> None:
        """Does it."""
        for place in range(self.at, min(self.at + self.length, len(data))):
            data[place] = self.pattern if self.pattern is not None else data[place] ^ 0xFF


HITS = st.lists(
    st.builds(
        Hit,
        st.integers(0, 5),
        st.integers(0, SMALL_SEGMENT_BYTES - 1),
        st.one_of(st.integers(1, 4), st.integers(1, 900)),
        st.sampled_from([None, 0, 0xFF, ord("T")]),
    ),
    max_size=4,
)


def write(folder: Path, operations: list[int | str]) -> None:
    """Carries the operations out; "reopen" is a writer that goes on after another has ended."""
    spool = small_writer(folder)
    for step, operation in enumerate(operations):
        if operation == "event":
            spool.append_event(b'{"kind": "note", "time_us": %d}' % step)
        elif operation == "reopen":
            sequence = spool.sequence
            spool.close()
            spool = SpoolWriter(folder, 1 << 40, after_sequence=sequence, segment_bytes=SMALL_SEGMENT_BYTES)
        else:
            append(spool, dict.fromkeys(NAMES[int(operation)], step + 0.5), step)
    spool.close()


def survivors(folder: Path, before: dict[Path, bytes]) -> list[int]:
    """Sequence numbers of the records whose bytes are what they were."""
    kept = []
    for path, old in before.items():
        new, at = path.read_bytes(), 0
        while (header := read_header(memoryview(old), at)) is not None:
            if new[at : at + header.length] == old[at : at + header.length]:
                kept.append(header.sequence)
            at += header.length
    return kept


@settings(max_examples=200, deadline=None)
@given(OPERATIONS, HITS, st.booleans())
def test_exactly_the_undamaged_records_are_read(operations: list[int | str], hits: list[Hit], cut: bool) -> None:
    """Whatever is written and whatever is damaged: the reader gives the undamaged records, in order, once."""
    root = Path(tempfile.mkdtemp())
    try:
        folder = new_folder(root)
        write(folder, operations)
        before = {path: path.read_bytes() for path in segments(folder)}
        for hit in hits:
            if hit.segment < len(before):
                path = list(before)[hit.segment]
                data = bytearray(path.read_bytes())
                hit.strike(data)
                path.write_bytes(data[: hit.at + hit.length] if cut and hit is hits[-1] else data)
        expected = survivors(folder, before)
        reading = read_sequences(folder)
        assert reading == expected
        assert read_sequences(folder) == expected, "a second reading gives the same"
    finally:
        shutil.rmtree(root)


def read_sequences(folder: Path) -> list[int]:
    """Sequence numbers as the reader gives them, quarantine included in the check that nothing is deleted."""
    from thalweg.spool.reader import SpoolReader

    damages: list[object] = []
    reader = SpoolReader(folder, damages.append)
    sequences = []
    while (record := reader.advance(writer_ended=True)) is not None:
        sequences.append(record.header.sequence)
    reader.close()
    quarantine = folder / layout.QUARANTINE_FOLDER
    assert bool(damages) == quarantine.exists()
    return sequences


@settings(max_examples=60, deadline=None)
@given(OPERATIONS)
def test_all_is_read_where_nothing_is_damaged(operations: list[int | str]) -> None:
    """Without damage every frame comes back with its step, names and values."""
    root = Path(tempfile.mkdtemp())
    try:
        folder = new_folder(root)
        write(folder, operations)
        content = read_all(folder)
        frames = [(step, NAMES[int(op)]) for step, op in enumerate(operations) if op not in ("event", "reopen")]
        assert [(step, values) for step, _, values in content.frames] == [
            (step, dict.fromkeys(names, step + 0.5)) for step, names in frames
        ]
        assert len(content.events) == operations.count("event")
        assert content.damages == []
    finally:
        shutil.rmtree(root)
