"""What is logged, and whether it came back. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

Row = tuple[str, float, float]
"""One point that was read back: metric, step, value."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Points that came back: those that were logged, each once; and others, or with another value."""

    right: int
    wrong: int


def names(width: int) -> list[str]:
    """The metrics of a call."""
    return [f"train/layer_{index}/grad_norm" for index in range(width)]


def value(step: int, index: int) -> float:
    """What a metric is at a step."""
    return step + 0.37 * index


def check(rows: Iterable[Row], width: int, steps: int, *, is_single: bool = False) -> Checked:
    """Compares points with those of so many steps, value by value. `is_single`: values are kept in 32 bits."""
    places = {name: index for index, name in enumerate(names(width))}
    seen = bytearray(width * steps)
    right = wrong = 0
    for name, step, found in rows:
        index, at = places.get(name, -1), int(step)
        if index < 0 or at != step or not 0 <= at < steps:
            wrong += 1
            continue
        wanted = value(at, index)
        place = at * width + index
        if seen[place] or found != (_in_32_bits(wanted) if is_single else wanted):
            wrong += 1
            continue
        seen[place] = 1
        right += 1
    return Checked(right, wrong)


def _in_32_bits(number: float) -> float:
    (rounded,) = struct.unpack("<f", struct.pack("<f", number))
    return float(rounded)
