"""Windows and alignment as SQL over the column of a series, NULL where it has no point.

All of a layer are computed in one SELECT; what one needs of another row is put into a layer below it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Protocol

from thalweg_tracker.expressions.binding import Binder
from thalweg_tracker.expressions.tree import Source

_SO_FAR: Final = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"


class Window(Protocol):
    """The operand of a window, and what stands around its points."""

    value: str
    arguments: list[float | str | bool | Source | None]
    binder: Binder

    def over(self, rows: str) -> str:
        """OVER the points of the series, by step."""

    def over_frame(self, order: str) -> str:
        """OVER the rows of the frame up to each, in an order."""

    def layer(self, *values: str) -> list[str]:
        """Puts values into a layer below this one, and names them."""

    @property
    def time_us(self) -> str:
        """When the point of a row was logged."""


def _number(value: object) -> float:
    assert isinstance(value, (int, float)), value
    return float(value)


def _points(window: Window, sql: str) -> str:
    return f"if(isNull({window.value}), NULL, {sql})"


def _numbers(window: Window) -> str:
    """The operand without NaN, as aggregates leave NULL out."""
    return f"if(isNaN({window.value}), NULL, {window.value})"


def _ema(window: Window) -> str:
    """Sums that decay by the weight a point, of the numbers and of how many there were."""
    weight = _number(window.arguments[0])
    if weight == 0:  # the latest number
        return _cumulated("anyLast", "nan", window)
    place = window.layer(f"toFloat64(row_number() {window.over(_SO_FAR)})")[0]
    decay = window.binder.number(-1 / math.log(weight))
    value, over = window.value, window.over(_SO_FAR)
    sums = f"exponentialTimeDecayedSum({decay})(if(isNaN({value}), 0., ifNull({value}, 0.)), {place}) {over}"
    counts = f"exponentialTimeDecayedSum({decay})(if(isNaN({value}), 0., 1.), {place}) {over}"
    return _points(window, f"{sums} / {counts}")


def _rolling(aggregate: str, empty: str, window: Window) -> str:
    size = int(_number(window.arguments[0]))
    rows = f"ROWS BETWEEN {size - 1} PRECEDING AND CURRENT ROW"
    return _points(window, f"ifNull({aggregate}({_numbers(window)}) {window.over(rows)}, {empty})")


def _rolling_std(window: Window) -> str:
    greatest = _rolling("max", "nan", window)
    least = _rolling("min", "nan", window)
    return f"{_rolling('stddevPopStable', 'nan', window)} + 0 * {greatest} + 0 * {least}"  # NaN with an infinity


def _rolling_median(window: Window) -> str:
    halves = (_rolling(f"quantileExact{side}(0.5)", "nan", window) for side in ("Low", "High"))
    return " + ".join(f"{half} / 2" for half in halves)  # an infinity is no number to interpolate with


def _cumulated(aggregate: str, empty: str, window: Window) -> str:
    return _points(window, f"ifNull({aggregate}({_numbers(window)}) {window.over(_SO_FAR)}, {empty})")


def _lagged(window: Window, points: int, value: str) -> str:
    rows = f"ROWS BETWEEN {points} PRECEDING AND CURRENT ROW"
    return f"lagInFrame({value}, {points}) {window.over(rows)}"


def _lag(window: Window) -> str:
    return _points(window, _lagged(window, int(_number(window.arguments[0])), window.value))


def _diff(window: Window) -> str:
    return _points(window, f"{window.value} - {_lagged(window, 1, window.value)}")


def _rate(window: Window) -> str:
    (time,) = window.layer(f"toNullable({window.time_us})")
    seconds = f"(({time} - {_lagged(window, 1, time)}) / 1000000)"
    return _points(window, f"({window.value} - {_lagged(window, 1, window.value)}) / {seconds}")


def _fill(window: Window) -> str:
    return f"anyLast({window.value}) {window.over_frame('step')}"


def _interpolate(window: Window) -> str:
    value, own_step = window.value, f"if(isNull({window.value}), NULL, step)"
    before, after = window.over_frame("step"), window.over_frame("step DESC")
    low, low_value, high, high_value = window.layer(
        f"anyLast({own_step}) {before}",
        f"anyLast({value}) {before}",
        f"anyLast({own_step}) {after}",
        f"anyLast({value}) {after}",
    )
    part = f"((step - {low}) / ({high} - {low}))"
    between = f"{low_value} * (1 - {part}) + {high_value} * {part}"
    return f"if(isNull({value}), {between}, {value})"


ALIGNMENT: Final = frozenset({"fill", "interpolate"})
"""What gives a series values at steps of the frame that are not its own."""
WINDOWS: Final[Mapping[str, Callable[[Window], str]]] = {
    "ema": _ema,
    "rolling_mean": partial(_rolling, "avg", "nan"),
    "rolling_min": partial(_rolling, "min", "nan"),
    "rolling_max": partial(_rolling, "max", "nan"),
    "rolling_std": _rolling_std,
    "rolling_median": _rolling_median,
    "rolling_sum": partial(_rolling, "sum", "0."),
    "cumsum": partial(_cumulated, "sum", "0."),
    "cummin": partial(_cumulated, "min", "nan"),
    "cummax": partial(_cumulated, "max", "nan"),
    "lag": _lag,
    "diff": _diff,
    "rate": _rate,
    "fill": _fill,
    "interpolate": _interpolate,
}
