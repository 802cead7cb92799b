"""Whether an answer of the HTTP API can be right, by what holds of any data. Pure.

Who asks does not know what was logged; but whatever it was, steps rise, no mean is past its extremes, what is sorted
is in order, and nothing comes that was not asked for. Each check raises WrongAnswerError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import ThalwegError

Check = Callable[[Any], None]

_STATUSES: Final = frozenset(("created", "running", "finished", "failed", "killed", "lost"))
_COLUMNS: Final = ("x", "min", "max", "mean", "first", "last", "n", "nans")
_ROUNDING: Final = 1e-9


class WrongAnswerError(ThalwegError):
    """An answer says what cannot be."""


def checked(check: Check, answer: Any) -> None:
    """Raises WrongAnswerError, also where the answer is of another shape than the API's."""
    try:
        check(answer)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise WrongAnswerError(f"the answer has another shape: {type(error).__name__}: {error}") from error


def run_list(least: int) -> Check:
    """Runs, newest first, none twice, at least so many."""

    def check(answer: Any) -> None:
        runs = answer["runs"]
        _need(len(runs) >= least, f"{len(runs)} runs, and there were {least}")
        _need(_are_distinct([run["run_id"] for run in runs]), "a run is there twice")
        # Python 3.10 reads no Z.
        made = [datetime.fromisoformat(run["created_at"].replace("Z", "+00:00")) for run in runs]
        _need(made == sorted(made, reverse=True), "runs are not in their order, the newest first")

    return check


def one_run(run_id: str) -> Check:
    """The run that was asked for, itself the end of its lineage."""

    def check(answer: Any) -> None:
        _need(answer["run_id"] == run_id, f"it is of run {answer['run_id']!r}, not of {run_id!r}")
        _need(answer["lineage"][-1]["run_id"] == run_id, "its lineage ends at another run")
        _need(answer["status"] in _STATUSES, f"its status is {answer['status']!r}")

    return check


def metric_names(known: Sequence[str]) -> Check:
    """A page of names, in order; of those that are known, all that lie on it."""

    def check(answer: Any) -> None:
        metrics = answer["metrics"]
        names = [one["name"] for one in metrics]
        _need(names == sorted(set(names)), "names are not in order, or there twice")
        absent = set(known) - set(names)
        if answer["next_cursor"] is not None:
            absent = {name for name in absent if name <= names[-1]}
        _need(not absent, f"{len(absent)} metrics are missing, one of them {min(absent, default='')!r}")
        for one in metrics:
            low, high = float(one["min"]), float(one["max"])
            _need(low <= high or low != low, f"{one['name']!r} has min {low} and max {high}")
            _need(one["first_step"] <= one["last_step"], f"{one['name']!r} ends before it begins")

    return check


def series(
    runs: Sequence[str], names: Sequence[str], points: int, there: Sequence[tuple[str, str]], *, is_above: bool = False
) -> Check:
    """Series in so many buckets: only what was asked for, in its order, and all of `there`, by run and name.

    `is_above`: no value can be below 0, and the first, if it is a number, is 0.
    """
    places = {(run, name): (place, number) for place, run in enumerate(runs) for number, name in enumerate(names)}

    def check(answer: Any) -> None:
        labels = [(one["run_id"], one["name"]) for one in answer["series"]]
        strange = [label for label in labels if label not in places]
        _need(not strange, f"a series was not asked for: {strange[:1]}")
        found = [places[label] for label in labels]
        _need(found == sorted(set(found)), "series are not in the order asked for, or there twice")
        absent = [label for label in there if label not in labels]
        _need(not absent, f"{len(absent)} series are missing, one of them {absent[:1]}")
        for label, one in zip(labels, answer["series"], strict=True):
            columns = {name: _column(one[name]) for name in _COLUMNS}
            problem = _wrong_in_buckets(columns, points)
            if not problem and is_above:
                problem = _wrong_above(columns)
            _need(not problem, f"series {label}: {problem}")

    return check


def _wrong_in_buckets(columns: dict[str, NDArray[np.float64]], points: int) -> str:
    """What is wrong with the buckets of one series; "" if nothing is."""
    x, low, high, mean, first, last, n, nans = columns.values()
    if len({len(column) for column in columns.values()}) != 1:
        return "its columns differ in length"
    if not 1 <= len(x) <= points:
        return f"it has {len(x)} buckets of {points}"
    if not (np.isfinite(x).all() and (np.diff(x) > 0).all()):
        return "its steps do not rise"
    if not ((n >= 1) & (nans >= 0) & (nans <= n)).all():
        return "it counts less than nothing, or more than there is"
    is_number = nans < n
    if not (np.isnan(low) != is_number).all() or not (np.isnan(high) != is_number).all():
        return "it has a number where all values are NaN, or none where one is"
    if not (low[is_number] <= high[is_number]).all():
        return "a min is above its max"
    if not _lie_between(mean, low, high, np.isfinite(mean) & is_number):
        return "a mean is not between min and max"
    for column in (first, last):
        if not _lie_between(column, low, high, ~np.isnan(column)) or (np.isnan(column) & (nans == 0)).any():
            return "a first or last value is not between min and max"
    return ""


def _lie_between(
    values: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], where: NDArray[np.bool_]
) -> bool:
    """Whether the chosen ones do, but for what a sum may be rounded by."""
    values, low, high = values[where], low[where], high[where]
    size = np.maximum(np.abs(low), np.abs(high))
    slack = np.where(np.isfinite(size), size, 0.0) * _ROUNDING
    return bool(((values >= low - slack) & (values <= high + slack)).all())


def _wrong_above(columns: dict[str, NDArray[np.float64]]) -> str:
    if (columns["min"] < 0).any():
        return "a value is below the best so far"
    return "" if np.isnan(first := columns["first"][0]) or first == 0 else f"the first value is {first} above itself"


def run_table(columns: Sequence[str], limit: int) -> Check:
    """Rows with these columns, by falling values of the first: numbers, then NaN, then none. No run twice."""

    def check(answer: Any) -> None:
        _need([one["name"] for one in answer["columns"]] == list(columns), "its columns are not those asked for")
        rows = answer["runs"]
        _need(0 < len(rows) <= limit, f"{len(rows)} rows of at most {limit}")
        _need(_are_distinct([row["run_id"] for row in rows]), "a run is there twice")
        _need(all(len(row["values"]) == len(columns) for row in rows), "a row has not a value for each column")
        order = [_falling(row["values"][0]) for row in rows]
        _need(order == sorted(order), f"rows are not sorted by {columns[0]}")

    return check


def _falling(value: Any) -> tuple[int, float]:
    if value is None:
        return 2, 0.0
    number = float(value)
    return (0, -number) if number == number else (1, 0.0)


def live_points(runs: Sequence[str], names: Sequence[str]) -> Check:
    """An event `points`: of series that are listened to, steps rising, a value and a time for each."""

    def check(data: Any) -> None:
        _need(bool(data["series"]), "it tells nothing")
        for one in data["series"]:
            label = (one["run_id"], one["name"])
            _need(one["run_id"] in runs and one["name"] in names, f"nobody listens to {label}")
            x = _column(one["x"])
            sizes = {len(x), len(one["value"]), len(one["time"])}
            _need(len(sizes) == 1 and 0 not in sizes, f"{label}: its columns differ in length, or are empty")
            _need(bool((np.diff(x) > 0).all()), f"{label}: its steps do not rise")
            _column(one["value"])

    return check


def _column(values: Sequence[float | str]) -> NDArray[np.float64]:
    """A column of an answer, in which NaN and infinities are texts. Raises TypeError, ValueError."""
    if None in values:  # which NumPy would take for NaN
        raise TypeError("a number is null")
    return np.array(values, dtype=np.float64)


def _are_distinct(values: Sequence[str]) -> bool:
    return len(set(values)) == len(values)


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise WrongAnswerError(otherwise)
