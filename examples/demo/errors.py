"""What ends the demo, and how.

DemoError          something did not hold: exit status 1, with the ends of the logs
└── FolderError    nothing was started: exit status 1
"""

from __future__ import annotations

from typing import Any


class DemoError(Exception):
    """Something did not hold. The message says what; the server's log may say why."""


class FolderError(DemoError):
    """The folder cannot be used, so nothing was started."""


def expect(what: str, found: Any, expected: Any) -> None:
    """Raises DemoError where something is not as it must be."""
    if found != expected:
        raise DemoError(f"{what} is {_shortened(found)}, not {_shortened(expected)}")


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:100]} ... {text[-100:]}"
