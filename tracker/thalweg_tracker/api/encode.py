"""Answers as bytes: JSON in which NaN and infinities survive, Arrow IPC streams, cursors. Pure."""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from thalweg_tracker.errors import RejectedError

ARROW_STREAM: Final = "application/vnd.apache.arrow.stream"


def json_number(value: float) -> float | str:
    """A float as JSON can hold it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def json_column(values: NDArray[Any]) -> NDArray[Any] | list[float | str]:
    """A column for `series_json`: as it is where all is finite, else with strings."""
    if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
        told: list[float | str] = values.tolist()
        for place in np.flatnonzero(~finite).tolist():
            told[place] = json_number(values[place])
        return told
    return np.ascontiguousarray(values)


_LABELS: Final = ("run_id", "branch", "group", "name")


def series_json(
    table: pa.Table | None,
    order: dict[tuple[Any, ...], int],
    *,
    with_time: bool,
    groups: Sequence[dict[str, Any]] | None = None,
) -> bytes:
    """The answer to POST /series, from rows in long form, ordered within each series.

    `order`: the place of each (run_id, branch, name), or of each (group, name).
    """
    series = [] if table is None else list(_split(table, with_time=with_time))
    series.sort(key=lambda one: (order[tuple(one[name] for name in _LABELS if name in one)], one.get("rank", 0)))
    if groups is not None:
        series = [{**one, "group": groups[one["group"]]} for one in series]
    return orjson.dumps({"series": series}, option=orjson.OPT_SERIALIZE_NUMPY)


def _split(table: pa.Table, *, with_time: bool) -> Iterator[dict[str, Any]]:
    """One mapping a series: its labels, then its columns."""
    if not table.num_rows:
        return
    labels = [name for name in (*_LABELS, "rank") if name in table.schema.names]
    codes = [_codes(table.column(name)) for name in labels]
    changes = np.zeros(table.num_rows, bool)
    changes[0] = True
    for column in codes:
        changes[1:] |= column[1:] != column[:-1]
    starts = np.flatnonzero(changes)
    ends = np.append(starts[1:], table.num_rows)
    columns = {name: _numpy(table.column(name)) for name in table.schema.names if name not in labels}
    if not with_time:
        columns.pop("time", None)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        one: dict[str, Any] = {name: table.column(name)[start].as_py() for name in labels}
        yield one | {name: json_column(column[start:end]) for name, column in columns.items()}


def _codes(column: pa.ChunkedArray) -> NDArray[Any]:
    """Integers that are equal where the labels are."""
    if pa.types.is_dictionary(column.type):
        return np.concatenate([chunk.indices.to_numpy() for chunk in column.unify_dictionaries().chunks])
    return np.asarray(column.to_numpy())


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return np.asarray(column.to_numpy())


def arrow_bytes(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[bytes]:
    """Record batches of a schema as an IPC stream, piece by piece, at least one."""
    sink = _Sink()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """A file that gives what was written to it, once."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def to_cursor(*place: str | int | float) -> str:
    """A place in a list as an opaque text."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def from_place(cursor: str) -> tuple[int | float | str, ...]:
    """The place that a cursor names, of numbers and texts. Raises RejectedError."""
    place = _read_cursor(cursor)
    if place is None or not all(type(value) in (int, float, str) and _is_bindable(value) for value in place):
        raise _bad_cursor(cursor)
    return tuple(place)


def from_cursor(cursor: str, kinds: tuple[type, ...]) -> tuple[Any, ...]:
    """The place that a cursor names, of these types. Raises RejectedError."""
    place = _read_cursor(cursor)
    if place is None or tuple(map(type, place)) != kinds or not all(map(_is_bindable, place)):
        raise _bad_cursor(cursor)
    return tuple(place)


def _read_cursor(cursor: str) -> list[Any] | None:
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError, binascii.Error):
        return None
    return place if isinstance(place, list) else None


def _bad_cursor(cursor: str) -> RejectedError:
    return RejectedError("bad_cursor", f"cannot read the cursor {cursor[:60]!r}", "Use next_cursor of the page before.")


def _is_bindable(value: str | int | float) -> bool:
    """Whether the database can take it: an Int64, or text without half of a surrogate pair."""
    if isinstance(value, float):
        return True
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
