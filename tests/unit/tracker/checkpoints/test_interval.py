"""Young's and Daly's intervals, and what is said where there is nothing to compute from."""

from __future__ import annotations

import math
from typing import Any

import pytest

from thalweg_tracker.checkpoints.interval import Observed, advise, daly_s, missing, young_s


def wasted(interval_s: float, cost_s: float, mtbf_s: float) -> float:
    """Daly's expected time to do one second of work, restarts left out: his equation for exponential failures."""
    return mtbf_s * (math.exp((interval_s + cost_s) / mtbf_s) - 1) / interval_s


@pytest.mark.parametrize(
    ("cost_s", "mtbf_s", "young", "daly"),
    [
        (60.0, 86_400.0, 3219.94, 3180.06),  # a minute, a failure a day
        (300.0, 3600.0, 1469.69, 1276.50),
        (1.0, 1e6, 1414.21, 1413.55),
    ],
)
def test_the_formulas(cost_s: float, mtbf_s: float, young: float, daly: float) -> None:
    """Both, to the cent."""
    assert young_s(cost_s, mtbf_s) == pytest.approx(young, abs=0.01)
    assert daly_s(cost_s, mtbf_s) == pytest.approx(daly, abs=0.01)


@pytest.mark.parametrize(("cost_s", "mtbf_s"), [(1.0, 1e5), (60.0, 86_400.0), (300.0, 3600.0), (600.0, 1200.0)])
def test_dalys_interval_is_nearly_the_best(cost_s: float, mtbf_s: float) -> None:
    """No interval of a fine grid wastes noticeably less, and Young's wastes no less."""
    least = min(wasted(step * mtbf_s / 10_000, cost_s, mtbf_s) for step in range(1, 20_000))
    assert wasted(daly_s(cost_s, mtbf_s), cost_s, mtbf_s) <= least * 1.001
    assert wasted(daly_s(cost_s, mtbf_s), cost_s, mtbf_s) <= wasted(young_s(cost_s, mtbf_s), cost_s, mtbf_s)


def test_saves_that_cost_more_than_failures_leave() -> None:
    """Then the time between failures is the interval."""
    assert daly_s(100.0, 50.0) == 50.0
    found = advise(Observed([100.0], 1, 50.0))
    assert found is not None
    assert "more than twice" in found.note


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ({"save_costs_s": [], "failures": 3, "observed_s": 9.0}, "blocked_s"),
        ({"save_costs_s": [0.0], "failures": 3, "observed_s": 9.0}, "blocked_s"),
        ({"save_costs_s": [1.0], "failures": 0, "observed_s": 9.0}, "no training of this project has failed"),
        ({"save_costs_s": [1.0], "failures": 1, "observed_s": 0.0}, "for how long"),
    ],
)
def test_nothing_to_compute_from(seen: dict[str, Any], told: str) -> None:
    """No advice, and a word on what is missing."""
    assert advise(Observed(**seen)) is None
    assert told in missing(Observed(**seen))


def test_the_numbers_are_in_the_answer() -> None:
    """The median of costs and of gaps; steps only where their pace is known."""
    found = advise(Observed([60.0, 0.0, 50.0, 400.0], 2, 172_800.0, [900.0, 1100.0, 9e9], 2.0))
    assert found is not None
    assert (found.save_cost_s, found.saves, found.mtbf_s, found.failures) == (60.0, 3, 86_400.0, 2)
    assert found.interval_s == found.daly_s == daly_s(60.0, 86_400.0)
    assert (found.interval_steps, found.current_interval_s, found.seconds_per_step) == (1590, 1100.0, 2.0)
    assert missing(Observed([1.0], 1, 1.0)) == ""
    without = advise(Observed([60.0], 5, 1e6))
    assert without is not None
    assert (without.interval_steps, without.current_interval_s, without.seconds_per_step) == (None, None, None)
