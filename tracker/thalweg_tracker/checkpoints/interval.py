"""How often to save: the interval that loses least time, from what saving costs and how often the training fails.

Saving too often costs the saves, too seldom the work since the last one. With C the cost of a save and M the mean
time between failures, Young's first-order optimum is sqrt(2 C M); Daly's higher-order one holds also where C is no
longer small against M.

J. W. Young, "A first order approximation to the optimum checkpoint interval", CACM 17 (1974); J. T. Daly, "A higher
order estimate of the optimum checkpoint interval for restart dumps", FGCS 22 (2006), equation 37.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen. Costs and gaps are those of the latest saves."""

    save_costs_s: Sequence[float]  # known ones, above 0
    failures: int
    observed_s: float
    gaps_s: Sequence[float] = ()  # between saves that follow each other
    seconds_per_step: float | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """An interval between saves, and the numbers that it was computed from."""

    interval_s: float
    interval_steps: int | None
    young_s: float
    daly_s: float
    save_cost_s: float
    saves: int
    mtbf_s: float
    failures: int
    observed_s: float
    current_interval_s: float | None
    seconds_per_step: float | None
    note: str


def young_s(save_cost_s: float, mtbf_s: float) -> float:
    """Young's interval between saves."""
    return math.sqrt(2 * save_cost_s * mtbf_s)


def daly_s(save_cost_s: float, mtbf_s: float) -> float:
    """Daly's interval between saves: the work between two of them, without the save itself."""
    if save_cost_s >= 2 * mtbf_s:
        return mtbf_s
    ratio = save_cost_s / (2 * mtbf_s)
    return young_s(save_cost_s, mtbf_s) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - save_cost_s


def missing(seen: Observed) -> str:
    """What there is too little of to advise anything; empty if nothing is."""
    lacking = []
    if not any(cost > 0 for cost in seen.save_costs_s):
        lacking.append("no save has told for how long it held the training up (blocked_s)")
    if not seen.failures:
        lacking.append("no training of this project has failed yet")
    elif seen.observed_s <= 0:
        lacking.append("it is not known for how long the trainings of this project ran")
    return "; ".join(lacking)


def advise(seen: Observed) -> Advice | None:
    """The interval to save at; None where `missing` says why there is none."""
    if missing(seen):
        return None
    costs = [cost for cost in seen.save_costs_s if cost > 0]
    cost_s, mtbf_s = median(costs), seen.observed_s / seen.failures
    interval_s = daly_s(cost_s, mtbf_s)
    pace = seen.seconds_per_step if seen.seconds_per_step and seen.seconds_per_step > 0 else None
    return Advice(
        interval_s=interval_s,
        interval_steps=max(1, round(interval_s / pace)) if pace else None,
        young_s=young_s(cost_s, mtbf_s),
        daly_s=interval_s,
        save_cost_s=cost_s,
        saves=len(costs),
        mtbf_s=mtbf_s,
        failures=seen.failures,
        observed_s=seen.observed_s,
        current_interval_s=median(seen.gaps_s) if seen.gaps_s else None,
        seconds_per_step=pace,
        note=_note(cost_s, mtbf_s, len(costs), seen.failures),
    )


def _note(cost_s: float, mtbf_s: float, saves: int, failures: int) -> str:
    basis = f"median cost of the last {saves} saves, and {failures} failures in the project"
    few = ". So few failures say little about the next" if failures < 3 else ""
    dear = ". A save costs more than twice what passes between failures" if cost_s >= 2 * mtbf_s else ""
    return f"Daly's interval from the {basis}{few}{dear}."
