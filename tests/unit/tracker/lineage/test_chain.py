"""Lineages, segments and inherited values, case by case."""

from __future__ import annotations

import math
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg_tracker.lineage.chain import Branch, Lineage, changes, extend, fork_step, inherit, root, segments
from thalweg_tracker.model.keys import run_key

INF = math.inf
STEPS = st.one_of(st.integers(-5, 20).map(float), st.floats(allow_nan=False, allow_infinity=False), st.just(-INF))


def lineage_of(*steps: float) -> Lineage:
    """Run 0, forked at the first step by run 1, that at the second by run 2, and so on."""
    chain = root(Branch("0"))
    return reduce(lambda above, pair: extend(above, pair[1], Branch(str(pair[0] + 1))), enumerate(steps), chain)


@pytest.mark.parametrize(
    ("steps", "upto", "parts"),  # parts: run, after, upto
    [
        ((), [INF], [("0", -INF, INF)]),
        ((5,), [5, INF], [("0", -INF, 5), ("1", 5, INF)]),
        ((5, 8), [5, 8, INF], [("0", -INF, 5), ("1", 5, 8), ("2", 8, INF)]),
        ((5, 5), [5, 5, INF], [("0", -INF, 5), ("2", 5, INF)]),
        ((5, 3), [3, 3, INF], [("0", -INF, 3), ("2", 3, INF)]),
        ((5, 8, 6), [5, 6, 6, INF], [("0", -INF, 5), ("1", 5, 6), ("3", 6, INF)]),
        ((5, 8, 2), [2, 2, 2, INF], [("0", -INF, 2), ("3", 2, INF)]),
        ((8, 5, 9), [5, 5, 9, INF], [("0", -INF, 5), ("2", 5, 9), ("3", 9, INF)]),
        ((-1.5, 0.25), [-1.5, 0.25, INF], [("0", -INF, -1.5), ("1", -1.5, 0.25), ("2", 0.25, INF)]),
        ((0.0, -0.0), [0.0, 0.0, INF], [("0", -INF, 0.0), ("2", 0.0, INF)]),
        ((5, -INF), [-INF, -INF, INF], [("2", -INF, INF)]),
        ((-INF, 7), [-INF, 7, INF], [("1", -INF, 7), ("2", 7, INF)]),
    ],
)
def test_lineages_and_their_segments(
    steps: tuple[float, ...], upto: list[float], parts: list[tuple[str, float, float]]
) -> None:
    """`upto` is the smallest fork step from there on; what contributes nothing has no segment."""
    lineage = lineage_of(*steps)
    assert [one.upto for one in lineage] == upto
    assert [(one.run_id, one.after, one.upto) for one in segments("p", lineage)] == parts
    assert fork_step(lineage) == (steps[-1] if steps else -INF)


@given(st.lists(STEPS, max_size=8), STEPS)
def test_segments_partition_the_steps(steps: list[float], step: float) -> None:
    """Every step lies in one segment; the last one is the branch's own and has no end; keys are those of branches."""
    lineage = lineage_of(*steps)
    found = segments("p", lineage)
    assert (found[-1].run_id, found[-1].upto) == (str(len(steps)), INF)
    assert [one.after for one in found[1:]] == [one.upto for one in found[:-1]]
    assert all(one.run == run_key("p", one.run_id, one.branch) for one in found)
    if step > -INF:
        (holder,) = [int(one.run_id) for one in found if one.after < step <= one.upto]
        at = len(steps)
        while at and step <= steps[at - 1]:  # a branch passes on what it inherits
            at -= 1
        assert holder == at


@pytest.mark.parametrize(
    ("layers", "merged", "changed"),
    [
        ([{}], {}, [{}]),
        ([{"a": "1"}], {"a": "1"}, [{}]),
        ([{"a": "1"}, {}], {"a": "1"}, [{}, {}]),
        ([{"a": "1"}, {"a": "2"}], {"a": "2"}, [{}, {"a": ("1", "2")}]),
        ([{"a": "1"}, {"a": "1"}], {"a": "1"}, [{}, {}]),
        ([{"a": "1"}, {"a": ""}], {}, [{}, {"a": ("1", "")}]),
        ([{"a": "1"}, {"a": ""}, {"a": "1"}], {"a": "1"}, [{}, {"a": ("1", "")}, {"a": ("", "1")}]),
        ([{}, {"a": ""}], {}, [{}, {}]),
        ([{"a": ""}, {"b": "2"}], {"b": "2"}, [{}, {"b": ("", "2")}]),
        ([{"a": "1"}, {"b": "2"}, {"a": "3"}], {"a": "3", "b": "2"}, [{}, {"b": ("", "2")}, {"a": ("1", "3")}]),
    ],
)
def test_values_are_inherited(
    layers: list[dict[str, str]], merged: dict[str, str], changed: list[dict[str, tuple[str, str]]]
) -> None:
    """The nearest on the way wins; an empty text removes. What equals the inherited value is no change."""
    assert inherit(layers) == merged
    assert changes(layers) == changed
