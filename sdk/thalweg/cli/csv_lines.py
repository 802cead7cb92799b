"""A table as CSV on stdout."""

from __future__ import annotations

import csv
import sys

from thalweg.query.table import Table


def print_csv(table: Table) -> None:
    """CSV with a header; times as in ISO 8601, tags separated by commas, what is missing empty."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(table.columns)
    for row in table.rows():
        writer.writerow([_csv_cell(value) for value in row.values()])


def _csv_cell(value: object) -> object:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value.isoformat() if hasattr(value, "isoformat") else value
