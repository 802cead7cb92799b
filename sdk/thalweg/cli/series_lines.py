"""Series as a table with a line a series: what they are, how they begin and end, and their course."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from thalweg.cli import formats, output
from thalweg.cli.sparkline import ASCII, BLOCKS, sparkline
from thalweg.query.decode import float_of

TREND_CHARS: Final = 32
_NAME_CHARS: Final = 60
_NUMBERS: Final = ("n", "runs", "rank", "nans", "first", "last", "min", "max")


def print_series(series: Sequence[Mapping[str, Any]], marks: Sequence[str] = ()) -> None:
    """Prints the table. Columns in which nothing stands are left out. `marks`: of each series in a picture of them."""
    blocks = BLOCKS if output.takes(BLOCKS) else ASCII
    lines = [_line(one, blocks) for one in series]
    if marks:
        lines = [{"": mark, **line} for mark, line in zip(marks, lines, strict=True)]
    names = [name for name in lines[0] if any(line[name] for line in lines)]
    output.print_table(names, [[line[name] for name in names] for line in lines], right=_NUMBERS)


def middle(one: Mapping[str, Any]) -> list[float]:
    """The course of a series: its values, or the means of its buckets or groups."""
    return numbers(one["value"] if "value" in one else one["mean"])


def numbers(values: Sequence[float | str | None]) -> list[float]:
    """A column of the API; null is NaN."""
    return [math.nan if (value := float_of(told)) is None else value for told in values]


def _line(one: Mapping[str, Any], blocks: str) -> dict[str, str]:
    means = middle(one)
    lows, highs = numbers(one.get("min", means)), numbers(one.get("max", means))
    firsts, lasts = numbers(one.get("first", means)), numbers(one.get("last", means))
    counts = one.get("n", [1] * len(means))
    nans = sum(one["nans"]) if "nans" in one else sum(map(math.isnan, means))
    labels = {name: _text(value) for name, value in one["group"].items()} if "group" in one else _labels(one)
    amount = {"runs": f"{max(counts, default=0):,}"} if "group" in one else {"n": f"{sum(counts):,}"}
    return {
        "name": formats.shorten(one["name"], _NAME_CHARS),
        **labels,
        **amount,
        "nans": f"{nans:,}" if nans else "",
        "first": formats.number(firsts[0]) if firsts else "",
        "last": formats.number(lasts[-1]) if lasts else "",
        "min": _least(lows, min),
        "max": _least(highs, max),
        "trend": sparkline(numbers(one["x"]), means, TREND_CHARS, blocks),
    }


def _labels(one: Mapping[str, Any]) -> dict[str, str]:
    branch = f" (branch {one['branch']})" if one.get("branch") else ""
    return {"run": one["run_id"] + branch, "rank": "" if one.get("rank") is None else str(one["rank"])}


def _text(value: object) -> str:
    return "" if value is None else formats.number(value) if isinstance(value, float) else str(value)


def _least(values: Sequence[float], of: Any) -> str:
    """The least or greatest of the numbers."""
    known = [value for value in values if not math.isnan(value)]
    return formats.number(of(known)) if known else "nan"
