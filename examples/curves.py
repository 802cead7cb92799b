"""Curves as text, in ASCII: any terminal and any log can show them. Values above 0, on a scale of decades."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import plotext  # type: ignore[import-untyped]  # ships no types
from rich.console import Console
from rich.text import Text

HEIGHT_ROWS: Final = 18
WIDTH_MAX: Final = 100
LEAST: Final = 1e-6  # what is less is drawn there
TICKS_MOST: Final = 8
TO_ASCII: Final = str.maketrans("┌┐└┘├┤┬┴┼─│", "+++++++++-|")


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of the plot."""

    name: str
    marker: str
    steps: Sequence[float]
    values: Sequence[float]


def show_curves(
    console: Console, title: str, curves: Sequence[Curve], *, below: str = "step", ticks: Sequence[float] = ()
) -> None:
    """Draws curves over their steps; where several run through a place, the last one is seen.

    `below`: what stands below the steps. `ticks`: steps to name; round ones if not given.
    """
    plotext.terminal.limit(width=False, height=False)
    figure = plotext.figure.clear()
    figure.theme("simple").plot_size(min(console.width, WIDTH_MAX), HEIGHT_ROWS).label(below, "x")
    lowest, highest = math.inf, -math.inf
    for curve in curves:
        # by hand: plotext 6.1 has no ticks on log scales
        decades = [math.log10(max(value, LEAST)) for value in curve.values]
        figure.draw(figure.signal(list(curve.steps), decades, marker=curve.marker).lines())
        lowest, highest = min(lowest, *decades), max(highest, *decades)
    powers = range(math.floor(lowest), math.floor(highest) + 1)
    figure.ruler("y").ticks(list(powers), [f"{10.0**power:g}" for power in powers])
    last_step = max(curve.steps[-1] for curve in curves)
    figure.ruler("x").ticks(list(ticks) or list(range(0, int(last_step) + 1, _round_step(last_step))))
    figure.title(f"{title}: {', '.join(f'{curve.marker} {curve.name}' for curve in curves)}")
    is_plain = console.no_color or not console.is_terminal
    console.print(Text.from_ansi(figure.build().string(colorless=is_plain).translate(TO_ASCII)))


def _round_step(last_step: float) -> int:
    """The least of 1, 2, 5, 10, 20 ... that needs few ticks."""
    size = 1
    while True:
        for digit in (1, 2, 5):
            if last_step / (size * digit) < TICKS_MOST:
                return size * digit
        size *= 10
