"""Lengths of time as people write them: 90s, 15m, 12h, 30d, 8w."""

from __future__ import annotations

import re
from typing import Final

import click

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def as_seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """An option's value in seconds, for `callback=`."""
    if value is None:
        return None
    found = _SPAN.fullmatch(value)
    if found is None or not float(found[1]):
        raise click.BadParameter(f"{value!r} is not a time such as 12h, 30d or 8w")
    return float(found[1]) * _UNITS_S[found[2]]


def span_text(seconds: int) -> str:
    """Whole seconds in the greatest unit in which they are a whole number, of days and below."""
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % _UNITS_S[unit] == 0)
    return f"{seconds // _UNITS_S[unit]}{unit}"
