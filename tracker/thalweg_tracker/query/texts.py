"""Stored JSON texts as values for answers. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def nest(texts: Mapping[str, str]) -> dict[str, Any]:
    """JSON texts by dotted path as nested mappings. Where a path is both a leaf and a branch, the leaf is at ""."""
    tree: dict[str, Any] = {}
    for path, text in sorted(texts.items()):
        *branches, leaf = path.split(".")
        node = tree
        for branch in branches:
            inner = node.setdefault(branch, {})
            if not isinstance(inner, dict):
                inner = node[branch] = {"": inner}
            node = inner
        value = read_json(text)
        if isinstance(node.get(leaf), dict) and not isinstance(value, dict):
            node[leaf][""] = value
        else:
            node[leaf] = value
    return tree


def read_json(text: str) -> Any:
    """A stored JSON value such that an answer can hold it: infinities as texts, halves of surrogate pairs replaced."""
    value = json.loads(text, parse_float=_finite)
    return _encodable(value) if "\\u" in text else value


def _finite(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else "Infinity" if number > 0 else "-Infinity"


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_encodable(inner) for inner in value]
    if isinstance(value, dict):
        return {_encodable(key): _encodable(inner) for key, inner in value.items()}
    return value


def as_text(stored: str) -> str:
    """The text that a stored JSON value is; of any other value, its JSON."""
    value = read_json(stored) if stored else ""
    return value if isinstance(value, str) else stored
