"""Waiting for a condition with a generous deadline: tests never depend on time being fast."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.01


def wait_until(condition: Callable[[], T], timeout_s: float = 60) -> T:
    """The first true value of `condition`. Raises AssertionError after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    pause = threading.Event()
    while not (value := condition()):
        if time.monotonic() > deadline_s:
            raise AssertionError(f"{condition} was not true within {timeout_s} s")
        pause.wait(_POLL_S)
    return value
