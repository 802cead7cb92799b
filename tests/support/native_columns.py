"""Copies ClickHouse `Native` blocks column by column without looking at the values.

The wire (revision 54454 and later) puts one byte, "custom serialization", before the data of each column;
chDB's format `Native` does not. To add or drop that byte one must know where a column ends, and that is all
this module knows: the layout of each type. It refuses types whose length depends on their values in further
ways (Variant, Dynamic, JSON, AggregateFunction). Sources and sinks are the driver's buffered readers and
writers. Pure functions of their arguments; any thread.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from clickhouse_driver.bufferedreader import CompressedBufferedReader
from clickhouse_driver.bufferedwriter import CompressedBufferedWriter
from clickhouse_driver.reader import read_binary_str, read_binary_uint8, read_binary_uint64
from clickhouse_driver.varint import read_varint, write_varint
from clickhouse_driver.writer import write_binary_str, write_binary_uint8, write_binary_uint64

BUFFER_BYTES = 1 << 20

Source = Any  # clickhouse_driver BufferedReader, which has no types
Sink = Any  # clickhouse_driver BufferedWriter, which has no types

_VALUE_BYTES = {
    **dict.fromkeys(("Nothing", "Bool", "Int8", "UInt8", "Enum8"), 1),
    **dict.fromkeys(("Int16", "UInt16", "Enum16", "Date", "BFloat16"), 2),
    **dict.fromkeys(("Int32", "UInt32", "Float32", "Date32", "DateTime", "IPv4", "Decimal32", "Time"), 4),
    **dict.fromkeys(("Int64", "UInt64", "Float64", "DateTime64", "Decimal64", "Time64"), 8),
    **dict.fromkeys(("Int128", "UInt128", "UUID", "IPv6", "Decimal128"), 16),
    **dict.fromkeys(("Int256", "UInt256", "Decimal256"), 32),
}
# Decimal(precision, scale): the first limit that holds the precision tells the width.
_DECIMAL_BYTES = ((9, 4), (18, 8), (38, 16), (76, 32))


def bytes_sink() -> tuple[Sink, Callable[[], bytes]]:
    """A sink in memory, and the call that ends it and returns what was written."""
    buffer = io.BytesIO()
    # Despite its name it only hands its bytes to `buffer.write`; the reader below is like it.
    sink = CompressedBufferedWriter(buffer, BUFFER_BYTES)

    def finish() -> bytes:
        sink.flush()
        return buffer.getvalue()

    return sink, finish


def bytes_source(content: bytes) -> Source:
    """A source over bytes; reading past the end raises EOFError."""
    pieces = [bytearray(content)] if content else []

    def next_piece() -> bytearray:
        if not pieces:
            raise EOFError("the Native data ended")
        return pieces.pop()

    return CompressedBufferedReader(next_piece, BUFFER_BYTES)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a type lies in a block: the prefixes of it and of its parts, then the rows."""

    kind: Literal["fixed", "string", "nullable", "tuple", "array", "low_cardinality"]
    parts: tuple[Layout, ...] = ()
    value_bytes: int = 0  # of a fixed one


@lru_cache(maxsize=1024)
def layout_of(type_name: str) -> Layout:
    """The layout of a type by its name; raises NotImplementedError for one that this module does not know."""
    name, arguments = _split_type(type_name)
    if name == "String":
        return Layout("string")
    if name == "FixedString":
        return Layout("fixed", value_bytes=int(arguments[0]))
    if name == "Decimal":
        width = next(width for limit, width in _DECIMAL_BYTES if int(arguments[0]) <= limit)
        return Layout("fixed", value_bytes=width)
    if name in _VALUE_BYTES:
        return Layout("fixed", value_bytes=_VALUE_BYTES[name])
    if name == "Nullable":
        return Layout("nullable", (layout_of(arguments[0]),))
    if name == "Array":
        return Layout("array", (layout_of(arguments[0]),))
    if name == "Tuple" and arguments:
        return Layout("tuple", tuple(layout_of(_without_field_name(argument)) for argument in arguments))
    if name in ("Map", "Nested"):
        return Layout("array", (layout_of(f"Tuple({', '.join(arguments)})"),))
    if name == "SimpleAggregateFunction":
        return layout_of(arguments[-1])
    if name == "LowCardinality":  # of Nullable(T): NULL is one of the keys, which are plain T
        return Layout("low_cardinality", (layout_of(re.sub(r"^Nullable\((.*)\)$", r"\1", arguments[0])),))
    raise NotImplementedError(f"cannot copy a column of type {type_name}: its layout is not known here")


# A type is words, quoted text and brackets; only a comma outside of all of them separates arguments.
_TYPE_TOKEN = re.compile(r"'(?:\\.|[^'\\])*'|`(?:\\.|[^`\\])*`|[(),]|[^'`(),]+")


def _split_type(type_name: str) -> tuple[str, list[str]]:
    """'Map(String, Array(UInt8))' -> ('Map', ['String', 'Array(UInt8)'])."""
    name, bracket, inside = type_name.partition("(")
    if not bracket:
        return name, []
    arguments, depth = [""], 0
    for token in _TYPE_TOKEN.findall(inside[:-1]):
        depth += (token == "(") - (token == ")")
        if token == "," and depth == 0:
            arguments.append("")
        else:
            arguments[-1] += token
    return name, [argument.strip() for argument in arguments]


def _without_field_name(argument: str) -> str:
    """'`a b` Array(UInt8)' -> 'Array(UInt8)'; a type without a name stays as it is."""
    return re.sub(r"^(?:`(?:\\.|[^`\\])*`|\w+)\s+", "", argument)


def native_header(columns: Sequence[tuple[str, str]]) -> bytes:
    """A block of no rows with these names and types."""
    sink, finish = bytes_sink()
    _write_size(len(columns), 0, sink)
    for name, type_name in columns:
        write_binary_str(name, sink)
        write_binary_str(type_name, sink)
    return finish()


def native_from_wire(source: Source) -> bytes | None:
    """A block of a wire source, after its block info, as Native; None for the one that ends a stream."""
    n_columns, n_rows = read_varint(source), read_varint(source)
    sink, finish = bytes_sink()
    _write_size(n_columns, n_rows, sink)
    for _ in range(n_columns):
        layout = _copy_column_header(source, sink)
        if read_binary_uint8(source):
            raise NotImplementedError("cannot read a column with custom serialization")
        _copy_column(layout, n_rows, source, sink)
    return finish() if n_columns else None


def wire_from_native(source: Source, sink: Sink) -> bool:
    """Writes the next block of a Native source without block info; False, and nothing written, at the end."""
    try:
        n_columns = read_varint(source)
    except EOFError:
        return False
    n_rows = read_varint(source)
    _write_size(n_columns, n_rows, sink)
    for _ in range(n_columns):
        layout = _copy_column_header(source, sink)
        write_binary_uint8(0, sink)
        _copy_column(layout, n_rows, source, sink)
    return True


def _write_size(n_columns: int, n_rows: int, sink: Sink) -> None:
    write_varint(n_columns, sink)
    write_varint(n_rows, sink)


def _copy_column_header(source: Source, sink: Sink) -> Layout:
    write_binary_str(read_binary_str(source), sink)
    type_name = read_binary_str(source)
    write_binary_str(type_name, sink)
    return layout_of(type_name)


def _copy_column(layout: Layout, n_rows: int, source: Source, sink: Sink) -> None:
    if n_rows:
        _copy_prefix(layout, source, sink)
        _copy_rows(layout, n_rows, source, sink)


def _copy_prefix(layout: Layout, source: Source, sink: Sink) -> None:
    if layout.kind == "low_cardinality":
        _copy_uint64(source, sink)  # version of the serialization
        return
    for part in layout.parts:
        _copy_prefix(part, source, sink)


def _copy_rows(layout: Layout, n_rows: int, source: Source, sink: Sink) -> None:
    if layout.kind == "fixed":
        sink.write(source.read(n_rows * layout.value_bytes))
    elif layout.kind == "string":
        sink.write_strings(source.read_strings(n_rows))
    elif layout.kind == "array":
        end_offsets = source.read(n_rows * 8)
        sink.write(end_offsets)
        if n_items := int.from_bytes(end_offsets[-8:], "little"):
            _copy_rows(layout.parts[0], n_items, source, sink)
    elif layout.kind == "low_cardinality":
        index_bytes = 1 << (_copy_uint64(source, sink) & 0xFF)  # the other bits: always keys, then indexes
        _copy_rows(layout.parts[0], _copy_uint64(source, sink), source, sink)
        sink.write(source.read(_copy_uint64(source, sink) * index_bytes))
    else:
        if layout.kind == "nullable":
            sink.write(source.read(n_rows))  # the null map
        for part in layout.parts:
            _copy_rows(part, n_rows, source, sink)


def _copy_uint64(source: Source, sink: Sink) -> int:
    value: int = read_binary_uint64(source)
    write_binary_uint64(value, sink)
    return value
