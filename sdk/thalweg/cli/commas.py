"""Lists on the command line: parts between commas, of which those inside an expression separate nothing. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_OPEN: Final = "(["
_CLOSE: Final = ")]"
_QUOTES: Final = "\"'`"


def split_commas(text: str) -> list[str]:
    """The parts of a text between commas that are outside of brackets, strings and backticks; none of them empty."""
    parts, start, depth, quote, place = [], 0, 0, "", 0
    while place < len(text):
        character = text[place]
        if quote:
            if character == "\\" and quote != "`":  # of a string: the next one is meant literally
                place += 1
            elif character == quote:
                quote = ""
        elif character in _QUOTES:
            quote = character
        elif character == "," and depth <= 0:
            parts.append(text[start:place])
            start = place + 1
        else:
            depth += (character in _OPEN) - (character in _CLOSE)
        place += 1
    return [part.strip() for part in [*parts, text[start:]] if part.strip()]


def split_all(texts: Iterable[str]) -> list[str]:
    """The parts of an option that may be repeated, in order."""
    return [part for text in texts for part in split_commas(text)]
