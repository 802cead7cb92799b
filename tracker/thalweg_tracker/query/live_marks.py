"""Up to where a listener was told, as the id of an event. Pure."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from thalweg_tracker.errors import RejectedError
from thalweg_tracker.model import limits

_REST: Final = struct.Struct("<q")
_WRITER: Final = struct.Struct("<Qq")


@dataclass(frozen=True, slots=True)
class Marks:
    """Times by the writers' own clocks, in microseconds: what has a later one was not told yet.

    A writer's points arrive in the order of their times, those of different writers in any: so each has its own mark.
    `rest_us` is that of all that are not named.
    """

    rest_us: int = 0
    times_us: Mapping[int, int] = field(default_factory=dict)  # by writer

    def of(self, writer: int) -> int:
        """The mark of a writer."""
        return self.times_us.get(writer, self.rest_us)

    def to_text(self) -> str:
        """As the id of an event. Past LIVE_ID_WRITERS_MAX writers those with the latest times are named."""
        ordered = sorted(self.times_us.items(), key=lambda one: one[1], reverse=True)
        named, others = ordered[: limits.LIVE_ID_WRITERS_MAX], ordered[limits.LIVE_ID_WRITERS_MAX :]
        rest = max([self.rest_us, *(time_us for _, time_us in others)])
        data = _REST.pack(rest) + b"".join(_WRITER.pack(*one) for one in named)
        return base64.urlsafe_b64encode(data).decode().rstrip("=")


def read_marks(text: str) -> Marks:
    """What `to_text` wrote. Raises RejectedError."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        (rest_us,) = _REST.unpack_from(data)
        return Marks(rest_us, dict(_WRITER.iter_unpack(data[_REST.size :])))
    except (ValueError, binascii.Error, struct.error):
        raise RejectedError(
            "bad_event_id", f"cannot go on after the event {text[:60]!r}", "Use the id of an event, or none."
        ) from None
