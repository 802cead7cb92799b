"""Server-sent events, as `/live` sends them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any


def read_events(lines: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Each event as its kind and its data; ("", None) for a comment."""
    kind = ""
    for line in lines:
        text = line.rstrip("\n")
        if text.startswith(":"):
            yield "", None
        elif text.startswith("event: "):
            kind = text.removeprefix("event: ")
        elif text.startswith("data: "):
            yield kind, json.loads(text.removeprefix("data: "))
