"""Python values as the text of ClickHouse parameters and data, and names as quoted identifiers. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from thalweg_tracker.engine.contract import Parameters, Scalar
from thalweg_tracker.errors import RejectedError

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_TSV: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"})
_QUOTED: Final = str.maketrans({"\\": "\\\\", "'": "\\'", "\0": "\\0"})


def quote_identifier(name: str) -> str:
    """A name for use in SQL text. Rejects whatever is not a plain identifier; repairs nothing."""
    if not _IDENTIFIER.fullmatch(name):
        raise RejectedError("bad_identifier", f"cannot use {name!r} as an identifier")
    return f"`{name}`"


def parameter_texts(parameters: Parameters) -> Mapping[str, str]:
    """Each parameter as the text that ClickHouse parses by the type in its placeholder. Raises RejectedError."""
    return {name: _encodable(name, _text(value)) for name, value in parameters.items()}


def between_quotes(text: str) -> str:
    """A text as it stands between the quotes of an SQL literal."""
    return text.translate(_QUOTED)


STREAM_BLOCK_BYTES: Final = 16_000_000
"""Of the usual million a batch of a stream is 16,000 rows: a third more time for the same points."""


def query_settings(
    timeout_s: float | None, max_rows_to_read: int | None, *, is_streamed: bool = False
) -> dict[str, float | int]:
    """ClickHouse's settings for the limits of a query, and for the size of what is streamed."""
    settings: dict[str, float | int] = {"preferred_block_size_bytes": STREAM_BLOCK_BYTES} if is_streamed else {}
    if timeout_s is not None:
        settings["max_execution_time"] = float(timeout_s)
    if max_rows_to_read is not None:
        settings["max_rows_to_read"] = int(max_rows_to_read)
    return settings


def rows_as_json(rows: pa.Table) -> str:
    """Rows as JSON lines, as the data of an INSERT. Every value comes back as it was, but for what a NaN carries."""
    columns = [_json_values(column) for column in rows.columns]
    lines = (json.dumps(dict(zip(rows.column_names, row, strict=True))) for row in zip(*columns, strict=True))
    return "\n".join(lines).replace(";", "\\u003b")  # chDB ends the data of a statement at it; it stands in texts only


def _json_values(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us")).cast(pa.string())  # 2026-11-24 10:00:00.000000
    values: list[Any] = column.to_pylist()
    return [dict(pairs) for pairs in values] if pa.types.is_map(column.type) else values


def _encodable(name: str, text: str) -> str:
    """JSON may bring in halves of characters, which no database takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RejectedError("bad_text", f"cannot use the value of {name}: it holds a lone surrogate") from None
    return text


def _text(value: Scalar | Sequence[Scalar]) -> str:
    if isinstance(value, str):
        return value.translate(_TSV)  # scalars are parsed as a TSV field
    if isinstance(value, (bool, int, float)):
        return _number(value)
    return "[" + ",".join(_element(item) for item in value) + "]"  # arrays are parsed as a literal


def _element(value: Scalar) -> str:
    return f"'{between_quotes(value)}'" if isinstance(value, str) else _number(value)


def _number(value: bool | int | float) -> str:
    if isinstance(value, float):
        return float.__repr__(value)  # `repr` of its subclass numpy.float64 is no number
    return str(int(value))
