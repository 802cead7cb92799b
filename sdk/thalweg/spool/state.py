"""The page that the training process and the sender share: what is acknowledged, and the counters.

Each field has one writing process. Fields are 8 bytes and aligned, so a read is never torn.
Survives `kill -9` of both; a power loss may set it back, which costs a second sending, not a point.

    0    "THWLSTA1"
    8    acknowledged sequence         sender
    16   highest sequence ever sent    sender
    24   highest step ever sent, f64   sender
    32   sequence up to which losses   sender
         are counted
    40   last damaged place counted    sender
    48   acknowledged sequence, turned sender
    64   counters of COUNTERS, in order
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from thalweg.spool import layout

STATE_BYTES: Final = 4096
_MARK: Final = b"THWLSTA1"
_U64: Final = struct.Struct("<Q")
_ACKED_AT: Final = 8
_SENT_AT: Final = 16
_STEP_AT: Final = 24
_LOSSES_AT: Final = 32
_DAMAGE_AT: Final = 40
_ACKED_CHECK_AT: Final = 48
_COUNTERS_AT: Final = 64
_ALL_BITS: Final = 2**64 - 1
_F64: Final = struct.Struct("<d")

WRITER_COUNTERS: Final = (
    "logged",  # points that log() wrote to the spool
    "dropped_spool_full",  # the spool's quota, or the disk, was full
    "dropped_bad_value",  # not a number
    "dropped_bad_step",  # step not finite
    "dropped_bad_name",  # not text, empty, too long
)
SENDER_COUNTERS: Final = (
    "accepted",  # points that the server acknowledged and did not reject
    "records_damaged",  # damaged places in the spool, moved to quarantine
    "records_missing",  # records that a damaged place held, by their sequence numbers
    "rejected_malformed",
    "rejected_unknown_schema",
    "rejected_step",
    "rejected_name",
    "rejected_collision",
    "rejected_time",
    "rejected_event",
    "rejected_other",
    "rejected_before_fork",
)
LATER_WRITER_COUNTERS: Final = ("dropped_before_fork",)  # step not after the one at which the run's branch began
LATER_SENDER_COUNTERS: Final = ("rejected_limit",)  # the run has the most metrics that its token allows
COUNTERS: Final = (*WRITER_COUNTERS, *SENDER_COUNTERS, *LATER_WRITER_COUNTERS, *LATER_SENDER_COUNTERS)
"""In the order of the page: others come after these, so that a spool that an older version wrote is read right."""
_OFFSETS: Final = {name: _COUNTERS_AT + 8 * index for index, name in enumerate(COUNTERS)}


class State:
    """The mapped page. One process writes a field; any may read it."""

    def __init__(self, folder: Path) -> None:
        """Opens the page of a writer's folder, making it if need be. Raises OSError."""
        descriptor = os.open(folder / layout.STATE_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < STATE_BYTES:
                os.posix_fallocate(descriptor, 0, STATE_BYTES)
            self._map = mmap.mmap(descriptor, STATE_BYTES)
        finally:
            os.close(descriptor)
        if self._map[:8] != _MARK:
            self._map[:8] = _MARK

    def _get(self, at: int) -> int:
        value: int = _U64.unpack_from(self._map, at)[0]
        return value

    @property
    def acked(self) -> int:
        """Sequence number up to which the server has committed everything; 0 if the field is damaged.

        What lies behind this number is deleted, so it is kept twice, the second time with all bits turned.
        """
        sequence = self._get(_ACKED_AT)
        return sequence if sequence ^ self._get(_ACKED_CHECK_AT) == _ALL_BITS else 0

    @acked.setter
    def acked(self, sequence: int) -> None:
        _U64.pack_into(self._map, _ACKED_CHECK_AT, sequence ^ _ALL_BITS)
        _U64.pack_into(self._map, _ACKED_AT, sequence)

    @property
    def sent(self) -> int:
        """Highest sequence number that was ever handed to the network."""
        return self._get(_SENT_AT)

    @sent.setter
    def sent(self, sequence: int) -> None:
        _U64.pack_into(self._map, _SENT_AT, sequence)

    @property
    def highest_step(self) -> float:
        """Highest step of any frame handed to the network; 0.0 before the first."""
        value: float = _F64.unpack_from(self._map, _STEP_AT)[0]
        return value

    @highest_step.setter
    def highest_step(self, step: float) -> None:
        _F64.pack_into(self._map, _STEP_AT, step)

    @property
    def losses_counted_to(self) -> int:
        """Sequence number up to which lost records and points are in the counters: what is read again is not."""
        return self._get(_LOSSES_AT)

    @losses_counted_to.setter
    def losses_counted_to(self, sequence: int) -> None:
        _U64.pack_into(self._map, _LOSSES_AT, sequence)

    @property
    def damage_counted_to(self) -> int:
        """The last damaged place in the counters: segment << 32 | offset."""
        return self._get(_DAMAGE_AT)

    @damage_counted_to.setter
    def damage_counted_to(self, place: int) -> None:
        _U64.pack_into(self._map, _DAMAGE_AT, place)

    def count(self, counter: str, points: int) -> None:
        """Adds to a counter of this process."""
        at = _OFFSETS[counter]
        _U64.pack_into(self._map, at, self._get(at) + points)

    def setter(self, counter: str) -> Callable[[int], None]:
        """Sets a counter of this process, which whoever calls it has added up itself: one call, of no Python code."""
        return partial(_U64.pack_into, self._map, _OFFSETS[counter])

    def counter(self, counter: str) -> int:
        """One counter as it stands."""
        return self._get(_OFFSETS[counter])

    def counters(self) -> dict[str, int]:
        """All counters that are not zero."""
        values = {name: self._get(at) for name, at in _OFFSETS.items()}
        return {name: value for name, value in values.items() if value}

    def close(self) -> None:
        """Unmaps the page."""
        self._map.close()
