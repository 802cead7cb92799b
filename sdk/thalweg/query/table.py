"""The table that a query gives: rows as dicts without any dependency, or as a table of pyarrow, pandas or polars.

Frozen. What other libraries need is imported when they are asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

Kind = Literal["text", "whole", "number", "bool", "time", "texts", "any"]
_SHOWN_ROWS: Final = 10
_SHOWN_COLUMNS: Final = 12
_CELL_CHARS: Final = 40


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `kind` any: values of one type, or of several, such as an attribute's that differs between runs."""

    name: str
    kind: Kind
    values: Sequence[Any]


class Table:
    """Rows under named columns. A missing value is None; NaN stays NaN. Times are datetimes with their zone, UTC."""

    def __init__(self, columns: Sequence[Column] = (), arrow: pa.Table | None = None) -> None:
        """Made of columns of one length, or of a table of pyarrow, which then has the rows."""
        assert len({len(column.values) for column in columns}) <= 1, [column.name for column in columns]
        self._columns = tuple(columns)
        self._arrow = arrow

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        if self._arrow is not None:
            return tuple(self._arrow.schema.names)
        return tuple(column.name for column in self._columns)

    def __len__(self) -> int:
        if self._arrow is not None:
            return int(self._arrow.num_rows)
        return len(self._columns[0].values) if self._columns else 0

    def __getitem__(self, column: str) -> list[Any]:
        """The values of a column. Raises KeyError."""
        if column not in self.columns:
            raise KeyError(f"there is no column {column!r}; there are {', '.join(self.columns)}")
        if self._arrow is not None:
            values: list[Any] = self._arrow.column(column).to_pylist()
            return values
        return list(next(one.values for one in self._columns if one.name == column))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows."""
        return iter(self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """Each row as a dict. Needs no other library."""
        return _rows(self.columns, [self[name] for name in self.columns])

    def arrow(self) -> pa.Table:
        """As a table of pyarrow. Raises ImportError where that is not installed."""
        if self._arrow is not None:
            return self._arrow
        library = needed("pyarrow", "arrow")
        types = {
            "text": library.string(),
            "whole": library.int64(),
            "number": library.float64(),
            "bool": library.bool_(),
            "time": library.timestamp("us", "UTC"),
            "texts": library.list_(library.string()),
        }
        return library.table({one.name: library.array(_even(one), types.get(one.kind)) for one in self._columns})

    def pandas(self) -> pd.DataFrame:
        """As a data frame of pandas, in which a missing number is NaN. Raises ImportError where it is not installed."""
        library = needed("pandas", "pandas")
        if self._arrow is not None:
            return self._arrow.to_pandas()
        types = {"number": "float64", "time": "datetime64[us, UTC]"}
        return library.DataFrame(
            {one.name: library.Series(_even(one), dtype=types.get(one.kind)) for one in self._columns}
        )

    def polars(self) -> pl.DataFrame:
        """As a data frame of polars. Raises ImportError where that or pyarrow is not installed."""
        return needed("polars", "polars").from_arrow(self.arrow())

    def __repr__(self) -> str:
        """The number of rows, and the first of them."""
        names = self.columns[:_SHOWN_COLUMNS]
        heading = f"thalweg.query.Table: {len(self):,} row{'' if len(self) == 1 else 's'}"
        more = len(self.columns) - len(names)
        lines = [list(names), *([_shown(value) for value in row.values()] for row in self._first(names))]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        body = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        ends = [
            *([f"... {len(self) - _SHOWN_ROWS:,} more rows"] if len(self) > _SHOWN_ROWS else []),
            *([f"... {more} more columns: {', '.join(self.columns[_SHOWN_COLUMNS:])}"] if more else []),
        ]
        return "\n".join([heading, *(line.rstrip() for line in (body if names else [])), *ends])

    def _first(self, names: Sequence[str]) -> list[dict[str, Any]]:
        if self._arrow is not None:
            return _rows(names, [self._arrow.column(name)[:_SHOWN_ROWS].to_pylist() for name in names])
        return _rows(names, [one.values[:_SHOWN_ROWS] for one in self._columns[: len(names)]])


def _rows(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _even(column: Column) -> Sequence[Any]:
    """The values, all of one type: where they are of several, as the text that they have in JSON."""
    types = {type(value) for value in column.values if value is not None}
    if column.kind != "any" or (len(types) <= 1 and not types & {dict, list}):
        return column.values
    if types == {int, float}:
        return [None if value is None else float(value) for value in column.values]
    return [value if value is None or isinstance(value, str) else json.dumps(value) for value in column.values]


def _shown(value: object) -> str:
    """A value on one line of a screen."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return text if len(text) <= _CELL_CHARS else text[: _CELL_CHARS - 1] + "…"


def needed(library: str, extra: str) -> Any:
    """A library that is not there in every installation. Raises ImportError with the command that installs it."""
    try:
        return import_module(library)
    except ImportError as error:
        raise ImportError(f"this needs {library}: pip install 'thalweg[{extra}]' ({error})", name=library) from error
