"""Columns of many batches to rows of `points` and `series_stats_feed`. Pure NumPy: the hot path of the server.

Frames of one schema are a matrix; transposed and sorted by key, its rows arrive in the order of the
table, which halves the cost of the insert. The values go block by block to where they are inserted from:
whole matrices in between took three times the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thalweg_tracker.ingest.decode import FrameBlock
from thalweg_tracker.model import series_flags
from thalweg_tracker.model.rows import POINTS, STATS


@dataclass(frozen=True, slots=True)
class Rows:
    """What a commit inserts."""

    points: pa.Table
    stats: pa.Table


@dataclass(frozen=True, slots=True)
class _Matrix:
    """Frames of one writer and schema, by step and time; metrics by key."""

    block: FrameBlock  # any of them: writer and schema
    steps: NDArray[np.float64]  # (f,), ascending
    times: NDArray[np.int64]  # (f,)
    values: NDArray[np.float64]  # (m, f), a part of the column
    flags: int


def assemble(blocks: Sequence[FrameBlock]) -> Rows:
    """Rows of `points`, grouped by series, and one row of statistics a series, writer and schema."""
    together: dict[tuple[int, int, int], list[FrameBlock]] = {}
    for block in blocks:
        key = (block.writer.run, block.writer.writer, id(block.schema))
        together.setdefault(key, []).append(block)
    groups = [group for _, group in sorted(together.items())]
    value = np.empty(sum(block.points for block in blocks), np.float64)
    ends = np.cumsum([sum(block.points for block in group) for group in groups])[:-1]
    matrices = [_stack(group, part) for group, part in zip(groups, np.split(value, ends), strict=True)]
    return Rows(_point_rows(matrices, value), _stats_rows(matrices))


def as_resent(stats: pa.Table) -> pa.Table:
    """Rows of statistics that also say that the points of their series may be there twice."""
    flags = stats["flags"].to_numpy() | np.uint8(series_flags.RESENT)
    return stats.set_column(STATS.get_field_index("flags"), STATS.field("flags"), pa.array(flags, pa.uint8()))


def _stack(blocks: Sequence[FrameBlock], value: NDArray[np.float64]) -> _Matrix:
    """Frames of one writer and schema as one matrix, in the order of steps, then times. Its values lie in `value`."""
    first = blocks[0]
    steps = np.concatenate([block.steps for block in blocks])
    times = np.concatenate([block.times for block in blocks])
    values = value.reshape(len(first.schema.keys), len(steps))
    start = 0
    for block in blocks:
        end = start + len(block.steps)
        values[:, start:end] = block.values.take(first.schema.order, axis=1).T
        start = end
    flags = 0
    if any(block.resent for block in blocks):
        flags |= series_flags.RESENT
    if any(block.relogged for block in blocks):
        flags |= series_flags.RELOGGED
    if not (np.diff(steps) > 0).all():
        ascending = np.lexsort((times, steps))
        steps, times = steps[ascending], times[ascending]
        values[:] = values[:, ascending]
        if (np.diff(steps) == 0).any():
            flags |= series_flags.RELOGGED
    return _Matrix(first, steps, times, values, flags)


def _point_rows(matrices: Sequence[_Matrix], value: NDArray[np.float64]) -> pa.Table:
    """`value`: of all matrices, one after the other."""
    run = np.empty(len(value), np.uint64)
    metric = np.empty(len(value), np.uint64)
    rank = np.empty(len(value), np.uint16)
    step = np.empty(len(value), np.float64)
    time = np.empty(len(value), np.int64)
    start = 0
    for matrix in matrices:
        shape = matrix.values.shape
        part = slice(start, start + matrix.values.size)
        run[part] = matrix.block.writer.run
        rank[part] = matrix.block.writer.rank
        metric[part].reshape(shape)[:] = matrix.block.schema.keys[:, None]
        step[part].reshape(shape)[:] = matrix.steps
        time[part].reshape(shape)[:] = matrix.times
        start = part.stop
    return _table(POINTS, run, metric, rank, step, time.view("datetime64[us]"), value)


def _stats_rows(matrices: Sequence[_Matrix]) -> pa.Table:
    parts = [_stats(matrix) for matrix in matrices if matrix.values.size]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return _table(STATS, *columns) if columns else STATS.empty_table()


def _stats(matrix: _Matrix) -> list[NDArray[np.generic]]:
    """One row a series: the columns of STATS. NaN is left out of min and max; all NaN gives no HAS_NUMBER.

    Of a step that is there twice, the later time counts as its value.
    """
    values, steps = matrix.values, matrix.steps
    series = len(values)
    first = np.searchsorted(steps, steps[0], side="right") - 1
    low = values.argmin(axis=1)  # NaN, if there is one, comes out first
    high = values.argmax(axis=1)
    rows = np.arange(series)
    smallest, largest = values[rows, low], values[rows, high]
    has_number = np.ones(series, bool)
    with_nan = np.flatnonzero(np.isnan(smallest))
    if with_nan.size:
        some = values[with_nan]
        absent = np.isnan(some)
        below, above = np.where(absent, np.inf, some), np.where(absent, -np.inf, some)
        has_number[with_nan] = ~absent.all(axis=1)
        smallest[with_nan], largest[with_nan] = below.min(axis=1), above.max(axis=1)
        low[with_nan] = (some == smallest[with_nan, None]).argmax(axis=1)  # the infinities in place of NaN do not count
        high[with_nan] = (some == largest[with_nan, None]).argmax(axis=1)
    flags = np.full(series, matrix.flags, np.uint8)
    flags[has_number] |= series_flags.HAS_NUMBER
    writer = matrix.block.writer

    def same(value: float, dtype: type[np.generic]) -> NDArray[np.generic]:
        return np.full(series, value, dtype)

    return [
        same(writer.run, np.uint64),
        matrix.block.schema.keys,
        same(writer.rank, np.uint16),
        same(writer.writer, np.uint64),
        flags,
        same(steps[first], np.float64),
        same(matrix.times[first], np.int64).view("datetime64[us]"),
        values[:, first],
        same(steps[-1], np.float64),
        same(matrix.times[-1], np.int64).view("datetime64[us]"),
        values[:, -1],
        smallest,
        np.where(has_number, steps[low], np.inf),  # so that any number comes before none
        largest,
        np.where(has_number, steps[high], np.inf),
    ]


def _table(schema: pa.Schema, *columns: NDArray[np.generic]) -> pa.Table:
    """NumPy columns as a table of this schema, without a copy."""
    arrays = [
        pa.array(column.view(np.int64)).view(field.type)
        if pa.types.is_timestamp(field.type)
        else pa.array(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
