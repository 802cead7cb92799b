"""A series on one line of text. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

BLOCKS: Final = "▁▂▃▄▅▆▇█"
ASCII: Final = "_.-~=+*#"


def sparkline(x: Sequence[float], values: Sequence[float], width: int, marks: str = BLOCKS) -> str:
    """Means over equal parts of the x axis as marks from the least to the greatest; parts without a number are empty.

    Infinities are marked as the least and the greatest, and set no scale.
    """
    cells = _cells(x, values, width)
    finite = [value for value in cells if value is not None and math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    return "".join(" " if value is None else _mark(value, low, high, marks) for value in cells).rstrip()


def _mark(value: float, low: float, high: float, marks: str) -> str:
    if math.isinf(value):
        return marks[-1] if value > 0 else marks[0]
    if high == low:
        return marks[len(marks) // 2]
    share = (value / 2 - low / 2) / (high / 2 - low / 2)  # halved: the difference of two floats may overflow
    return marks[min(int(share * len(marks)), len(marks) - 1)]


def _cells(x: Sequence[float], values: Sequence[float], width: int) -> list[float | None]:
    """The mean of the numbers in each part of the axis."""
    found: list[list[float]] = [[] for _ in range(width)]
    places = [place for place in x if math.isfinite(place)]
    low, high = min(places, default=0.0), max(places, default=0.0)
    for place, value in zip(x, values, strict=True):
        if math.isfinite(place) and not math.isnan(value):
            share = (place - low) / (high - low) if high > low else 0.0
            found[min(int(share * width), width - 1)].append(value)
    means = [sum(one) / len(one) if one else None for one in found]
    return [None if mean is None or math.isnan(mean) else mean for mean in means]
