"""What expressions mean, over plain dicts: the words of docs/expressions.md, one loop each. Knows nothing of SQL. Pure.

Points are given as they stand: of each run, metric and rank one (time, value) a step, inherited ones included.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np

from thalweg_tracker.expressions.tree import MEAN, Kind, Node, Source, sources

Steps: TypeAlias = Mapping[float, tuple[int, float]]
"""By step: the time in microseconds, and the value."""
Points: TypeAlias = Mapping[str, Mapping[str, Mapping[int, Steps]]]
"""By run_id, metric and rank."""
Series: TypeAlias = dict[float, Any]
"""A float or a bool by step, in the order of steps."""
Scalar: TypeAlias = float | str | bool | None


class Oracle:
    """Knows the runs of a project. `attributes`: of each run JSON values by path: config.lr, run.status, tags.x."""

    def __init__(self, points: Points, attributes: Mapping[str, Mapping[str, Any]]) -> None:
        self._points = points
        self._attributes = attributes

    def series(self, run_id: str, node: Node, rank: int | None = None) -> list[tuple[float, float]]:
        """A series as the answer shows it; of one rank, or the mean over ranks."""
        found = self._asked(run_id, node, rank).of(node)
        return [(step, float(value)) for step, value in found.items()]

    def ranks(self, run_id: str, node: Node) -> list[int]:
        """The ranks whose series have a point."""
        known = {
            rank for source in sources(node) for rank in self._points.get(source.run or run_id, {}).get(source.name, {})
        }
        return [rank for rank in sorted(known) if self.series(run_id, node, rank)]

    def value(self, run_id: str, node: Node) -> Scalar:
        """The value of a run; None is null."""
        found: Scalar = self._asked(run_id, node, None).of(node)
        return found

    def scale(self, run_id: str, node: Node, rank: int | None = None) -> float:
        """The greatest finite size among the values of all parts of an expression, 1 at least: rounding is as great."""
        asked = self._asked(run_id, node, rank)
        sizes = [1.0]
        for part in node.walk():
            found = asked.of(part)
            values = found.values() if part.is_series else [found]
            sizes += [abs(value) for value in values if isinstance(value, float) and math.isfinite(value)]
        return max(sizes)

    def _asked(self, run_id: str, node: Node, rank: int | None) -> _Asked:
        read = {one: self._read(run_id, one, rank) for one in sources(node)}
        return _Asked(read, self._attributes.get(run_id, {}))

    def _read(self, run_id: str, source: Source, rank: int | None) -> Steps:
        """One metric over ranks. Of several times at a step the latest."""
        by_rank = self._points.get(source.run or run_id, {}).get(source.name, {})
        if isinstance(source.ranks, int):
            return by_rank.get(source.ranks, {})
        if source.ranks == MEAN and rank is not None:
            return by_rank.get(rank, {})
        read = {}
        for step in {step for points in by_rank.values() for step in points}:
            told = [points[step] for _, points in sorted(by_rank.items()) if step in points]
            read[step] = (max(time for time, _ in told), OVER_RANKS[source.ranks]([value for _, value in told]))
        return read


class _Asked:
    """One expression about one run: its metrics as they were read, and its frame."""

    def __init__(self, read: Mapping[Source, Steps], attributes: Mapping[str, Any]) -> None:
        self._read = read
        self._attributes = attributes
        self.frame = sorted({step for points in read.values() for step in points})

    def of(self, node: Node) -> Any:
        """The value of a node: a Series, or a Scalar."""
        if node.op in LEAVES:
            return node.value
        if node.op == "metric":
            assert isinstance(node.value, Source)
            return {step: value for step, (_, value) in sorted(self._read[node.value].items())}
        if node.op == "attribute":
            return self._attribute(node)
        if node.op == "has_tag":
            return f"tags.{str(node.args[0].value).replace('/', '.')}" in self._attributes
        if node.op == "exists" and node.args[0].op == "attribute":
            return self._attributes.get(str(node.args[0].value)) is not None
        args = [self.of(one) for one in node.args]
        if node.op == "exists":
            return bool(args[0])
        if node.args and node.args[0].is_series and node.op in REDUCERS:
            return None if None in args[1:] else reduce(node.op, args[0], args[1:])
        if node.op in WINDOWS:
            return windowed(node.op, args[0], args[1:], self.frame, self._times(node.args[0]))
        return self._by_step(node, args) if node.is_series else scalar(node.op, args)

    def _by_step(self, node: Node, args: list[Any]) -> Series:
        """A point-wise operator: at the steps that all its series have, if no number is missing."""
        series = [arg for one, arg in zip(node.args, args, strict=True) if one.is_series]
        if None in [arg for one, arg in zip(node.args, args, strict=True) if not one.is_series]:
            return {}
        found = {}
        for step in series[0]:
            if all(step in one for one in series):
                row = [arg[step] if one.is_series else arg for one, arg in zip(node.args, args, strict=True)]
                found[step] = scalar(node.op, row)
        return found

    def _attribute(self, node: Node) -> Any:
        """Its value, if that is of the kind which its place wants. A list or an object is of none."""
        value = self._attributes.get(str(node.value))
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = float(value)
        if node.kind is Kind.ANY:
            return value
        wanted = {Kind.NUMBER: float, Kind.STRING: str, Kind.BOOL: bool}[node.kind]
        return value if isinstance(value, wanted) else None

    def _times(self, node: Node) -> dict[float, int]:
        """When the points of a series were logged: the latest of its metrics at the step; where a filled value has
        none, of all the metrics of the frame.
        """
        own = sources(node)
        times = {}
        for step in self.frame:
            told = [self._read[one][step][0] for one in own if step in self._read[one]]
            every = [points[step][0] for points in self._read.values() if step in points]
            times[step] = max(told or every)
        return times


LEAVES: Final = {"number", "text", "boolean"}


def numbers(values: Iterable[float]) -> list[float]:
    """Without NaN."""
    return [float(value) for value in values if not math.isnan(value)]


def total(values: Sequence[float]) -> float:
    """One after the other, as IEEE adds."""
    found = 0.0
    for value in values:
        found += value
    return found


def mean(values: Sequence[float]) -> float:
    """NaN of none."""
    return total(values) / len(values) if values else math.nan


def spread(values: Sequence[float]) -> float:
    """The standard deviation of a population."""
    middle = mean(values)
    return math.sqrt(mean([(value - middle) ** 2 for value in values])) if math.isfinite(middle) else math.nan


def between(low: float, high: float, part: float) -> float:
    """Linear; at an end it is that end, also if the other one is infinite."""
    return low if part == 0 else high if part == 1 else low * (1 - part) + high * part


def quantile(values: Sequence[float], q: float) -> float:
    """Linear between the two values around it, as numpy has it: NaN where an infinity is interpolated; NaN of none."""
    if not values:
        return math.nan
    place = q * (len(values) - 1)
    low = math.floor(place)
    ordered = sorted(values)
    if low + 1 >= len(values):
        return ordered[-1]
    return ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])


def median(values: Sequence[float]) -> float:
    """Of an even count the mean of the two in the middle."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[(len(values) - 1) // 2] / 2 + ordered[len(values) // 2] / 2


def least(values: Sequence[float]) -> float:
    """NaN of none."""
    return min(values, default=math.nan)


def greatest(values: Sequence[float]) -> float:
    """NaN of none."""
    return max(values, default=math.nan)


OVER_RANKS: Final[Mapping[str, Callable[[list[float]], float]]] = {
    MEAN: mean,  # NaN, if one is
    "min": lambda values: least(numbers(values)),
    "max": lambda values: greatest(numbers(values)),
    "std": lambda values: spread(numbers(values)),
    "sum": lambda values: total(numbers(values)),
    "count": lambda values: float(len(values)),
}


# Operators and point-wise functions


def _remainder(a: float, b: float) -> float:
    return float(np.fmod(a, b))


def _clip(value: float, low: float, high: float) -> float:
    return low if value < low else high if value > high else value


def _smaller(a: float, b: float) -> float:
    return math.nan if math.isnan(a) or math.isnan(b) else min(a, b)


def _larger(a: float, b: float) -> float:
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)


def _sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


POINT_WISE: Final[Mapping[str, Callable[..., Any]]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: float(np.divide(a, b)),
    "%": _remainder,
    "**": lambda a, b: float(np.power(a, b)),
    "neg": lambda a: -a,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "not": lambda a: not a,
    "if": lambda condition, a, b: a if condition else b,
    "abs": abs,
    "round": np.rint,
    "sigmoid": _sigmoid,
    "minimum": _smaller,
    "maximum": _larger,
    "clip": _clip,
    "isnan": math.isnan,
    "isinf": math.isinf,
    "isfinite": math.isfinite,
    "contains": lambda text, part: part in text,
    "startswith": lambda text, part: text.startswith(part),
    "matches": lambda text, pattern: re.search(pattern, text) is not None,
    "length": lambda text: float(len(text)),
    **{name: getattr(np, name) for name in ("sqrt", "exp", "log", "log2", "log10", "log1p", "floor", "ceil")},
    **{name: getattr(np, name) for name in ("sign", "tanh")},
}


def scalar(op: str, args: Sequence[Any]) -> Any:
    """An operator or a function of single values. Null stays null, but where the others settle it."""
    if op == "default":
        return args[1] if args[0] is None else args[0]
    if op in ("and", "or") and (op == "or") in args:  # false and null, true or null
        return op == "or"
    if op == "if" and args[0] is not None:
        return args[1] if args[0] else args[2]
    if any(arg is None for arg in args):
        return None
    if op in ("==", "!=") and type(args[0]) is not type(args[1]):  # of two attributes
        return op == "!="
    with np.errstate(all="ignore"):
        found = POINT_WISE[op](*(np.float64(arg) if type(arg) is float else arg for arg in args))
    return found.item() if isinstance(found, np.generic) else found


# Windows and alignment


def windowed(op: str, series: Series, args: list[Any], frame: list[float], times: Mapping[float, int]) -> Series:
    """A series of a series, over its own points; fill and interpolate over the steps of the frame."""
    if op == "fill":
        return _fill(series, frame)
    if op == "interpolate":
        return _interpolate(series, frame)
    steps, values = list(series), [float(value) for value in series.values()]
    found: Series = {}
    for place, step in enumerate(steps):
        so_far = values[: place + 1]
        if op == "ema":
            found[step] = _ema(so_far, args[0])
        elif op in ROLLING:
            found[step] = ROLLING[op](numbers(so_far[-int(args[0]) :]))
        elif op in CUMULATED:
            found[step] = CUMULATED[op](numbers(so_far))
        elif op == "lag":
            behind = place - int(args[0] if args else 1)
            if behind >= 0:
                found[step] = values[behind]
        elif place > 0:
            found[step] = values[place] - values[place - 1]
            if op == "rate":
                passed_s = (times[step] - times[steps[place - 1]]) / 1e6
                found[step] = scalar("/", [found[step], passed_s])
    return found


ROLLING: Final[Mapping[str, Callable[[list[float]], float]]] = {
    "rolling_mean": mean,
    "rolling_min": least,
    "rolling_max": greatest,
    "rolling_std": spread,
    "rolling_median": median,
    "rolling_sum": total,
}
CUMULATED: Final[Mapping[str, Callable[[list[float]], float]]] = {
    "cumsum": total,
    "cummin": least,
    "cummax": greatest,
}
WINDOWS: Final = {"ema", "lag", "diff", "rate", "fill", "interpolate", *ROLLING, *CUMULATED}


def _ema(so_far: Sequence[float], weight: float) -> float:
    """The weighted mean of the numbers so far, as it was at the last of them: a factor for all changes nothing."""
    while so_far and math.isnan(so_far[-1]):
        so_far = so_far[:-1]
    terms = [(weight**age, value) for age, value in enumerate(reversed(so_far)) if not math.isnan(value)]
    terms = [(factor, value) for factor, value in terms if factor > 0]
    return total([factor * value for factor, value in terms]) / total([factor for factor, _ in terms] or [math.nan])


def _fill(series: Series, frame: list[float]) -> Series:
    found: Series = {}
    for step in frame:
        before = [one for one in series if one <= step]
        if before:
            found[step] = series[before[-1]]
    return found


def _interpolate(series: Series, frame: list[float]) -> Series:
    found: Series = {}
    for step in frame:
        if step in series:
            found[step] = series[step]
            continue
        before, after = [one for one in series if one < step], [one for one in series if one > step]
        if before and after:
            low, high = before[-1], after[0]
            found[step] = between(float(series[low]), float(series[high]), (step - low) / (high - low))
    return found


# Reducers


def _area(series: Series) -> float:
    points = [(step, float(value)) for step, value in series.items() if not math.isnan(value)]
    return total([(b - a) * (x + y) / 2 for (a, x), (b, y) in pairwise(points)])


def _place_of(extreme: Callable[[list[float]], float], series: Series) -> float:
    wanted = extreme(numbers(series.values()))
    return min((step for step, value in series.items() if value == wanted), default=math.nan)


def _steps_to(series: Series) -> float | None:
    return next((step for step, value in series.items() if value), None)


_OF_NUMBERS: Final[Mapping[str, Callable[[list[float]], float]]] = {
    "min": least,
    "max": greatest,
    "mean": mean,
    "sum": total,
    "std": spread,
    "median": median,
}
_OF_SERIES: Final[Mapping[str, Callable[..., Any]]] = {
    "last": lambda series: float(list(series.values())[-1]),
    "first": lambda series: float(next(iter(series.values()))),
    "quantile": lambda series, q: quantile(numbers(series.values()), q),
    "argmin": lambda series: _place_of(least, series),
    "argmax": lambda series: _place_of(greatest, series),
    "at": lambda series, step: float(series[step]) if step in series else None,
    "auc": _area,
    "any": lambda series: any(series.values()),
    "all": lambda series: all(series.values()),
    "steps_to": _steps_to,
}
REDUCERS: Final = {"count", *_OF_NUMBERS, *_OF_SERIES}


def reduce(op: str, series: Series, args: Sequence[Any]) -> Scalar:
    """One value of a series; null of an empty one."""
    if op == "count":
        return float(len(series))
    if not series:
        return None
    found: Scalar = _OF_NUMBERS[op](numbers(series.values())) if op in _OF_NUMBERS else _OF_SERIES[op](series, *args)
    return found
