"""Series drawn as text by plotext, all in one picture; letters tell them apart. Needs plotext."""

from __future__ import annotations

import math
import string
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import click

from thalweg.cli import output

HEIGHT_ROWS: Final = 20
WIDTH_MAX: Final = 160
LETTERS: Final = string.ascii_letters
_ONE: Final = "braille"
_TO_ASCII: Final = str.maketrans("┌┐└┘├┤┬┴┼─│", "+++++++++-|")


@dataclass(frozen=True, slots=True)
class Curve:
    """A series to draw."""

    x: Sequence[float]
    values: Sequence[float]


def needed_plotext() -> Any:
    """The library. Raises ClickException with the command that installs it."""
    try:
        return import_module("plotext")
    except ImportError as error:
        raise click.ClickException(f"cannot draw: {error}. It needs: pip install 'thalweg[plot]'") from error


def marks(count: int) -> list[str]:
    """The letter of each of several series; what is past the alphabet is not drawn and has none."""
    return [LETTERS[place] if place < len(LETTERS) else "" for place in range(count)]


def draw(plotext: Any, curves: Sequence[Curve], below: str) -> str:
    """The picture, as wide as the terminal. `below`: what stands below the x axis."""
    plotext.terminal.limit(width=False, height=False)
    figure = plotext.figure.clear()
    figure.theme("simple").plot_size(min(output.console().width, WIDTH_MAX), HEIGHT_ROWS).label(below, "x")
    is_plain = not output.takes("⠿┤")
    single = _ONE if len(curves) == 1 and not is_plain else None
    for curve, letter in zip(curves, marks(len(curves)), strict=True):
        points = [(x, y) for x, y in zip(curve.x, curve.values, strict=True) if math.isfinite(x) and math.isfinite(y)]
        if points and letter:
            xs, ys = zip(*points, strict=True)
            figure.draw(figure.signal(list(xs), list(ys), marker=single or letter).lines())
    text = str(figure.build().string(colorless=output.console().no_color or not sys.stdout.isatty()))
    return (text.translate(_TO_ASCII) if is_plain else text).rstrip()
