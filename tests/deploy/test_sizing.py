"""The tables of sizes in deploy/README.md quote the reports of the measurements, rounded as they are written."""

from __future__ import annotations

import json
import re
import statistics

import pytest

from tests.support.deployment import DEPLOY, ROOT

_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")

# The begin of a row; which number of its cell, from 0; the report, its figure, and what that is divided by.
QUOTED = [
    ("embedded, wide: server's CPU", 0, "ingest", "wide: server CPU, with reading back", 1),
    ("embedded, 100,000 metrics a step", 0, "ingest", "very-wide: server CPU, with reading back", 1),
    ("`thalweg ingest`, wide", 0, "driver_path", "end to end, wide: `thalweg ingest`, gRPC and all", 1),
    ("`thalweg ingest`, narrow", 0, "driver_path", "narrow: assemble and insert", 1),
    ("ClickHouse under it", 0, "driver_path", "end to end, wide: the server of the tests", 1),
    ("embedded, wide, two cores", 0, "ingest", "wide: acknowledged", 1e6),
    ("disk, curves", 0, "storage", "all, with series_stats", 1),
    ("disk, curves", 1, "storage", "runs of 10,000 steps", 1),
    ("disk, curves", 3, "storage", "runs of 200,000 steps", 1),
    ("memory of the embedded server, peak: wide", 0, "ingest", "wide: server memory, peak, with reading back", 1),
    ("memory of the embedded server, peak: wide", 1, "ingest", "very-wide: server memory, peak, with reading back", 1),
    ("memory of the embedded server, peak: questions", 0, "queries", "memory of the server during the stream, peak", 1),
    ("memory of the embedded server, peak: questions", 1, "mixed", "server resident memory, peak", 1),
]


def rows() -> list[list[str]]:
    """The cells of the tables under "Sizing"."""
    section = (DEPLOY / "README.md").read_text().partition("\n## Sizing\n")[2].partition("\n## ")[0]
    found = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [cells for cells in found if cells[0] != "what"]


def as_written(value: float, text: str) -> str:
    """A value with as many decimals as the text has."""
    return f"{value:,.{len(text.partition('.')[2])}f}"


@pytest.mark.parametrize(("begin", "place", "report", "name", "unit"), QUOTED, ids=[f"{q[2]}: {q[3]}" for q in QUOTED])
def test_what_is_quoted_is_in_the_report(begin: str, place: int, report: str, name: str, unit: float) -> None:
    """The median of the report that is committed."""
    (measured,) = [cells[1] for cells in rows() if cells[0].startswith(begin)]
    (values,) = [
        figure["values"]
        for figure in json.loads((ROOT / "loadtests" / "reports" / f"{report}.json").read_text())["figures"]
        if figure["name"] == name
    ]
    written = _NUMBER.findall(measured)[place]
    assert written == as_written(statistics.median(values) / unit, written)


def test_every_row_is_compared() -> None:
    """One that is added to a table is in the list above."""
    assert rows()
    assert [cells[0] for cells in rows() if not any(cells[0].startswith(quoted[0]) for quoted in QUOTED)] == []


def test_what_a_core_carries_is_what_a_point_costs() -> None:
    """One is the other's inverse: microseconds a point, million points a second."""
    carried = [cells for cells in rows() if len(cells) == 3]
    assert carried
    for _, cost, carries in carried:
        written = _NUMBER.findall(carries)[0]
        assert written == as_written(1 / float(_NUMBER.findall(cost)[0]), written)
