"""What stays and why, in cases; tests/property/test_retention.py has the laws."""

from __future__ import annotations

import pytest

from thalweg_tracker.checkpoints.retention import NEWEST, YOUNGER, Candidate, Policy, is_multiple, plan, pointed_at

FULL = frozenset({"full"})


def good(step: float, value: float | None = None) -> Candidate:
    return Candidate(step, True, FULL, value)


def bad(step: float) -> Candidate:
    return Candidate(step, False, frozenset())


TEN = [good(float(step)) for step in range(10, 110, 10)]


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (Policy(keep_last=1), [100]),
        (Policy(keep_last=3), [80, 90, 100]),
        (Policy(keep_last=99), list(range(10, 110, 10))),
        (Policy(keep_every=30), [30, 60, 90, 100]),
        (Policy(keep_every=1000), [100]),
        (Policy(keep_last=2, keep_every=50), [50, 90, 100]),
        (Policy(keep_best=2), [100]),  # no values are known
    ],
)
def test_policies(policy: Policy, kept: list[int]) -> None:
    """Their union, and always the newest."""
    planned = plan(TEN, policy, {})
    assert [one.step for one in planned.kept] == kept
    assert list(planned.deleted) == [step for step in range(10, 110, 10) if step not in kept]


@pytest.mark.parametrize(("mode", "best"), [("min", [2, 4]), ("max", [3, 5])])
def test_the_best(mode: str, best: list[int]) -> None:
    """By value; of equals the later; those without a value never."""
    values = {1.0: 0.5, 2.0: 0.1, 3.0: 0.9, 4.0: 0.5, 5.0: 0.9, 6.0: None, 7.0: None}
    policy = Policy(keep_best=2, mode=mode)  # type: ignore[arg-type]
    planned = plan([good(step, value) for step, value in values.items()], policy, {})
    assert [one.step for one in planned.kept] == [*best, 7]


def test_what_is_younger_than_the_newest_good_one_stays() -> None:
    """It is being written. What is older and not good goes, and does not count for the policy."""
    planned = plan([good(1), bad(2), good(3), bad(4), bad(5)], Policy(keep_last=2), {})
    assert {one.step: one.reasons for one in planned.kept} == {
        1: ("one of the last 2",),
        3: (NEWEST, "one of the last 2"),
        4: (YOUNGER,),
        5: (YOUNGER,),
    }
    assert planned.deleted == (2,)


def test_nothing_goes_without_a_good_one() -> None:
    """There may be something left to be saved."""
    assert plan([bad(1), bad(2)], Policy(keep_last=1), {}).deleted == ()
    assert plan([], Policy(keep_last=1), {}).kept == ()


def test_the_newest_of_each_kind_stays() -> None:
    """Models may be saved more often than what a training goes on from."""
    often = [Candidate(float(step), True, frozenset({"model"})) for step in range(1, 9)]
    full = Candidate(4.5, True, FULL)
    half = Candidate(6.5, False, frozenset({"optimizer"}))
    planned = plan([*often, full, half], Policy(keep_last=1), {})
    assert [one.step for one in planned.kept] == [4.5, 6.5, 8.0]


def test_what_a_fork_points_at() -> None:
    """The newest good one at or before its step; nothing for a fork before the first."""
    some = [good(10), good(20), bad(25), good(30)]
    assert pointed_at(some, [5.0]) == {}
    assert pointed_at(some, [29.0, 20.0]) == {
        20: ["a fork at step 20 points at it", "a fork at step 29 points at it"],
    }
    planned = plan(some, Policy(keep_last=1), pointed_at(some, [29.0]))
    assert [one.step for one in planned.kept] == [20, 30]
    assert planned.deleted == (10, 25)


def test_what_a_fork_points_at_of_each_kind() -> None:
    """It may restore the model alone."""
    some = [Candidate(1.0, True, FULL), Candidate(2.0, True, frozenset({"model"})), Candidate(3.0, True, FULL)]
    assert sorted(pointed_at(some, [2.5])) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("step", "of", "expected"),
    [(0, 100, True), (300, 100, True), (250, 100, False), (0.3, 0.1, True), (0.35, 0.1, False), (-200, 100, True),
     (1e15, 1e-3, True), (99.99999, 100, False), (1e300, 1e-300, True)],
)  # fmt: skip
def test_multiples(step: float, of: float, expected: bool) -> None:
    """As far as doubles can tell."""
    assert is_multiple(step, of) == expected
