"""What the answers to the questions of `loadtests.queries` have to be, computed with NumPy from what was written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loadtests import query_data as data

Check = Callable[[Any], None]
Values = NDArray[np.float64]
PAGE: Final = 100


def buckets(values: Values, points: int) -> dict[str, Values]:
    """The buckets of a series that has a value at each step from 0."""
    steps = np.arange(len(values), dtype=np.float64)
    number = np.floor(steps / 2 / ((len(values) - 1) / 2) * points).clip(0, points - 1)
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    n = np.diff(starts, append=len(values))
    nans = np.add.reduceat(np.isnan(values), starts, dtype=np.int64)
    with np.errstate(invalid="ignore"):
        return {
            "x": steps[starts],
            "min": np.fmin.reduceat(values, starts),
            "max": np.fmax.reduceat(values, starts),
            "mean": np.add.reduceat(np.nan_to_num(values), starts) / (n - nans),
            "first": values[starts],
            "last": values[np.append(starts[1:], len(values)) - 1],
            "n": n.astype(np.float64),
            "nans": nans.astype(np.float64),
        }


def in_buckets(expected: Sequence[Mapping[str, Values]], accuracy: float = 1e-9) -> Check:
    """An answer of series in buckets. Its numbers are exact but for means, and for what was computed."""

    def check(answer: Any) -> None:
        assert len(answer["series"]) == len(expected), len(answer["series"])
        for found, wanted in zip(answer["series"], expected, strict=True):
            for name, values in wanted.items():
                np.testing.assert_allclose(numbers(found[name]), values, rtol=accuracy, err_msg=name)

    return check


def single_in_buckets(values: Values, points: int) -> Check:
    """An answer of one series with its NaN and its spike."""
    expected = buckets(values, points)
    compare = in_buckets([expected])

    def check(answer: Any) -> None:
        compare(answer)
        (found,) = answer["series"]
        assert sum(found["n"]) == len(values)
        assert sum(found["nans"]) == 1, "the NaN is not to be seen"
        assert found["max"].count(data.SPIKE) == 1, "the spike is not to be seen"

    return check


def exact_series(values: Values) -> Check:
    """An answer of one series, point by point."""

    def check(answer: Any) -> None:
        (found,) = answer["series"]
        assert found["x"] == list(map(float, range(len(values)))), "steps are missing"
        np.testing.assert_allclose(numbers(found["value"]), values, rtol=1e-12)

    return check


def numbers(values: Sequence[float | str]) -> Values:
    """A column of an answer, in which NaN is a text."""
    return np.array(list(map(float, values)))


def ema(values: Values, weight: float) -> Values:
    """The average of what came, by the weight a point; NaN keeps its place."""
    answer = np.empty(len(values))
    total = count = 0.0
    for place, value in enumerate(values.tolist()):
        is_number = value == value
        total = total * weight + (value if is_number else 0.0)
        count = count * weight + is_number
        answer[place] = total / count if count else np.nan
    return answer


def f1_values(number: int) -> Values:
    """The custom metric of a training."""
    values = data.training_values(np.array([number]), np.arange(data.STEPS))[0]
    precision, recall = values[:, 0], values[:, 1]
    return np.asarray(2 * precision * recall / (precision + recall))


class Table:
    """The trainings, as a table of runs shows them."""

    def __init__(self, runs: int) -> None:
        self.numbers = np.arange(runs)
        last = data.training_values(self.numbers, np.array([data.STEPS - 1]))[:, 0, :]
        self.last = dict(zip(data.METRICS, last.T, strict=True))
        precision, recall = self.last["precision"], self.last["recall"]
        self.last["f1"] = 2 * precision * recall / (precision + recall)

    def page(self, taken: NDArray[np.bool_], order: str, columns: Sequence[str]) -> Check:
        """The first page of those that are taken, by falling last values of a metric. Columns: config.x, last(x)."""
        by_value = np.argsort(-self.last[order], kind="stable")
        sorted_numbers = self.numbers[by_value][taken[by_value]]
        expected = [self._row(number, columns) for number in sorted_numbers[:PAGE].tolist()]
        has_more = len(sorted_numbers) > PAGE

        def check(answer: Any) -> None:
            rows = answer["runs"]
            names = [row["run_id"] for row in rows]
            assert names == [row["run_id"] for row in expected], names
            assert [row["tags"] for row in rows] == [row["tags"] for row in expected]
            assert [row["status"] for row in rows] == [row["status"] for row in expected]
            for row, wanted in zip(rows, expected, strict=True):
                for value, one in zip(row["values"], wanted["values"], strict=True):
                    assert value == one or abs(value - one) < 1e-12, (row, wanted)
            assert (answer["next_cursor"] is not None) or not has_more

        return check

    def _row(self, number: int, columns: Sequence[str]) -> dict[str, Any]:
        config = data.config(number)
        values = [
            config[name.removeprefix("config.")] if name.startswith("config.") else self.last[name[5:-1]][number]
            for name in columns
        ]
        status = "failed" if number % 50 == 0 else "finished"
        return {"run_id": data.training(number), "tags": data.tags(number), "status": status, "values": values}


def names_page(metrics: int, pattern: str) -> Check:
    """The first page of the names of the run `wide` that match, with what is known of each."""
    names = data.wide_names(metrics)
    values = data.wide_values(metrics)
    matching = sorted((name, place) for place, name in enumerate(names) if re.search(pattern, name))
    assert matching, pattern

    def check(answer: Any) -> None:
        found = answer["metrics"]
        assert [one["name"] for one in found] == [name for name, _ in matching[:PAGE]], "names differ"
        for one, (_, place) in zip(found, matching, strict=False):
            own = values[:, place]
            wanted = (own[-1], float(len(own) - 1), own.min(), own.max())
            assert (one["last"], one["last_step"], one["min"], one["max"]) == wanted, one
        assert (answer["next_cursor"] is not None) == (len(matching) > PAGE)

    return check
