"""Series on one line."""

from __future__ import annotations

import math
import sys

import pytest

from thalweg.cli.sparkline import ASCII, BLOCKS, sparkline


@pytest.mark.parametrize(
    ("x", "values", "width", "shown"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7], 8, BLOCKS),
        ([0, 1, 2, 3], [1, 3, 7, 9], 2, "▁█"),  # means of equal parts of the axis
        ([0, 9], [1, 2], 4, "▁  █"),  # where nothing was logged, nothing stands
        ([0, 1, 2], [1, math.nan, 2], 3, "▁ █"),
        ([0, 1, 2, 3], [1, math.inf, -math.inf, 2], 4, "▁█▁█"),
        ([0, 1], [5, 5], 2, "▅▅"),
        ([3], [5], 4, "▅"),
        ([0, 1], [math.nan, math.nan], 2, ""),
        ([], [], 4, ""),
        ([0, 1], [-sys.float_info.max, sys.float_info.max], 2, "▁█"),
    ],
)
def test_marks_go_from_the_least_to_the_greatest(x: list[float], values: list[float], width: int, shown: str) -> None:
    """Parts of the axis without a number are empty; infinities set no scale."""
    assert sparkline(x, values, width) == shown


def test_in_ascii() -> None:
    """For what cannot show blocks."""
    assert sparkline(range(8), range(8), 8, ASCII) == ASCII
    assert ASCII.isascii()
