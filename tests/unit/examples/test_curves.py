"""Curves drawn as text."""

from __future__ import annotations

import io

from rich.console import Console

from examples.curves import LEAST, Curve, show_curves


def draw(*curves: Curve, ticks: tuple[float, ...] = ()) -> list[str]:
    console = Console(file=io.StringIO(), width=140, highlight=False)
    show_curves(console, "loss", curves, below="step", ticks=ticks)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_plot_is_ascii_and_at_most_100_columns_wide() -> None:
    lines = draw(Curve("a", "*", range(1, 500), [100.0 / step for step in range(1, 500)]))
    assert "\n".join(lines).isascii()
    assert max(map(len, lines)) <= 100
    assert "loss: * a" in lines[0]


def test_decades_and_steps_are_named() -> None:
    """Round steps where none are given, the given ones else."""
    curve = Curve("a", "*", [0, 700], [1.0, 0.001])
    text = "\n".join(draw(curve))
    for named in ("0.01+", "0.1+", "1+", "200", "600"):
        assert named in text, text
    assert "450" in "\n".join(draw(curve, ticks=(0, 450)))


def test_what_is_not_above_zero_is_drawn_at_the_lower_end() -> None:
    assert f"{LEAST:g}" in "\n".join(draw(Curve("a", "*", [0, 1, 2], [1.0, 0.0, 0.5])))


def test_the_last_curve_is_seen_where_several_are() -> None:
    steps, values = [0, 1, 2], [1.0, 0.1, 0.01]
    body = "\n".join(draw(Curve("a", "*", steps, values), Curve("b", "o", steps, values))[1:])
    assert "o" in body
    assert "*" not in body
