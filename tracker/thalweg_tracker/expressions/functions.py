"""All functions of the language in one table: what they take, give and mean. The checker and the documents read it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from thalweg.wire.limits import RANK_MAX
from thalweg_tracker.model.limits import WINDOW_MAX_POINTS

_BELOW_ONE: Final = math.nextafter(1, 0)


class Takes(StrEnum):
    """What may stand in a parameter's place."""

    SERIES = "a series"
    POINTS = "a series or a condition on one"
    CONDITIONS = "a condition on a series"
    VALUE = "a series or a number"
    CONDITION = "a condition"
    BRANCH = "a value of any kind, the same in both branches"
    NUMBER = "a number"
    STRING = "text"
    SCALAR = "one value a run"
    PRESENCE = "a series or an attribute"
    CONSTANT = "a number, written out"
    QUOTED = "quoted text"
    METRIC = "a logged metric"
    EXPRESSION = "an expression"


class Gives(StrEnum):
    """What a call gives."""

    SERIES = "a series"
    NUMBER = "a number"
    BOOL = "a bool"
    VALUE = "a series if an argument is one, else a number"
    CONDITION = "a condition on a series if the argument is one, else a bool"
    ARGUMENT = "what its arguments are"
    ATTRIBUTE = "an attribute"


class FunctionClass(StrEnum):
    """How a function treats points. RANK and NAME say only where a value comes from: the checker resolves them."""

    POINTWISE = "pointwise"
    WINDOW = "window"
    ALIGNMENT = "alignment"
    REDUCER = "reducer"
    PREDICATE = "predicate"
    RANK = "rank"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One place in a call. The range is that of a CONSTANT; `default` makes it optional."""

    name: str
    takes: Takes
    default: float | None = None
    low: float = -math.inf
    high: float = math.inf
    is_whole: bool = False
    range_text: str = ""


@dataclass(frozen=True, slots=True)
class Function:
    """One function; `doc` is one line, with the parameters by their names."""

    name: str
    parameters: tuple[Parameter, ...]
    gives: Gives
    function_class: FunctionClass
    doc: str

    @property
    def arguments_min(self) -> int:
        """Arguments that a call must have."""
        return sum(one.default is None for one in self.parameters)

    @property
    def signature(self) -> str:
        """As documented: `lag(x, n=1)`."""
        shown = (one.name if one.default is None else f"{one.name}={one.default:g}" for one in self.parameters)
        return f"{self.name}({', '.join(shown)})"


_X: Final = Parameter("x", Takes.SERIES)
_POINTS: Final = Parameter("x", Takes.POINTS)
_VALUE: Final = Parameter("x", Takes.VALUE)
_CONDITIONS: Final = Parameter("cond", Takes.CONDITIONS)
_TEXT: Final = Parameter("s", Takes.STRING)
_METRIC: Final = Parameter("m", Takes.METRIC)
_PATH: Final = Parameter("path", Takes.QUOTED)
_N: Final = Parameter(
    "n",
    Takes.CONSTANT,
    low=1,
    high=WINDOW_MAX_POINTS,
    is_whole=True,
    range_text=f"a whole number from 1 to {WINDOW_MAX_POINTS}",
)
_LAG: Final = Parameter("n", Takes.CONSTANT, 1, _N.low, _N.high, is_whole=True, range_text=_N.range_text)
_WEIGHT: Final = Parameter("weight", Takes.CONSTANT, low=0, high=_BELOW_ONE, range_text="a number from 0 to below 1")
_Q: Final = Parameter("q", Takes.CONSTANT, low=0, high=1, range_text="a number from 0 to 1")
_RANK: Final = Parameter(
    "rank", Takes.CONSTANT, low=0, high=RANK_MAX, is_whole=True, range_text=f"a whole number from 0 to {RANK_MAX}"
)


def _pointwise() -> Iterable[Function]:
    of = FunctionClass.POINTWISE
    for name, doc in (
        ("abs", "The absolute value of x."),
        ("sqrt", "The square root of x."),
        ("exp", "e to the power of x."),
        ("log", "The natural logarithm of x."),
        ("log2", "The logarithm of x to base 2."),
        ("log10", "The logarithm of x to base 10."),
        ("log1p", "The natural logarithm of 1 + x."),
        ("floor", "The greatest whole number that is not above x."),
        ("ceil", "The least whole number that is not below x."),
        ("round", "The whole number next to x; halves go to the even one."),
        ("sign", "-1, 0 or 1."),
        ("tanh", "The hyperbolic tangent of x."),
        ("sigmoid", "1 / (1 + exp(-x))."),
    ):
        yield Function(name, (_VALUE,), Gives.VALUE, of, doc)
    pair = (Parameter("a", Takes.VALUE), Parameter("b", Takes.VALUE))
    yield Function("minimum", pair, Gives.VALUE, of, "The smaller one of a and b at each step; NaN if one is NaN.")
    yield Function("maximum", pair, Gives.VALUE, of, "The greater one of a and b at each step; NaN if one is NaN.")
    bounds = (_VALUE, Parameter("lo", Takes.VALUE), Parameter("hi", Takes.VALUE))
    yield Function("clip", bounds, Gives.VALUE, of, "x, held between lo and hi.")
    branches = (Parameter("a", Takes.BRANCH), Parameter("b", Takes.BRANCH))
    choice = (Parameter("cond", Takes.CONDITION), *branches)
    yield Function("if", choice, Gives.ARGUMENT, of, "a where cond is true, else b; all three must have the step.")
    for name, doc in (
        ("isnan", "Whether x is NaN."),
        ("isinf", "Whether x is infinite."),
        ("isfinite", "Whether x is neither NaN nor infinite."),
    ):
        yield Function(name, (_VALUE,), Gives.CONDITION, of, doc)


def _windows() -> Iterable[Function]:
    of = FunctionClass.WINDOW
    yield Function(
        "ema",
        (_X, _WEIGHT),
        Gives.SERIES,
        of,
        "Exponential moving average, free of the bias of its begin; NaN left out.",
    )
    for name, doc in (
        ("mean", "The mean of the last n points."),
        ("min", "The least of the last n points."),
        ("max", "The greatest of the last n points."),
        ("std", "The standard deviation (of the population) of the last n points."),
        ("median", "The median of the last n points."),
        ("sum", "The sum of the last n points."),
    ):
        yield Function(f"rolling_{name}", (_X, _N), Gives.SERIES, of, f"{doc[:-1]}, fewer at the begin; NaN left out.")
    yield Function("cumsum", (_X,), Gives.SERIES, of, "The sum of all points so far; NaN left out.")
    yield Function("cummin", (_X,), Gives.SERIES, of, "The least of all points so far; NaN left out.")
    yield Function("cummax", (_X,), Gives.SERIES, of, "The greatest of all points so far; NaN left out.")
    yield Function("diff", (_X,), Gives.SERIES, of, "Each point less the one before; none at the first.")
    yield Function("lag", (_X, _LAG), Gives.SERIES, of, "The value n points before; none at the first n.")
    yield Function("rate", (_X,), Gives.SERIES, of, "diff(x) a second, by the times of the points.")


def _alignment() -> Iterable[Function]:
    of = FunctionClass.ALIGNMENT
    yield Function(
        "fill",
        (_X,),
        Gives.SERIES,
        of,
        "The latest value of x, at each step of the expression's metrics from x's first.",
    )
    yield Function(
        "interpolate", (_X,), Gives.SERIES, of, "x, with a straight line between its points at the steps of the others."
    )


def _reducers() -> Iterable[Function]:
    of = FunctionClass.REDUCER
    for name, doc in (
        ("last", "The value at the last step."),
        ("first", "The value at the first step."),
        ("min", "The least value; NaN left out."),
        ("max", "The greatest value; NaN left out."),
        ("mean", "The mean; NaN left out."),
        ("sum", "The sum; NaN left out."),
        ("std", "The standard deviation (of the population); NaN left out."),
        ("median", "The median; NaN left out."),
        ("argmin", "The step of the least value, the first of equal ones; NaN left out."),
        ("argmax", "The step of the greatest value, the first of equal ones; NaN left out."),
        ("count", "How many points there are, NaN among them."),
        ("auc", "The area under the curve over the steps, by trapezoids; NaN left out."),
    ):
        yield Function(name, (_POINTS,), Gives.NUMBER, of, doc)
    yield Function(
        "quantile", (_POINTS, _Q), Gives.NUMBER, of, "The q-quantile, linear between two values; NaN left out."
    )
    step = Parameter("step", Takes.NUMBER)
    yield Function("at", (_POINTS, step), Gives.NUMBER, of, "The value at exactly that step.")
    yield Function("any", (_CONDITIONS,), Gives.BOOL, of, "Whether cond is true at any step.")
    yield Function("all", (_CONDITIONS,), Gives.BOOL, of, "Whether cond is true at all its steps.")
    yield Function("steps_to", (_CONDITIONS,), Gives.NUMBER, of, "The first step at which cond is true.")


def _predicates() -> Iterable[Function]:
    of = FunctionClass.PREDICATE
    part = (_TEXT, Parameter("part", Takes.QUOTED))
    yield Function("has_tag", (Parameter("tag", Takes.QUOTED),), Gives.BOOL, of, "Whether the run has that tag.")
    presence = (Parameter("x", Takes.PRESENCE),)
    yield Function("exists", presence, Gives.BOOL, of, "Whether x has a point, or the attribute a value.")
    yield Function("contains", part, Gives.BOOL, of, "Whether part stands in s.")
    yield Function("startswith", part, Gives.BOOL, of, "Whether s begins with part.")
    pattern = (_TEXT, Parameter("regex", Takes.QUOTED))
    yield Function("matches", pattern, Gives.BOOL, of, "Whether the regular expression (RE2) is found in s.")
    yield Function("length", (_TEXT,), Gives.NUMBER, of, "The characters of s.")
    values = (Parameter("a", Takes.SCALAR), Parameter("b", Takes.SCALAR))
    yield Function("default", values, Gives.ARGUMENT, of, "a, or b where the run has no a.")


def _ranks() -> Iterable[Function]:
    of = FunctionClass.RANK
    inner = Parameter("x", Takes.EXPRESSION)
    yield Function("rank", (inner, _RANK), Gives.ARGUMENT, of, "x with all its metrics of that rank.")
    for name, doc in (
        ("mean", "The mean of m over the ranks at each step, which is what m alone is too."),
        ("min", "The least value of m over the ranks at each step."),
        ("max", "The greatest value of m over the ranks at each step."),
        ("std", "The standard deviation of m over the ranks at each step."),
        ("sum", "The sum of m over the ranks at each step."),
        ("count", "How many ranks have a value of m at each step."),
    ):
        yield Function(f"{name}_over_ranks", (_METRIC,), Gives.SERIES, of, doc)


def _names() -> Iterable[Function]:
    of = FunctionClass.NAME
    run = Parameter("run_id", Takes.QUOTED)
    yield Function(
        "metric",
        (Parameter("name", Takes.QUOTED),),
        Gives.SERIES,
        of,
        "The metric of that name, as `name` in backticks.",
    )
    yield Function(
        "config", (_PATH,), Gives.ATTRIBUTE, of, 'The attribute at that path of the config; "/" counts as ".".'
    )
    yield Function("env", (_PATH,), Gives.ATTRIBUTE, of, 'The attribute at that path of the env; "/" counts as ".".')
    inner = Parameter("x", Takes.EXPRESSION)
    yield Function("run", (run, inner), Gives.ARGUMENT, of, "x with all its metrics of that run.")


def _table() -> Iterable[Function]:
    for part in (_pointwise, _windows, _alignment, _reducers, _predicates, _ranks, _names):
        yield from part()


FUNCTIONS: Final[Mapping[str, Function]] = MappingProxyType({one.name: one for one in _table()})
"""By name, in the order of the documentation."""

SPELLINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "average": "mean", "avg": "mean", "stddev": "std", "std_dev": "std", "p50": "median", "percentile": "quantile",
        "ewm": "ema", "ewma": "ema", "smooth": "ema", "moving_average": "rolling_mean", "rolling_avg": "rolling_mean",
        "ln": "log", "absolute": "abs", "shift": "lag", "delta": "diff", "derivative": "rate", "ffill": "fill",
        "where": "if", "iff": "if", "ifelse": "if", "coalesce": "default", "len": "length", "final": "last",
        "idxmin": "argmin", "idxmax": "argmax", "is_nan": "isnan", "tag": "has_tag", "clamp": "clip",
        "includes": "contains",
    }
)  # fmt: skip
"""What other tools call them."""
