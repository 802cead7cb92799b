"""Reducers as SQL: aggregates over the column of a series, NULL where it has no point. NaN is left out by most."""

from __future__ import annotations

from typing import Final

AREA: Final = "auc"
"""Its operand is the area at each point (compile.py)."""

# {a}: the operand, {b}: without NaN, {o}: OVER ..., {p}: a parameter.
_STD: Final = "stddevPopStable({b}){o} + 0 * max(abs({b})){o}"  # NaN where there is an infinity
_MEDIAN: Final = "quantileExactLow(0.5)({b}){o} / 2 + quantileExactHigh(0.5)({b}){o} / 2"  # of infinities, too
_OF_NUMBERS: Final = "if(count({a}){o} = 0, NULL, ifNull({of}, {none}))"
_PLACE: Final = "if(count({a}){o} = 0, NULL, if(count({b}){o} = 0, nan, {of}))"
_FORMS: Final = {
    "last": "argMax({a}, step){o}",
    "first": "argMin({a}, step){o}",
    "min": _OF_NUMBERS.replace("{of}", "min({b}){o}").replace("{none}", "nan"),
    "max": _OF_NUMBERS.replace("{of}", "max({b}){o}").replace("{none}", "nan"),
    "mean": _OF_NUMBERS.replace("{of}", "avg({b}){o}").replace("{none}", "nan"),
    "std": _OF_NUMBERS.replace("{of}", _STD).replace("{none}", "nan"),
    "median": _OF_NUMBERS.replace("{of}", _MEDIAN).replace("{none}", "nan"),
    "quantile": _OF_NUMBERS.replace("{of}", "quantileExactInclusive({p})({b}){o}").replace("{none}", "nan"),
    "sum": _OF_NUMBERS.replace("{of}", "sum({b}){o}").replace("{none}", "0."),
    AREA: "if(count({a}){o} = 0, NULL, sum({a}){o})",
    "argmin": _PLACE.replace("{of}", "argMinIf(step, (ifNull({b}, 0.), step), isNotNull({b})){o}"),
    "argmax": _PLACE.replace("{of}", "argMaxIf(step, (ifNull({b}, 0.), -step), isNotNull({b})){o}"),
    "at": "anyIf({a}, step = {p}){o}",
    "count": "toFloat64(count({a}){o})",
    "exists": "(count({a}){o} > 0)",
    "any": "(max({a}){o} > 0)",
    "all": "(min({a}){o} > 0)",
    "steps_to": "min(if({a} > 0, step, NULL)){o}",
}
REDUCERS: Final = frozenset(_FORMS)
FROM_STATISTICS: Final = frozenset({"last", "first", "min", "max", "argmin", "argmax", "exists"})
"""Those of a logged metric that are known without its points."""


def reducer_sql(op: str, operand: str, parameter: str, over: str = "") -> str:
    """The aggregate of a reducer. `parameter`: what it takes beside the series. `over`: its window, if it is one."""
    numbers = f"if(isNaN({operand}), NULL, {operand})"
    return _FORMS[op].format(a=operand, b=numbers, o=over, p=parameter)
