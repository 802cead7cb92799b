"""A series in the parts that each run of a lineage contributes."""

from __future__ import annotations

import pytest

from examples.population_report import split

CASES: list[tuple[list[float | None], list[list[float]]]] = [
    ([None], [[1, 2, 3, 4]]),
    ([2, None], [[1, 2], [3, 4]]),
    ([2, 2, None], [[1, 2], [], [3, 4]]),  # the one in the middle was forked where it began
    ([9, None], [[1, 2, 3, 4], []]),
]


@pytest.mark.parametrize(("ends", "steps"), CASES)
def test_each_point_is_in_one_part(ends: list[float | None], steps: list[list[float]]) -> None:
    points = [(step, step * 10) for step in (1.0, 2.0, 3.0, 4.0)]
    parts = split(points, [{"upto": end} for end in ends])
    assert [[step for step, _ in part] for part in parts] == steps
