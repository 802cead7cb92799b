"""Files of points in long form: Parquet and CSV. Needs pyarrow.

Columns: run_id, metric, [rank], step, time, value. Batches come as the API's Arrow stream has them.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

ROW_GROUP_ROWS: Final = 1 << 20
_API_NAMES: Final = {"metric": "name", "step": "x"}
_LABEL: Final = pa.dictionary(pa.int32(), pa.string())
_TIME: Final = pa.timestamp("us", tz="UTC")


class PointFile(Protocol):
    """A file that is being written; complete once its `with` block has ended."""

    def __enter__(self) -> PointFile: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def write(self, batch: pa.RecordBatch) -> None:
        """Appends a batch of the API's columns."""


def point_schema(label: Any, by_rank: bool) -> pa.Schema:
    """The columns of a file whose run_id and metric are of type `label`."""
    rank = [("rank", pa.uint16())] if by_rank else []
    points = [("step", pa.float64()), ("time", _TIME), ("value", pa.float64())]
    return pa.schema([("run_id", label), ("metric", label), *rank, *points])


def as_points(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The API's columns under the file's names and types."""
    columns = []
    for field in schema:
        column = batch.column(_API_NAMES.get(field.name, field.name))
        if pa.types.is_dictionary(field.type) and not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        columns.append(column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


class ParquetFile:
    """Parquet with zstd, in row groups of about ROW_GROUP_ROWS rows, however small the batches are."""

    def __init__(self, path: Path, by_rank: bool) -> None:
        self._schema = point_schema(_LABEL, by_rank)
        self._writer = pa.parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0

    def __enter__(self) -> PointFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def write(self, batch: pa.RecordBatch) -> None:
        """Appends a batch; a row group is written when there are enough."""
        self._batches.append(as_points(batch, self._schema))
        self._rows += batch.num_rows
        if self._rows >= ROW_GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            table = pa.Table.from_batches(self._batches).unify_dictionaries()
            self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        self._batches, self._rows = [], 0


class CsvFile:
    """CSV with a header."""

    def __init__(self, path: Path, by_rank: bool) -> None:
        self._schema = point_schema(pa.string(), by_rank)
        self._writer = pa.csv.CSVWriter(path, self._schema)

    def __enter__(self) -> PointFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, batch: pa.RecordBatch) -> None:
        """Appends a batch."""
        self._writer.write_batch(as_points(batch, self._schema))
