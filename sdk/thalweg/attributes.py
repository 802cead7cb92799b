"""Attributes of a run: JSON values at dotted paths. Pure.

Parts of a path are separated by "." or "/", which mean the same; "." is what is stored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from thalweg.errors import InputError
from thalweg.values import shorten
from thalweg.wire import limits

_DEPTH_MAX: Final = 64


def join(*parts: str) -> str:
    """One path of several. Raises InputError for an empty part or a path over the limit."""
    path = ".".join(parts).replace("/", ".")
    if not all(path.split(".")):
        raise InputError(f"cannot set attribute {shorten(path)}: a part of its path is empty")
    if len(path.encode(errors="surrogatepass")) > limits.ATTRIBUTE_PATH_MAX_BYTES:
        limit = limits.ATTRIBUTE_PATH_MAX_BYTES
        raise InputError(f"cannot set attribute {shorten(path)}: its path has more than {limit} bytes")
    if path.count(".") >= limits.ATTRIBUTE_MAX_DEPTH:
        limit = limits.ATTRIBUTE_MAX_DEPTH
        raise InputError(f"cannot set attribute {shorten(path)}: its path has more than {limit} parts")
    return path


def flatten(values: Mapping[Any, Any], *prefix: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Parts of the path, not checked, and value of each leaf of nested mappings."""
    for key, value in values.items():
        parts = (*prefix, str(key))
        if isinstance(value, Mapping) and value and len(parts) < _DEPTH_MAX:
            yield from flatten(value, *parts)
        else:
            yield parts, value


def split(texts: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """JSON texts by path in parts that are small enough for a record and a message."""
    part: dict[str, str] = {}
    size = 0
    for path, text in texts.items():
        part[path] = text
        size += len(path) + len(text)
        if size > limits.ATTRIBUTE_JSON_MAX_BYTES:
            yield part
            part, size = {}, 0
    if part:
        yield part


def to_json(path: str, value: Any) -> str:
    """A value as JSON text; what JSON does not know becomes its `str`. Raises InputError."""
    try:
        plain = _plain(value)
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False)
        if not _is_utf8(text):
            text = json.dumps(plain, allow_nan=False)
    except Exception as error:  # a value that contains itself, or whose __str__ raises
        raise InputError(f"cannot set attribute {path}: its value has no JSON: {type(error).__name__}") from error
    size = len(text.encode())
    if size > limits.ATTRIBUTE_JSON_MAX_BYTES:
        limit = limits.ATTRIBUTE_JSON_MAX_BYTES
        raise InputError(f"cannot set attribute {path}: its value has {size} bytes as JSON, over {limit}")
    return text


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
