"""Values of runs, and of groups of runs, as tables: what /runs/query answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from thalweg.cli import formats, output
from thalweg.query.decode import float_of

_TEXT_CHARS: Final = 60


def value_cell(value: object) -> str:
    """A value of a column."""
    if value is None:
        return ""
    if isinstance(value, (bool, list, dict)):
        return formats.shorten(json.dumps(value, ensure_ascii=False), _TEXT_CHARS)
    if isinstance(value, (int, float)):
        return formats.number(value) if isinstance(value, float) else str(value)
    return formats.shorten(str(value), _TEXT_CHARS)


def number_columns(columns: Sequence[Mapping[str, str]], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the columns that hold nothing but numbers."""
    return [
        column["name"]
        for place, column in enumerate(columns)
        if all(_is_number(row["values"][place]) for row in rows if row["values"][place] is not None)
    ]


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return float_of(value) is not None
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def print_values(columns: Sequence[Mapping[str, str]], runs: Sequence[Mapping[str, Any]]) -> None:
    """Runs with the values of columns."""
    rows = [(run["run_id"], run["name"], run["status"], *map(value_cell, run["values"])) for run in runs]
    heads = ("run_id", "name", "status", *(column["name"] for column in columns))
    output.print_table(heads, rows, right=number_columns(columns, runs))


def print_groups(
    group_by: Sequence[str], columns: Sequence[Mapping[str, str]], groups: Sequence[Mapping[str, Any]]
) -> None:
    """Groups of runs with the mean and the standard deviation of columns."""
    names = [column["name"] for column in columns]
    rows = [
        (*map(value_cell, group["group"]), str(group["runs"]), *(_spread(told) for told in group["values"]))
        for group in groups
    ]
    output.print_table((*group_by, "runs", *names), rows, right=("runs", *names))


def _spread(told: Mapping[str, Any] | None) -> str:
    """`mean ± std`, and over how many runs."""
    if told is None or not told["n"]:
        return ""
    return f"{formats.number(told['mean'])} ± {formats.number(told['std'])} (n={told['n']})"
