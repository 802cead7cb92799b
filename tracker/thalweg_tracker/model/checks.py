"""What names and attributes must be like, wherever they come in. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

from thalweg.wire import limits
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.errors import RejectedError

_NAMESPACES: Final = frozenset({"config", "env", "tags", "run"})


def check_label(what: str, text: str, limit_bytes: int) -> None:
    """A project or run id: printable, a segment of a URL's path, within the limit. Raises RejectedError."""
    if not 1 <= len(text.encode()) <= limit_bytes or "/" in text or text in (".", "..") or not text.isprintable():
        raise RejectedError(
            f"bad_{what}",
            f"cannot take {what} {text[:150]!r}: it must have 1 to {limit_bytes} bytes, printable, without '/',"
            " and be neither '.' nor '..'",
        )


def check_attempt(attempt: str) -> None:
    """Raises RejectedError."""
    if not 1 <= len(attempt.encode()) <= limits.ATTEMPT_MAX_BYTES:
        raise RejectedError(
            "bad_attempt",
            f"cannot take the attempt {attempt[:60]!r}: it must have 1 to {limits.ATTEMPT_MAX_BYTES} bytes",
        )


def attribute_problem(attribute: pb.Attribute) -> str:
    """What is wrong with an attribute; empty if nothing is."""
    if not 1 <= len(attribute.path.encode()) <= limits.ATTRIBUTE_PATH_MAX_BYTES:
        return f"path {attribute.path[:60]!r} must have 1 to {limits.ATTRIBUTE_PATH_MAX_BYTES} bytes"
    if attribute.path.partition(".")[0] not in _NAMESPACES or "." not in attribute.path:
        return f"path {attribute.path[:60]!r} must begin with one of {', '.join(sorted(_NAMESPACES))} and a dot"
    if attribute.path.count(".") >= limits.ATTRIBUTE_MAX_DEPTH:
        return f"path {attribute.path[:60]!r} has more than {limits.ATTRIBUTE_MAX_DEPTH} parts"
    if len(attribute.json.encode()) > limits.ATTRIBUTE_JSON_MAX_BYTES:
        return f"the value of {attribute.path[:60]!r} has more than {limits.ATTRIBUTE_JSON_MAX_BYTES} bytes"
    try:
        value = json.loads(attribute.json, parse_constant=_no_number) if attribute.json else None
    except (ValueError, RecursionError):
        return f"the value of {attribute.path[:60]!r} is not JSON"
    if _depth(value) > limits.ATTRIBUTE_MAX_DEPTH:
        return f"the value of {attribute.path[:60]!r} is nested more than {limits.ATTRIBUTE_MAX_DEPTH} levels deep"
    return ""


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number in JSON")


def _depth(value: Any) -> int:
    """Levels of brackets."""
    depth = 0
    level = [value]
    while level := [inner for inner in level if isinstance(inner, (dict, list))]:
        depth += 1
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
    return depth
