"""Statistics of stored points are those that the ingest makes of batches."""

import numpy as np
import pyarrow as pa
import pytest

from thalweg_tracker.care.statistics import SPANS, Writers, joined, made_up, series_statistics, spans
from thalweg_tracker.model.rows import POINTS
from thalweg_tracker.model.series_flags import HAS_NUMBER

NONE = np.array([], np.uint64)
Point = tuple[int, int, int, float, int, float]


def table(*points: Point) -> pa.Table:
    columns = zip(*points, strict=True)
    return pa.table(
        [pa.array(list(column), field.type) for column, field in zip(columns, POINTS, strict=True)],
        schema=POINTS,
    )


def one_of(*values: float) -> dict[str, object]:
    """The statistics of a series with these values at steps 0, 1, 2, .."""
    rows = table(*((1, 2, 0, float(step), 10 * step, value) for step, value in enumerate(values)))
    (row,) = series_statistics(rows, Writers({}, {}), NONE).to_pylist()
    return {name: row[name] for name in ("flags", "min", "argmin", "max", "argmax", "first", "last", "last_step")}


@pytest.mark.parametrize(
    ("values", "least", "greatest"),
    [
        ((3.0, 1.0, 2.0), (1.0, 1.0), (3.0, 0.0)),
        ((1.0, 1.0, 1.0), (1.0, 0.0), (1.0, 0.0)),
        ((np.nan, 5.0, np.nan, 4.0), (4.0, 3.0), (5.0, 1.0)),
        ((np.inf, np.nan), (np.inf, 0.0), (np.inf, 0.0)),
        ((-np.inf, np.nan), (-np.inf, 0.0), (-np.inf, 0.0)),
        ((np.nan, np.inf), (np.inf, 1.0), (np.inf, 1.0)),
    ],
)
def test_least_and_greatest(
    values: tuple[float, ...], least: tuple[float, float], greatest: tuple[float, float]
) -> None:
    """NaN counts as absent; of equal values the first step is told."""
    found = one_of(*values)
    assert (found["min"], found["argmin"]) == least
    assert (found["max"], found["argmax"]) == greatest
    assert found["flags"] == HAS_NUMBER


def test_a_series_of_nan_has_no_number() -> None:
    found = one_of(np.nan, np.nan)
    assert (found["flags"], found["argmin"], found["argmax"]) == (0, np.inf, np.inf)


def test_series_are_told_apart_by_run_metric_and_rank() -> None:
    rows = table(
        (1, 2, 0, 5, 50, 1), (1, 2, 1, 6, 60, 2), (1, 3, 0, 7, 70, 3), (4, 3, 0, 8, 80, 4), (4, 3, 0, 9, 90, 5)
    )
    found = series_statistics(rows, Writers({}, {}), NONE)
    assert found["first_step"].to_pylist() == [5, 6, 7, 8]
    assert found["last_step"].to_pylist() == [5, 6, 7, 9]
    assert found["last"].to_pylist() == [1, 2, 3, 5]
    assert found["last_time"].cast(pa.int64()).to_pylist() == [50, 60, 70, 90]


def writer_row(run: int, rank: int, writer: int, primary: int, seen: int) -> dict[str, int]:
    return {"run": run, "rank": rank, "writer": writer, "primary": primary, "last_seen_at": seen}


def test_whom_a_series_is_ascribed_to() -> None:
    """What a training logged, to its latest process; what a host measured, to the other one; else to a made up one."""
    writers = Writers.of(
        [
            writer_row(1, 0, 11, 1, 5),
            writer_row(1, 0, 12, 1, 9),
            writer_row(1, 0, 13, 0, 10),
            writer_row(1, 1, 14, 1, 1),
        ]
    )
    rows = table((1, 2, 0, 0, 0, 1), (1, 2, 1, 0, 0, 1), (1, 9, 0, 0, 0, 1), (3, 2, 0, 0, 0, 1))
    found = series_statistics(rows, writers, np.array([9], np.uint64))
    assert found["writer"].to_pylist() == [12, 14, 13, made_up((3, 0))]


def test_ranks_never_share_a_made_up_writer() -> None:
    """Two writers of a series say that several ranks, or processes, wrote it."""
    assert len({made_up((2**64 - 3, rank)) for rank in range(65_536)}) == 65_536


def test_spans_leave_out_what_hosts_measured() -> None:
    rows = table((1, 2, 0, 5, 0, 1), (1, 2, 0, 6, 0, 1), (1, 3, 0, 4, 0, 1), (1, 9, 0, 99, 0, 1), (2, 9, 0, 1, 0, 1))
    host = np.array([9], np.uint64)
    found = spans(series_statistics(rows, Writers({}, {}), host), host)
    assert found.schema == SPANS
    assert found.to_pylist() == [{"run": 1, "rank": 0, "first_step": 4.0, "last_step": 6.0}]
    later = spans(series_statistics(table((1, 2, 0, 7, 0, 1)), Writers({}, {}), host), host)
    assert joined([found, later])["last_step"].to_pylist() == [7.0]
    assert joined([]).num_rows == 0
