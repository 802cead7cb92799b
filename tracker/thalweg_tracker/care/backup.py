"""Takes a backup while ingest goes on: one order of reading instead of a lock (docs/decisions/0016-backup.md).

A SELECT reads a table as it stood when it began. Writers' words and checkpoints are read before the points: what
they tell of is there by then. All that points refer to, names and branches, is read after the reading of the points has
begun: it was there before them. What is known of series is not read at all, but made of the points again. So a
backup holds the points as they stood at one instant, and nothing that contradicts them.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from thalweg.version import __version__
from thalweg_tracker.care import manifest as manifests
from thalweg_tracker.care.checksums import ROW_HASH, Columns, read_columns
from thalweg_tracker.care.manifest import Manifest, StoredFile, TableContent, as_checksum
from thalweg_tracker.care.places import Place
from thalweg_tracker.care.tables import StoredTable, stored_tables
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import applied, pending, shipped
from thalweg_tracker.errors import RejectedError

POINTS: Final = "points"
_BEFORE_POINTS: Final = ("writers", "checkpoint_checks", "checkpoints")
FILE_ROWS: Final = 1_000_000
"""One insert takes so many, and is atomic."""
_FILE_BYTES: Final = 64 << 20
"""Of columns in memory: rows of texts are longer than points."""
_WRITERS: Final = 2
_AHEAD: Final = 2
"""Files that wait to be written, beside those that are."""


class StoppedError(Exception):
    """The backup was called off."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is. `rows` of `total_rows` went through; of copies that merges have not removed, one does."""

    stage: str
    rows: int
    total_rows: int


OnProgress = Callable[[Progress], None]


def take_backup(
    engine: Engine,
    place: Place,
    now_us: int,
    on_progress: OnProgress = lambda progress: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Manifest:
    """Writes a backup of all tables to a place where nothing is.

    Raises RejectedError if something is there, EngineError, ObjectStoreError, StoppedError.
    """
    if not place.is_empty():
        raise RejectedError(
            "place_taken",
            f"cannot back up to {place}: "
            + ("a backup is there" if place.size_bytes(manifests.NAME) is not None else "something is there"),
            "Name a place that is empty or not there yet; a backup is never overwritten.",
        )
    pending(engine)  # of a newer schema not all tables would be known
    had = applied(engine)
    tables = {table.name: table for table in stored_tables(one for one in shipped() if one.number in had)}
    if POINTS not in tables:
        raise RejectedError("no_database", f"cannot back up {engine.describe()}: it has no tables", "Is it the one?")
    with closing(_Writing(engine, place, on_progress, is_stopped)) as writing:
        writing.total_rows = _count(engine, list(tables.values()))
        for name in _BEFORE_POINTS:
            if name in tables:
                writing.write(tables[name])
        points = _Reading(engine, tables[POINTS])
        with closing(points):
            points.begin()
            for table in tables.values():
                if table.name not in (POINTS, *_BEFORE_POINTS):
                    writing.write(table)
            writing.write_from(points)
        contents = writing.contents()
    if is_stopped():
        raise StoppedError
    manifest = Manifest(__version__, now_us, had, tuple(contents[name] for name in tables))
    place.put(manifests.NAME, manifests.to_json(manifest))
    return manifest


def _count(engine: Engine, tables: list[StoredTable]) -> int:
    counts = " + ".join(f"(SELECT count() FROM {table.name})" for table in tables)
    rows: int = engine.query(f"SELECT {counts} AS n")["n"][0].as_py()
    return rows


class _Reading:
    """The rows of a table, each once, by its keys, as they stand when it begins."""

    def __init__(self, engine: Engine, table: StoredTable) -> None:
        self.table = table
        self._columns: Columns = read_columns(engine, table.name)
        self._stream = engine.stream(self._columns.select(table))
        self._batches: Iterator[pa.RecordBatch] = self._stream

    def begin(self) -> None:
        """Returns when the first rows are there: what is read from here on is of this instant."""
        first = next(self._stream, None)
        self._batches = chain([] if first is None else [first], self._stream)

    def parts(self) -> Iterator[pa.Table]:
        """The rows with their hashes, a file's at a time."""
        waiting: list[pa.RecordBatch] = []
        rows = size = 0
        for batch in self._batches:
            while rows + batch.num_rows >= FILE_ROWS:
                fits = FILE_ROWS - rows
                yield pa.Table.from_batches([*waiting, batch.slice(0, fits)])
                batch, waiting, rows, size = batch.slice(fits), [], 0, 0
            waiting.append(batch)
            rows, size = rows + batch.num_rows, size + batch.nbytes
            if size >= _FILE_BYTES:
                yield pa.Table.from_batches(waiting)
                waiting, rows, size = [], 0, 0
        if rows:
            yield pa.Table.from_batches(waiting)

    def close(self) -> None:
        """Ends the query."""
        close: Callable[[], None] | None = getattr(
            self._stream, "close", None
        )  # the contract says no more than Iterator
        if close is not None:
            close()


@dataclass(slots=True)
class _Content:
    """What was written of a table so far."""

    checksum: int = 0
    files: list[Future[StoredFile]] = field(default_factory=list)


class _Writing:
    """Encodes and writes files in threads of its own, a few ahead."""

    def __init__(self, engine: Engine, place: Place, on_progress: OnProgress, is_stopped: Callable[[], bool]) -> None:
        self.total_rows = 0
        self._engine = engine
        self._place = place
        self._on_progress = on_progress
        self._is_stopped = is_stopped
        self._rows = 0
        self._threads = ThreadPoolExecutor(_WRITERS, thread_name_prefix="backup")
        self._pending: list[Future[StoredFile]] = []
        self._contents: dict[str, _Content] = {}

    def write(self, table: StoredTable) -> None:
        """All rows of a table."""
        with closing(_Reading(self._engine, table)) as reading:
            self.write_from(reading)

    def write_from(self, reading: _Reading) -> None:
        """The rows of a reading."""
        name = reading.table.name
        content = self._contents.setdefault(name, _Content())
        for number, rows in enumerate(reading.parts(), 1):
            content.checksum += int(np.add.reduce(rows[ROW_HASH].to_numpy()))
            task = self._threads.submit(self._store, f"{name}/{number:06d}.parquet", rows.drop_columns([ROW_HASH]))
            content.files.append(task)
            self._pending.append(task)
            while len(self._pending) > _WRITERS + _AHEAD:
                self._pending.pop(0).result()
            if self._is_stopped():
                raise StoppedError
            self._rows += rows.num_rows
            self._on_progress(Progress(name, self._rows, max(self.total_rows, self._rows)))

    def _store(self, name: str, rows: pa.Table) -> StoredFile:
        content = encoded(rows)
        self._place.put(name, content)
        return StoredFile(name, rows.num_rows, len(content), hashlib.sha256(content).hexdigest())

    def contents(self) -> dict[str, TableContent]:
        """What was written, when all of it is."""
        done = {}
        for name, content in self._contents.items():
            files = tuple(task.result() for task in content.files)
            done[name] = TableContent(name, sum(file.rows for file in files), as_checksum(content.checksum), files)
        return done

    def close(self) -> None:
        """Waits for what is being written."""
        self._threads.shutdown(cancel_futures=True)


def encoded(rows: pa.Table) -> bytes:
    """Rows as a Parquet file, which other programs read too."""
    sink = io.BytesIO()
    options: dict[str, Any] = {"compression": "zstd", "compression_level": 1, "row_group_size": FILE_ROWS}
    if set(_ENCODINGS) <= set(rows.column_names):
        options |= {"use_dictionary": [name for name in rows.column_names if name not in _ENCODINGS]}
        options |= {"column_encoding": _ENCODINGS}
    pq.write_table(rows, sink, **options)
    return sink.getvalue()


_ENCODINGS: Final = {"step": "BYTE_STREAM_SPLIT", "time": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"}
"""Of points."""
