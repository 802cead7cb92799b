"""Numbers, times and durations as people read them. Pure but for the local time zone.

Text from the server passes `plain` before it reaches a terminal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_CUT: Final = "…"


def plain(text: object) -> str:
    """Text without control characters: no name may move the cursor or colour the screen."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def shorten(text: str, limit_chars: int) -> str:
    """Text cut to a length."""
    return text if len(text) <= limit_chars else text[: limit_chars - 1] + _CUT


def number(value: float | str | None) -> str:
    """A metric's value to six digits; the API's "NaN" and "Infinity" as they are."""
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.6g}"


def step(value: float | str | None) -> str:
    """A step with all its digits, and no ".0" on whole numbers."""
    if value is None or isinstance(value, str):
        return value or ""
    return str(int(value)) if math.isfinite(value) and value == int(value) and abs(value) < 1e16 else repr(value)


def parse_time(text: str) -> datetime:
    """A time of the API. Raises ValueError."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def local_time(text: str | None) -> str:
    """A time of the API in the local time zone, to the second; empty for None."""
    return parse_time(text).astimezone().strftime("%Y-%m-%d %H:%M:%S") if text else ""


def clock(time_us: int) -> str:
    """Microseconds since the epoch as local hours, minutes and seconds."""
    return datetime.fromtimestamp(time_us / 1e6).astimezone().strftime("%H:%M:%S")


def duration(span: timedelta) -> str:
    """A duration by its two largest units."""
    seconds = max(0, int(span.total_seconds()))
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days}d {hours:02d}h"
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {seconds % 60:02d}s" if minutes else f"{seconds}s"


def seconds(span_s: float) -> str:
    """A duration in seconds, a short one with its fraction."""
    return f"{span_s:.3g}s" if span_s < 10 else duration(timedelta(seconds=span_s))


def run_duration(run: Mapping[str, Any], now: datetime) -> str:
    """How long a run of the API has run, or ran; while it is out of sight, until it was last seen.

    Empty for a fork whose training has not begun.
    """
    if run["status"] == "created":
        return ""
    end = run["ended_at"] or (None if run["status"] == "running" else run["last_seen_at"])
    return duration((parse_time(end) if end else now) - parse_time(run["created_at"]))


def count(value: int, noun: str) -> str:
    """`1 point`, `2,000 points`."""
    return f"{value:,} {noun}" + ("" if value == 1 else "s")


def size(size_bytes: float) -> str:
    """Bytes with a binary unit."""
    unit = 0
    while size_bytes >= 1024 and unit < len(_UNITS) - 1:
        size_bytes, unit = size_bytes / 1024, unit + 1
    return f"{size_bytes:.0f} B" if unit == 0 else f"{size_bytes:.1f} {_UNITS[unit]}"


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of each leaf of nested mappings. A leaf that is also a branch lies at ""."""
    for key, value in tree.items():
        path = ".".join(part for part in (prefix, key) if part)
        if isinstance(value, Mapping) and value:
            yield from leaves(value, path)
        else:
            yield path, value
