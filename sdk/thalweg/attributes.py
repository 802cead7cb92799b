"""Attributes of a run: JSON values at dotted paths. Pure.

Parts of a path are separated by "." or "/", which mean the same; "." is what is stored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from thalweg.errors import InputError
from thalweg.values import shorten
from thalweg.wire import limits


def join(*parts: str) -> str:
    """One path of several. Raises InputError for an empty part or a path over the limit."""
    path = ".".join(parts).replace("/", ".")
    if not all(path.split(".")):
        raise InputError(f"cannot set attribute {shorten(path)}: a part of its path is empty")
    if len(path.encode(errors="surrogatepass")) > limits.ATTRIBUTE_PATH_MAX_BYTES:
        limit = limits.ATTRIBUTE_PATH_MAX_BYTES
        raise InputError(f"cannot set attribute {shorten(path)}: its path has more than {limit} bytes")
    return path


def flatten(values: Mapping[Any, Any], *prefix: str) -> Iterator[tuple[str, Any]]:
    """Path and value of each leaf of nested mappings. Raises InputError."""
    for key, value in values.items():
        path = join(*prefix, str(key))
        if isinstance(value, Mapping) and value:
            yield from flatten(value, path)
        else:
            yield path, value


def to_json(path: str, value: Any) -> str:
    """A value as JSON text; what JSON does not know becomes its `str`. Raises InputError over the limit."""
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        text = json.dumps(_plain(value), allow_nan=False)
        size = len(text)
    if size > limits.ATTRIBUTE_JSON_MAX_BYTES:
        limit = limits.ATTRIBUTE_JSON_MAX_BYTES
        raise InputError(f"cannot set attribute {path}: its value has {size} bytes as JSON, over {limit}")
    return text


def _plain(value: Any) -> Any:
    """The JSON value nearest to `value`. Non-finite numbers become their names, as in the HTTP API."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(inner) for inner in value), key=str)
    item = getattr(value, "item", None)  # NumPy and torch scalars
    if callable(item) and getattr(value, "shape", None) == ():
        return _plain(item())
    return str(value)
