"""What the SDK says to the person at the terminal: one place, standard error, never an exception."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Final

_PACKAGE: Final = __name__.partition(".")[0]


def say(message: str) -> None:
    """Prints one line to standard error."""
    try:
        print(f"thalweg: {message}", file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        return  # closed, full, or absent standard error must not end a training


def call_site() -> str:
    """`file:line` of the innermost caller outside this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == _PACKAGE:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "<unknown>"
