"""From the JSON of answers to columns: long form for series, NaN and infinities as floats, times as datetimes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from thalweg.query.table import Column, Kind, Table

_NUMBERS: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_KINDS: Final[dict[str, Kind]] = {
    **dict.fromkeys(("run_id", "name", "status", "description", "expression", "kind", "problem"), "text"),
    **dict.fromkeys(("branch", "rank", "ranks", "n", "nans", "runs"), "whole"),
    **dict.fromkeys(("time", "created_at", "last_seen_at", "ended_at", "updated_at", "last_time"), "time"),
    **dict.fromkeys(("tags", "inputs"), "texts"),
    **dict.fromkeys(("x", "value", "min", "max", "mean", "std", "first", "last"), "number"),
    **dict.fromkeys(("first_step", "last_step", "argmin", "argmax"), "number"),
}
"""Of columns that have a name of ours."""
_EXPRESSION_KINDS: Final[dict[str, Kind]] = {"number": "number", "string": "text", "bool": "bool"}
_RUN: Final = ("run_id", "branch", "name", "status", "created_at", "last_seen_at", "ended_at", "tags")
METRIC: Final = (
    "name", "ranks", "first_step", "last_step", "last_time", "last", "min", "argmin", "max", "argmax"
)  # fmt: skip
CUSTOM_METRIC: Final = ("name", "expression", "description", "kind", "inputs", "problem", "created_at", "updated_at")
STATISTICS: Final = ("mean", "std", "min", "max", "n")
"""What is told of a value over the runs of a group."""
_LABELS: Final = ("run_id", "branch", "name", "rank")


def float_of(value: float | str | None) -> float | None:
    """A number of the API, whose NaN and infinities are text."""
    return _NUMBERS.get(value) if isinstance(value, str) else value


def time_of(value: str | int | None) -> datetime | None:
    """A time of the API: text, or microseconds since the epoch."""
    if isinstance(value, str):
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    return None if value is None else _EPOCH + timedelta(microseconds=value)


def column(name: str, kind: Kind, values: Iterable[Any]) -> Column:
    """A column of an answer, as Python has its values."""
    match kind:
        case "number":
            return Column(name, kind, [float_of(value) for value in values])
        case "time":
            return Column(name, kind, [time_of(value) for value in values])
        case "any":  # an attribute, whose type the server does not tell
            return Column(name, kind, [_NUMBERS.get(v, v) if isinstance(v, str) else v for v in values])
    return Column(name, kind, list(values))


def entries_table(entries: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
    """Documents that have columns of ours, one a row."""
    return Table([_column_of(name, (entry.get(name) for entry in entries)) for name in names])


def runs_table(columns: Sequence[Mapping[str, str]], runs: Sequence[Mapping[str, Any]]) -> Table:
    """Runs, with the values of the columns that were asked for."""
    found = {name: _column_of(name, (run.get(name) for run in runs)) for name in _RUN}
    for place, asked in enumerate(columns):
        kind = _EXPRESSION_KINDS.get(asked["kind"], "any")
        found[asked["name"]] = column(asked["name"], kind, (run["values"][place] for run in runs))
    return Table(list(found.values()))


def groups_table(
    group_by: Sequence[str], columns: Sequence[Mapping[str, str]], groups: Sequence[Mapping[str, Any]]
) -> Table:
    """Groups of runs: what they have in common, their number, and for each column COLUMN.mean, COLUMN.std ..."""
    found = [column(name, "any", (group["group"][place] for group in groups)) for place, name in enumerate(group_by)]
    found.append(column("runs", "whole", (group["runs"] for group in groups)))
    for place, asked in enumerate(columns):
        told = [group["values"][place] or {} for group in groups]
        for statistic in STATISTICS:
            values = (one.get(statistic, 0 if statistic == "n" else None) for one in told)
            found.append(column(f"{asked['name']}.{statistic}", _KINDS[statistic], values))
    return Table(found)


def series_table(series: Sequence[Mapping[str, Any]], expected: Sequence[str], group_by: Sequence[str] = ()) -> Table:
    """Series in long form: their labels on each of their points. `expected`: the columns where there are none."""
    if not series:
        return Table([*(column(name, "any", ()) for name in group_by), *(_column_of(name, ()) for name in expected)])
    groups = [column(name, "any", _spread(series, [one["group"].get(name) for one in series])) for name in group_by]
    labels = [name for name in _LABELS if series[0].get(name) is not None]
    points = [name for name, values in series[0].items() if isinstance(values, list)]
    return Table(
        [
            *groups,
            *(_column_of(name, _spread(series, [one[name] for one in series])) for name in labels),
            *(_column_of(name, (value for one in series for value in one[name])) for name in points),
        ]
    )


def _spread(series: Sequence[Mapping[str, Any]], labels: Sequence[Any]) -> list[Any]:
    """A label for each point of its series."""
    spread: list[Any] = []
    for one, label in zip(series, labels, strict=True):
        spread += [label] * len(one["x"])
    return spread


def _column_of(name: str, values: Iterable[Any]) -> Column:
    return column(name, _KINDS.get(name, "any"), values)
