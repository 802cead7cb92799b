"""Parts of texts, underlined."""

from __future__ import annotations

import pytest

from thalweg.carets import WIDTH_CHARS, underlined


@pytest.mark.parametrize(
    ("text", "span", "carets"),
    [
        ("smoth(loss, 0.9)", (0, 5), "^^^^^"),
        ("last(los)", (5, 8), "     ^^^"),
        ("a +", (3, 3), "   ^"),  # at the end
        ("a +", (7, 9), "   ^"),  # outside
        ("a\tb", (2, 3), "  ^"),  # a control character is one space
        ("`損失` + b", (7, 8), "         ^"),  # wide characters take two columns
        ("", (0, 0), "^"),
    ],
)
def test_carets_stand_below_the_part(text: str, span: tuple[int, int], carets: str) -> None:
    """Both lines are indented alike."""
    shown, below = underlined(text, span).split("\n")
    assert (shown, below) == (("  " + text.replace("\t", " ")), "  " + carets)


def test_of_several_lines_that_of_the_part_is_shown() -> None:
    """A part that goes on to the next line is underlined to the end of its first."""
    assert underlined("a +\nbad(\nc)", (4, 9)) == "  bad(\n  ^^^^"


def test_of_a_long_line_the_neighbourhood_is_shown() -> None:
    """An expression may have 4096 characters."""
    shown, below = underlined("a" * 2000 + "BAD" + "c" * 2000, (2000, 2003)).split("\n")
    assert len(shown) <= WIDTH_CHARS + 20
    assert shown[below.index("^") : below.index("^") + below.count("^")] == "BAD"
