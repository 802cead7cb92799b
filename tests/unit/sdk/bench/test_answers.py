"""What holds of any data passes, whatever was logged; what cannot be is told."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from thalweg.bench import answers

BUCKETS = {
    "run_id": "r", "branch": 0, "name": "loss",
    "x": [0.0, 2.0, 5.0], "min": [0.5, "NaN", "-Infinity"], "max": [1.5, "NaN", 3.0], "mean": [1.0, "NaN", "-Infinity"],
    "first": [0.5, "NaN", "NaN"], "last": [1.5, "NaN", 3.0], "n": [2, 1, 3], "nans": [0, 1, 1],
}  # fmt: skip
ABOVE = {
    "run_id": "r", "branch": 0, "name": "above", "x": [0.0, 1.0], "min": [0.0, 0.0], "max": [2.0, 1.0],
    "mean": [1.0, 0.5], "first": [0.0, 1.0], "last": [2.0, 0.0], "n": [2, 2], "nans": [0, 0],
}  # fmt: skip
RUNS = [
    {"run_id": "b", "created_at": "2026-01-02T00:00:00.250000Z"},
    {"run_id": "a", "created_at": "2026-01-02T00:00:00Z"},
]
METRICS = [
    {"name": "acc", "min": "NaN", "max": "NaN", "first_step": 0.0, "last_step": 0.0},
    {"name": "loss", "min": 1.0, "max": 1.0, "first_step": 0.0, "last_step": 9.0},
]
ROWS = [
    {"run_id": str(place), "values": [value, 0.0]} for place, value in enumerate(["Infinity", 2, 2, -1.5, "NaN", None])
]


def problem(check: answers.Check, answer: Any) -> str:
    """What a check says; "" where it is content."""
    try:
        answers.checked(check, answer)
    except answers.WrongAnswerError as error:
        return str(error)
    return ""


def test_good_answers_pass() -> None:
    """NaN, infinities, ties and rounding are no faults."""
    assert problem(answers.series(["q", "r"], ["loss"], 3, [("r", "loss")]), {"series": [BUCKETS]}) == ""
    assert problem(answers.series(["r"], ["above"], 9, [], is_above=True), {"series": [ABOVE]}) == ""
    third = ABOVE | {"x": [0.0], "min": [0.1], "max": [0.1], "mean": [0.1 + 1e-17], "first": [0.1], "last": [0.1]}
    third |= {"n": [3], "nans": [0], "mean": [0.10000000000000002]}
    assert problem(answers.series(["r"], ["above"], 9, []), {"series": [third]}) == ""
    assert problem(answers.series(["r"], ["loss"], 3, []), {"series": []}) == ""
    assert problem(answers.run_list(2), {"runs": RUNS}) == ""
    assert problem(answers.metric_names(["loss"]), {"metrics": METRICS, "next_cursor": None}) == ""
    assert problem(answers.metric_names(["val"]), {"metrics": METRICS, "next_cursor": "more"}) == ""
    assert problem(answers.run_table(["a", "b"], 6), table(ROWS)) == ""
    run = {"run_id": "r", "status": "lost", "lineage": [{"run_id": "p"}, {"run_id": "r"}]}
    assert problem(answers.one_run("r"), run) == ""
    assert problem(answers.live_points(["r"], ["loss"]), {"series": [live()]}) == ""


def table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """An answer of a table with the columns a and b."""
    return {"columns": [{"name": "a"}, {"name": "b"}], "runs": rows}


def live(**other: Any) -> dict[str, Any]:
    """A series of an event."""
    return {"run_id": "r", "name": "loss", "x": [1.0, 2.0], "value": [1.0, "NaN"], "time": [5, 6], **other}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"run_id": "s"}, "not asked for"),
        ({"name": "acc"}, "not asked for"),
        ({"x": [0.0, 5.0, 2.0]}, "do not rise"),
        ({"x": [0.0, 2.0, 2.0]}, "do not rise"),
        ({"x": [0.0, 2.0, "NaN"]}, "do not rise"),
        ({"x": [0.0, 2.0]}, "differ in length"),
        ({name: [] for name in ("x", "min", "max", "mean", "first", "last", "n", "nans")}, "0 buckets"),
        ({"min": [1.6, "NaN", "-Infinity"]}, "a min is above its max"),
        ({"mean": [1.6, "NaN", "-Infinity"]}, "a mean is not between"),
        ({"mean": [0.4, "NaN", "-Infinity"]}, "a mean is not between"),
        ({"first": [0.4, "NaN", "NaN"]}, "a first or last"),
        ({"last": [1.6, "NaN", 3.0]}, "a first or last"),
        ({"last": ["NaN", "NaN", 3.0]}, "a first or last"),
        ({"min": [0.5, 1.0, "-Infinity"]}, "where all values are NaN"),
        ({"max": ["NaN", "NaN", 3.0]}, "where all values are NaN"),
        ({"n": [2, 0, 3]}, "counts less than nothing"),
        ({"nans": [3, 1, 1]}, "counts less than nothing"),
        ({"mean": [None, "NaN", "-Infinity"]}, "another shape"),
        ({"mean": ["one", "NaN", "-Infinity"]}, "another shape"),
        ({"mean": 1}, "another shape"),
    ],
)
def test_wrong_series(change: dict[str, Any], told: str) -> None:
    """Each number that cannot be, and each series that nobody asked for."""
    assert told in problem(answers.series(["r"], ["loss"], 3, []), {"series": [BUCKETS | change]})


def test_wrong_sets_of_series() -> None:
    """Too few, too many, in another order, of more buckets than asked for."""
    both = [BUCKETS, BUCKETS | {"run_id": "q"}]
    check = answers.series(["r", "q"], ["loss"], 3, [("r", "loss")])
    assert problem(check, {"series": both}) == ""
    assert "order" in problem(check, {"series": both[::-1]})
    assert "order" in problem(check, {"series": [BUCKETS, BUCKETS]})
    assert "missing" in problem(check, {"series": both[1:]})
    assert "3 buckets of 2" in problem(answers.series(["r"], ["loss"], 2, []), {"series": [BUCKETS]})
    assert "another shape" in problem(check, {"error": "none"})
    assert "another shape" in problem(check, None)


@pytest.mark.parametrize("change", [{"min": [-0.5, 0.0]}, {"first": [0.5, 1.0]}])
def test_wrong_above(change: dict[str, Any]) -> None:
    """Nothing is below its own best; and the first point is its own best."""
    assert problem(answers.series(["r"], ["above"], 9, [], is_above=True), {"series": [ABOVE | change]})


def test_wrong_lists_and_tables() -> None:
    """Order, doubles, what is missing, what is too much."""
    assert "order" in problem(answers.run_list(0), {"runs": RUNS[::-1]})
    assert "twice" in problem(answers.run_list(0), {"runs": [RUNS[0], RUNS[0]]})
    assert "there were 3" in problem(answers.run_list(3), {"runs": RUNS})
    names = answers.metric_names(["acc", "loss"])
    assert "missing" in problem(names, {"metrics": METRICS[:1], "next_cursor": None})
    assert "missing" in problem(names, {"metrics": METRICS[1:], "next_cursor": "more"})
    assert "order" in problem(names, {"metrics": METRICS[::-1], "next_cursor": None})
    for change, told in (({"min": 2.0}, "min 2.0 and max 1.0"), ({"first_step": 10.0}, "before it begins")):
        assert told in problem(names, {"metrics": [METRICS[0], METRICS[1] | change], "next_cursor": None})
    rows = answers.run_table(["a", "b"], 6)
    for wrong in (ROWS[::-1], [ROWS[5], *ROWS[:5]], [ROWS[4], *ROWS[:4]], [ROWS[1], ROWS[0]]):
        assert "not sorted by a" in problem(rows, table(wrong))
    assert "twice" in problem(rows, table([ROWS[0], ROWS[0]]))
    assert "0 rows" in problem(rows, table([]))
    assert "6 rows of at most 5" in problem(answers.run_table(["a", "b"], 5), table(ROWS))
    assert "columns" in problem(answers.run_table(["b", "a"], 6), table(ROWS))
    short = deepcopy(ROWS)
    short[2]["values"].pop()
    assert "each column" in problem(rows, table(short))


def test_wrong_runs_and_events() -> None:
    """Another run, a status that there is not, a series that nobody listens to, steps that do not rise."""
    run = {"run_id": "r", "status": "finished", "lineage": [{"run_id": "r"}]}
    for change in ({"run_id": "s"}, {"status": "done"}, {"lineage": [{"run_id": "s"}]}, {"lineage": []}):
        assert problem(answers.one_run("r"), run | change), change
    check = answers.live_points(["r"], ["loss"])
    assert problem(check, {"series": []})
    for change in ({"run_id": "s"}, {"name": "acc"}, {"x": [2.0, 1.0]}, {"x": [1.0]}, {"value": [1.0, None]}):
        assert problem(check, {"series": [live(**change)]}), change
