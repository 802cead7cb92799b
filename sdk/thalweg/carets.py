"""A part of a text, shown by carets on a line below it. Pure."""

from __future__ import annotations

import unicodedata
from typing import Final

WIDTH_CHARS: Final = 100
"""Of a longer line, so much around the part is shown."""
_INDENT: Final = "  "
_CUT: Final = "..."


def underlined(text: str, span: tuple[int, int]) -> str:
    """The line in which the part begins, and carets below the part, as far as it is on that line.

    `span`: characters from and up to; what lies outside of the text counts as its end. Two lines, indented.
    """
    start = min(max(span[0], 0), len(text))
    end = min(max(span[1], start), len(text))
    before, rest = text[:start].rpartition("\n")[2], text[start:].partition("\n")[0]
    part, after = rest[: end - start], rest[end - start :]
    before = _CUT + before[-WIDTH_CHARS // 2 :] if len(before) > WIDTH_CHARS // 2 + len(_CUT) else before
    part, after = _begin(part), _begin(after)
    shown = [_shown(piece) for piece in (before, part, after)]
    return f"{_INDENT}{''.join(shown)}\n{_INDENT}{' ' * _cells(shown[0])}{'^' * max(_cells(shown[1]), 1)}"


def _begin(text: str) -> str:
    return text[: WIDTH_CHARS // 2] + _CUT if len(text) > WIDTH_CHARS // 2 + len(_CUT) else text


def _shown(text: str) -> str:
    """Without control characters: each as a space, so that places stay."""
    return "".join(character if character.isprintable() else " " for character in text)


def _cells(text: str) -> int:
    """Columns that it takes on a screen."""
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
