"""Restores a backup into an empty database of either engine, and verifies it there.

Until all of it is there and verified, the database says that a restore into it did not end, and nothing opens it.
Every file is compared with its SHA-256 before it is read; every table, once it is stored, with the sum of the
hashes of its rows, computed by the database.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from thalweg.wire import limits as wire_limits
from thalweg_tracker.care import manifest as manifests
from thalweg_tracker.care.backup import POINTS, OnProgress, Progress
from thalweg_tracker.care.checksums import read_checksum
from thalweg_tracker.care.manifest import Manifest, StoredFile, TableContent
from thalweg_tracker.care.places import Place
from thalweg_tracker.care.statistics import SPANS, Writers, joined, series_statistics, spans
from thalweg_tracker.care.tables import StoredTable, stored_tables
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import Migration, applied, apply, begin_restore, end_restore, shipped
from thalweg_tracker.errors import EngineError, NotFoundError, RejectedError

_INSERTS: Final = 2
_WRITERS: Final = "writers"
_COUNTS: Final = """
SELECT
    (SELECT count() FROM points) AS points,
    (SELECT count() FROM (SELECT run, metric, rank FROM series_stats GROUP BY run, metric, rank)) AS series,
    (SELECT uniqExact(project, run_id) FROM branches) AS runs,
    (SELECT uniqExact(project) FROM branches) AS projects
"""


@dataclass(frozen=True, slots=True)
class Restored:
    """What the restored database holds, as it counts it itself."""

    points: int
    series: int
    runs: int
    projects: int


def read_manifest(place: Place) -> Manifest:
    """What is there. Raises RejectedError where there is no whole backup; ObjectStoreError."""
    try:
        text = place.get(manifests.NAME)
    except NotFoundError as error:
        what = (
            "nothing is there" if place.is_empty() else f"it has no {manifests.NAME}: it was not finished, or is none"
        )
        raise RejectedError("no_backup", f"cannot read a backup at {place}: {what}") from error
    return manifests.from_json(text, str(place))


def check_backup(place: Place, on_progress: OnProgress = lambda progress: None) -> Manifest:
    """Reads all files and compares them with what the manifest says. Raises RejectedError where one is damaged."""
    manifest = read_manifest(place)
    done = 0
    for table in manifest.tables:
        for file in table.files:
            _read(place, file)
            done += file.rows
            on_progress(Progress(table.name, done, manifest.rows))
    return manifest


def restore_backup(engine: Engine, place: Place, on_progress: OnProgress = lambda progress: None) -> Restored:
    """Puts a backup into an empty database.

    Raises RejectedError where the backup is damaged or newer, or the database is not empty; EngineError,
    ObjectStoreError. After any error but these at the begin the database is not whole, and says so when opened.
    """
    manifest = read_manifest(place)
    known = _known(manifest, place)
    _check_files(manifest, place)
    _check_empty(engine)
    begin_restore(engine)
    apply(engine, [one for one in known if one.number in manifest.migrations])
    restoring = _Restoring(engine, place, manifest, on_progress)
    restoring.run({table.name: table for table in stored_tables(known)})
    apply(engine, [one for one in known if one.number not in manifest.migrations])
    end_restore(engine)
    row = engine.query(_COUNTS).to_pylist()[0]
    return Restored(**row)


def _known(manifest: Manifest, place: Place) -> list[Migration]:
    """The migrations of this version. Raises RejectedError if the backup has others."""
    known = {one.number: one for one in shipped()}
    newest = manifest.schema
    if newest not in known and newest > max(known):
        raise RejectedError(
            "newer_backup",
            f"cannot restore the backup {place}: it has schema {newest}, newer than this version's {max(known)}"
            f" (it was made by thalweg {manifest.thalweg})",
            "Upgrade thalweg.",
        )
    for number, sha256 in manifest.migrations.items():
        if number not in known or known[number].sha256 != sha256:
            raise RejectedError(
                "other_backup", f"cannot restore the backup {place}: its migration {number} is not that of this version"
            )
    return list(known.values())


def _check_files(manifest: Manifest, place: Place) -> None:
    """A cheap look before anything is written: whether all files are there, with their sizes."""
    for file in (file for table in manifest.tables for file in table.files):
        size = place.size_bytes(file.name)
        if size != file.size_bytes:
            why = "is not there" if size is None else f"has {size} bytes instead of {file.size_bytes}"
            raise _damaged(place, f"{file.name} {why}")


def _check_empty(engine: Engine) -> None:
    """Raises RejectedError unless the database has no rows, EngineError where a restore into it did not end."""
    had = applied(engine)
    for table in stored_tables(one for one in shipped() if one.number in had):
        if engine.query(f"SELECT 1 AS one FROM {table.name} LIMIT 1").num_rows:
            raise RejectedError(
                "not_empty",
                f"cannot restore into {engine.describe()}: its table {table.name} has rows",
                "Name a folder or database that is empty or not there yet.",
            )


def _damaged(place: Place, why: str) -> RejectedError:
    return RejectedError("damaged_backup", f"cannot read the backup {place}: {why}", "Take another backup.")


def _read(place: Place, file: StoredFile) -> bytes:
    """A file whose bytes are those that were written."""
    try:
        content = place.get(file.name)
    except NotFoundError as error:
        raise _damaged(place, f"{file.name} is not there") from error
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise _damaged(place, f"{file.name} does not have the SHA-256 that the manifest names")
    return content


class _Restoring:
    """One restore under way."""

    def __init__(self, engine: Engine, place: Place, manifest: Manifest, on_progress: OnProgress) -> None:
        self._engine = engine
        self._place = place
        self._manifest = manifest
        self._on_progress = on_progress
        self._done = 0

    def run(self, tables: dict[str, StoredTable]) -> None:
        """Stores and verifies all tables, the points last: what is made of them needs the others."""
        contents = {content.name: content for content in self._manifest.tables}
        points = contents.pop(POINTS)
        for content in contents.values():
            for rows in self._files(content):
                self._engine.insert(content.name, rows)
            self._verify(tables[content.name], content)
        self._store_points(points)
        self._verify(tables[POINTS], points)

    def _files(self, content: TableContent) -> Iterator[pa.Table]:
        for file in content.files:
            yield self._rows(file)
            self._tell(content.name, file.rows)

    def _rows(self, file: StoredFile) -> pa.Table:
        rows = pq.read_table(io.BytesIO(_read(self._place, file)))
        if rows.num_rows != file.rows:
            raise _damaged(self._place, f"{file.name} has {rows.num_rows} rows instead of {file.rows}")
        return rows

    def _tell(self, stage: str, rows: int) -> None:
        self._done += rows
        self._on_progress(Progress(stage, self._done, self._manifest.rows))

    def _store_points(self, content: TableContent) -> None:
        """Points, and what is known of them without reading them: their series, and how far their runs have come."""
        where = "project, run, rank, writer, primary, last_seen_at"
        said = self._engine.query(f"SELECT {where} FROM {_WRITERS} FINAL").to_pylist()
        writers = Writers.of(said)
        of_host = self._metrics_of_hosts()

        def store(file: StoredFile) -> pa.Table:
            rows = self._rows(file)
            statistics = series_statistics(rows, writers, of_host)
            self._engine.insert(POINTS, rows)
            self._engine.insert("series_stats_feed", statistics)
            return spans(statistics, of_host)

        with ThreadPoolExecutor(_INSERTS, thread_name_prefix="restore") as threads:
            tasks = [(threads.submit(store, file), file) for file in content.files]
            try:
                parts = [self._stored(task, file) for task, file in tasks]
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise
        self._store_spans(joined(parts), writers, {(row["run"]): row["project"] for row in said})

    def _stored(self, task: Future[pa.Table], file: StoredFile) -> pa.Table:
        found = task.result()
        self._tell(POINTS, file.rows)
        return found

    def _metrics_of_hosts(self) -> NDArray[np.uint64]:
        sql = "SELECT DISTINCT metric FROM run_metrics WHERE startsWith(name, {prefix:String})"
        found = self._engine.query(sql, {"prefix": wire_limits.SYSTEM_PREFIX})["metric"]
        keys: NDArray[np.uint64] = found.to_numpy()
        return keys

    def _store_spans(self, found: pa.Table, writers: Writers, projects: dict[int, str]) -> None:
        """Tells of runs how far their points go: of what was on its way, the writers had not said it yet."""
        missing = sorted(set(found["run"].to_pylist()) - projects.keys())
        sql = "SELECT DISTINCT run, project FROM branches WHERE run IN {runs:Array(UInt64)}"
        for some in _chunks(missing, 10_000):
            rows = self._engine.query(sql, {"runs": some}).to_pylist()
            projects |= {row["run"]: row["project"] for row in rows}
        rows = [
            {
                "project": projects.get(row["run"], ""),
                "run": row["run"],
                "writer": writers.training_of((row["run"], row["rank"])),
                "rank": row["rank"],
                "first_step": row["first_step"],
                "last_step": row["last_step"],
            }
            for row in found.to_pylist()
        ]
        for some_rows in _chunks(rows, 100_000):
            self._engine.insert(_WRITERS, pa.Table.from_pylist(some_rows, schema=_SPAN_ROWS))

    def _verify(self, table: StoredTable, content: TableContent) -> None:
        """Raises EngineError where the database does not hold what the backup has."""
        self._on_progress(Progress(f"verifying {table.name}", self._done, self._manifest.rows))
        found = read_checksum(self._engine, table)
        if found != (content.rows, content.checksum):
            raise EngineError(
                f"the restored table {table.name} is not that of the backup: it has {found[0]:,} rows with checksum"
                f" {found[1]}, not {content.rows:,} with {content.checksum}"
            )


_SPAN_ROWS: Final = pa.schema(
    [("project", pa.string()), ("run", pa.uint64()), ("writer", pa.uint64()), *SPANS.remove(0)]
)


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
