"""Compares what two databases have: points by series, all else by run or row. Both compute checksums by the same SQL.

Equal rows as they are stored are equal rows as they stand; only where they differ, as one side has merged versions of
a row that the other has not, they are compared as they stand (FINAL), which takes several times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from thalweg_tracker.care.move import POINTS, STATISTICS, tables_of
from thalweg_tracker.engine.contract import Engine

POINTS_AT_ONCE: Final = 20_000_000
RUNS_AT_ONCE: Final = 5_000
_SERIES: Final = """SELECT run, metric, rank, count() AS rows,
    sum(cityHash64(reinterpretAsUInt64(step), toUnixTimestamp64Micro(time), reinterpretAsUInt64(value))) AS checksum
FROM points {final}
WHERE run IN {{runs:Array(UInt64)}}
GROUP BY run, metric, rank"""
_OF_RUNS: Final = """SELECT run, count() AS rows, sum(cityHash64({columns})) AS checksum
FROM {table} FINAL
WHERE run IN {{runs:Array(UInt64)}}
GROUP BY run"""
_OF_ROWS: Final = "SELECT cityHash64({columns}) AS checksum FROM {table} FINAL"
_COLUMNS: Final = """SELECT name FROM system.columns
WHERE database = currentDatabase() AND table = {table:String} ORDER BY position"""
_NAMES: Final = {
    "run": "SELECT any(concat(project, '/', run_id, if(branch = 0, '', concat(' branch ', toString(branch)))))"
    " AS name FROM branches WHERE run = {key:UInt64}",
    "metric": "SELECT any(name) AS name FROM metric_names WHERE metric = {key:UInt64}",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not the same: of a series, of a run, or, with neither, of a whole table."""

    table: str
    run: str | None
    metric: str | None
    rank: int | None
    source_rows: int
    destination_rows: int

    def __str__(self) -> str:
        named = {"run": self.run, "metric": self.metric, "rank": self.rank}
        what = ", ".join(f"{name} {value}" for name, value in named.items() if value is not None)
        if self.source_rows == self.destination_rows:
            return f"{self.table}: {what or 'rows'}: {self.source_rows} rows on both sides, with other content"
        return f"{self.table}: {what or 'rows'}: {self.source_rows} at the source, {self.destination_rows} moved"


def compare(source: Engine, destination: Engine, tell: Callable[[int, int], None]) -> Iterator[Difference]:
    """Every difference in what the source has; what else the destination has does not count.

    `tell`: points that were compared, of how many. Raises EngineError.
    """
    counts = source.query("SELECT run, count() AS rows FROM points GROUP BY run ORDER BY run")
    total, done = sum(counts["rows"].to_pylist()), 0
    for runs, rows in _chunks(counts):
        yield from _compare_points(source, destination, runs)
        done += rows
        tell(done, total)
    for table in tables_of(source):
        if table != POINTS:
            yield from _compare_table(source, destination, table)


def _chunks(counts: pa.Table) -> Iterator[tuple[list[int], int]]:
    runs: list[int] = []
    rows = 0
    for run, count in zip(counts["run"].to_pylist(), counts["rows"].to_pylist(), strict=True):
        if runs and (rows + count > POINTS_AT_ONCE or len(runs) == RUNS_AT_ONCE):
            yield runs, rows
            runs, rows = [], 0
        runs.append(run)
        rows += count
    if runs:
        yield runs, rows


def _compare_points(source: Engine, destination: Engine, runs: Sequence[int]) -> Iterator[Difference]:
    keys = ("run", "metric", "rank")
    suspects = {run for run, _, _ in _unequal(source, destination, _SERIES.format(final=""), runs, keys)}
    if not suspects:
        return
    found = _unequal(source, destination, _SERIES.format(final="FINAL"), sorted(suspects), keys)
    for (run, metric, rank), (ours, theirs) in found.items():
        names = (_name(source, "run", run), _name(source, "metric", metric))
        yield Difference(POINTS, *names, rank, ours, theirs)


def _compare_table(source: Engine, destination: Engine, table: str) -> Iterator[Difference]:
    columns = source.query(_COLUMNS, {"table": table})["name"].to_pylist()
    if table == STATISTICS:
        columns.remove("flags")  # the move marks what it inserted again
    hashed = ", ".join(f"`{name}`" for name in columns)
    if "run" not in columns:
        sql = _OF_ROWS.format(columns=hashed, table=table)
        ours, theirs = (engine.query(sql)["checksum"].to_numpy() for engine in (source, destination))
        there = int(np.isin(ours, theirs).sum())
        if there != len(ours):
            yield Difference(table, None, None, None, len(ours), there)
        return
    sql = _OF_RUNS.format(columns=hashed, table=table)
    runs = source.query(f"SELECT DISTINCT run FROM {table} ORDER BY run")["run"].to_pylist()
    for start in range(0, len(runs), RUNS_AT_ONCE):
        found = _unequal(source, destination, sql, runs[start : start + RUNS_AT_ONCE], ("run",))
        for (run,), (own, moved) in found.items():
            yield Difference(table, _name(source, "run", run), None, None, own, moved)


def _unequal(
    source: Engine, destination: Engine, sql: str, runs: Sequence[int], keys: Sequence[str]
) -> dict[tuple[int, ...], tuple[int, int]]:
    """The groups of which count or checksum differ, with the rows of each side."""
    ours, theirs = (_sorted(engine.query(sql, {"runs": list(runs)}), keys) for engine in (source, destination))
    names = (*keys, "rows", "checksum")
    if len(ours["rows"]) == len(theirs["rows"]) and all(np.array_equal(ours[one], theirs[one]) for one in names):
        return {}
    own, moved = (_by_key([side[one].tolist() for one in names]) for side in (ours, theirs))
    return {
        key: (own.get(key, (0, 0))[0], moved.get(key, (0, 0))[0])
        for key in sorted(own.keys() | moved.keys())
        if own.get(key) != moved.get(key)
    }


def _by_key(columns: Sequence[Sequence[int]]) -> dict[tuple[int, ...], tuple[int, int]]:
    return {tuple(key): (rows, checksum) for *key, rows, checksum in zip(*columns, strict=True)}


def _sorted(answer: pa.Table, keys: Sequence[str]) -> dict[str, Any]:
    columns = {name: answer[name].to_numpy() for name in answer.column_names}
    order = np.lexsort([columns[name] for name in reversed(keys)])
    return {name: column[order] for name, column in columns.items()}


def _name(source: Engine, kind: str, key: int) -> str:
    """What people call it; its key where nobody knows."""
    return source.query(_NAMES[kind], {"key": key})["name"][0].as_py() or f"{key:016x}"
