"""From what users hand to `log()` to names and numbers. Pure.

The fast path in recorder.py takes flat dicts of numbers as they are; everything else comes here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from thalweg.wire import limits


@dataclass(frozen=True, slots=True)
class Refusal:
    """A value or name that cannot be logged. `reason` is a counter of the spool's state."""

    metric: str
    reason: str
    message: str


def flatten(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[Any, Any]]:
    """Name and value of each leaf of nested dicts; names are joined by "/"."""
    for key, value in values.items():
        name = f"{prefix}/{key}" if prefix else key
        if isinstance(value, Mapping):
            yield from flatten(value, str(name))
        else:
            yield name, value


def sort_out(values: Mapping[Any, Any]) -> tuple[dict[str, float], list[Refusal]]:
    """What of `values` can be logged, and what cannot, with the reason."""
    good: dict[str, float] = {}
    refused: list[Refusal] = []
    try:
        leaves = list(flatten(values))
    except Exception as error:  # noqa: BLE001  # a user's mapping may raise anything, and may be none
        message = f"a {type(values).__name__} that cannot be read as a mapping ({type(error).__name__})"
        return {}, [Refusal(shorten(values), "dropped_bad_value", message)]
    for name, value in leaves:
        refusal = check_name(name)
        number = None if refusal else to_number(value)
        if refusal is not None:
            refused.append(refusal)
        elif number is None:
            message = f"its value {shorten(value)} is a {type(value).__name__}, not a number"
            refused.append(Refusal(name, "dropped_bad_value", message))
        else:
            good[name] = number
    return good, refused


def check_name(name: object) -> Refusal | None:
    """Why this cannot be a metric's name, or None if it can."""
    if not isinstance(name, str):
        return Refusal(shorten(name), "dropped_bad_name", f"a name must be text, not {type(name).__name__}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return Refusal(shorten(name), "dropped_bad_name", "the name is not valid Unicode")
    if not 1 <= size <= limits.METRIC_NAME_MAX_BYTES:
        limit = limits.METRIC_NAME_MAX_BYTES
        return Refusal(shorten(name), "dropped_bad_name", f"the name has {size} bytes; 1 to {limit} are allowed")
    return None


def to_number(value: object) -> float | None:
    """A number, NumPy scalar or one-element tensor as float; None for anything else."""
    if isinstance(value, (str, bytes, bytearray)):
        return None
    item = getattr(value, "item", None)
    try:
        return float(item() if callable(item) else value)  # type: ignore[arg-type]  # tried, not known
    except Exception:  # noqa: BLE001  # a user's __float__ may raise anything
        return None


def shorten(value: object, limit_chars: int = 60) -> str:
    """A value's `repr`, cut to a size fit for a message."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001  # a user's __repr__ may raise anything
        text = f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= limit_chars else text[: limit_chars - 3] + "..."
