"""Moves an embedded database to ClickHouse servers: names first, then points, then statistics, branches last.

Guarantees:
 * a run is not listed before all of it is there, and its points are not read before their statistics are;
 * what is moved stays where it was; nothing is changed there but that its schema is brought up to date;
 * a move that was interrupted, however, goes on after the last points that were surely stored. Those that may have been
   stored without our knowing are inserted again, and their series are marked so that readers count each once (0003);
 * a destination that has one of the runs, from elsewhere, is refused.

The state lies in the source's folder, one file a destination. One thread reads, some insert.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from thalweg_tracker.engine.contract import Engine, Parameters
from thalweg_tracker.errors import EngineBusyError, EngineError, RejectedError
from thalweg_tracker.model import series_flags

log = logging.getLogger(__name__)

BLOCK_ROWS: Final = 500_000
"""Of one insert."""
INSERTS_AT_ONCE: Final = 2
BEGUN_MOST: Final = 4
"""Inserts begun or waiting: so much memory is taken, and so much is inserted again after an interruption."""
_ROWS_AT_ONCE: Final = 50_000
_BYTES_AT_ONCE: Final = 64 << 20
_KEYS_AT_ONCE: Final = 20_000
_TRIES: Final = 6

FIRST: Final = ("metric_names", "run_metrics")
POINTS: Final = "points"
STATISTICS: Final = "series_stats"
LAST: Final = ("writers", "branches")
NOT_MOVED: Final = frozenset({"migrations", "series_stats_feed", "series_stats_view"})

Place = tuple[int, int, int, float]
"""Of a point in the order of the table: run, metric, rank, step."""

# In the order of the table, so that nothing is sorted. Points of the same place stay together, as they begin with it.
_READ_POINTS: Final = """SELECT
    p.run AS run, p.metric AS metric, p.rank AS rank, p.step AS step, p.time AS time, p.value AS value
FROM points AS p
WHERE {which}
ORDER BY p.run, p.metric, p.rank, p.step"""
_FROM_PLACE: Final = (
    "(p.run, p.metric, p.rank, p.step) >= ({run:UInt64}, {metric:UInt64}, {rank:UInt16}, {step:Float64})"
)
# What the feed makes of a row is the row, but for a last time that is not that of the last step: that takes a row that
# says nothing else. Its other values lose against any.
_READ_STATISTICS: Final = """SELECT
    s.run AS run, s.metric AS metric, s.rank AS rank, s.writer AS writer,
    toUInt8(bitOr(s.flags, if({is_repeated}, {resent:UInt8}, 0))) AS flags,
    s.first.1 AS first_step, fromUnixTimestamp64Micro(-s.first.2, 'UTC') AS first_time, s.first.3 AS first,
    s.last.1 AS last_step, fromUnixTimestamp64Micro(s.last.2, 'UTC') AS last_time, s.last.3 AS last,
    s.least.1 AS min, s.least.2 AS argmin, s.greatest.1 AS max, -s.greatest.2 AS argmax
FROM series_stats AS s FINAL
UNION ALL
SELECT
    s.run, s.metric, s.rank, s.writer, toUInt8(0),
    inf, toDateTime64(0, 6, 'UTC'), 0., -inf, s.last_time, 0., inf, inf, -inf, inf
FROM series_stats AS s FINAL
WHERE toUnixTimestamp64Micro(s.last_time) != s.last.2"""
_REPEATED: Final = (
    "((s.run, s.metric, s.rank) >= ({{run{0}:UInt64}}, {{metric{0}:UInt64}}, {{rank{0}:UInt16}})"
    " AND (s.run, s.metric, s.rank) <= ({{to_run{0}:UInt64}}, {{to_metric{0}:UInt64}}, {{to_rank{0}:UInt16}}))"
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is. `rows` of `rows_total` are moved or, of the step "verify", compared."""

    step: str
    table: str
    rows: int
    rows_total: int
    rows_per_s: float
    left_s: float | None


@dataclass(slots=True)
class State:
    """What is done, as it is written down. Points before `upto` are surely there; those before `begun` may be."""

    destination: str
    tables: list[str] = field(default_factory=list)
    upto: Place | None = None
    begun: Place | None = None
    points: int = 0
    repeated: list[tuple[Place, Place]] = field(default_factory=list)
    is_done: bool = False


class StateFile:
    """The state of a move, in a file that is whole at any time."""

    def __init__(self, folder: Path, destination: str) -> None:
        digest = hashlib.sha256(destination.encode()).hexdigest()[:12]
        self._path = folder / f"move-{digest}.json"
        self._destination = destination

    def read(self) -> State | None:
        """None: no move was begun. Raises EngineError for a file that cannot be read."""
        try:
            document = json.loads(self._path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise EngineError(f"cannot go on with the move: its state {self._path} cannot be read: {error}") from error
        for name in ("upto", "begun"):
            document[name] = _place(document[name])
        document["repeated"] = [(_place(first), _place(last)) for first, last in document["repeated"]]
        return State(**document)

    def write(self, state: State) -> None:
        """After it returns, the state survives a loss of power."""
        draft = self._path.with_suffix(".draft")
        with draft.open("w") as file:
            json.dump(asdict(state), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)


def _place(found: Any) -> Any:
    return None if found is None else (int(found[0]), int(found[1]), int(found[2]), float(found[3]))


class Move:
    """One move, begun or to be gone on with."""

    def __init__(
        self,
        source: Engine,
        destination: Engine,
        states: StateFile,
        name: str,
        tell: Callable[[Progress], None],
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """`name`: of the destination, without a password. `tell`: called after each block.

        Raises RejectedError where the destination has a run of the source that this move did not bring.
        """
        self._source = source
        self._destination = destination
        self._states = states
        self._tell = tell
        self._clock = clock
        self._wait = wait
        found = states.read()
        if found is None:
            _refuse_known_runs(source, destination)
        self.state = found or State(name)
        self.is_continued = found is not None

    def run(self) -> None:
        """Moves what is not there yet. Raises EngineError."""
        tables = tables_of(self._source)
        rest = sorted(set(tables) - {*FIRST, POINTS, STATISTICS, *LAST})
        for table in (*FIRST, POINTS, STATISTICS, *rest, *LAST):
            if table not in tables or table in self.state.tables:
                continue
            if table == POINTS:
                self._move_points()
            elif table == STATISTICS:
                self._move_statistics()
            else:
                self._move_rows(table, f"SELECT * FROM {table} FINAL", {}, table)  # of our own schema
            self.state.tables.append(table)
            self._states.write(self.state)
        self.state.is_done = True
        self._states.write(self.state)

    def _move_points(self) -> None:
        state = self.state
        if state.begun is not None:  # the last time it ended before its time
            state.repeated.append((state.upto or (0, 0, 0, float("-inf")), state.begun))
        total = int(self._source.query("SELECT count() AS n FROM points")["n"][0].as_py())
        watch = _Watch("move", POINTS, state.points, total, self._tell, self._clock)
        which, parameters = ("true", {}) if state.upto is None else (_FROM_PLACE, _of_place(state.upto))
        sql = _READ_POINTS.replace("{which}", which)
        waiting: deque[tuple[Future[None], pa.Table]] = deque()
        with ThreadPoolExecutor(INSERTS_AT_ONCE, "move") as threads, _streamed(self._source, sql, parameters) as rows:
            try:
                for block in _blocks(rows, BLOCK_ROWS):
                    if len(waiting) == BEGUN_MOST:
                        self._settle(waiting, watch)
                    state.begun = _last_place(block)
                    self._states.write(state)
                    waiting.append((threads.submit(self._insert_points, block), block))
                while waiting:
                    self._settle(waiting, watch)
            finally:
                for future, _ in waiting:
                    future.cancel()
        state.begun = None
        state.points = total  # rows at which it went on were counted twice

    def _settle(self, waiting: deque[tuple[Future[None], pa.Table]], watch: _Watch) -> None:
        """Waits for the oldest insert, and writes down that it is done."""
        future, block = waiting.popleft()
        future.result()
        self.state.upto = _last_place(block)
        self.state.points += block.num_rows
        watch.add(block.num_rows)

    def _insert_points(self, block: pa.Table) -> None:
        """Runs in a thread. What is tried again may be there already."""
        for left in reversed(range(_TRIES)):
            try:
                self._destination.insert(POINTS, block)
                return
            except EngineBusyError as error:
                if not left:
                    raise
                log.warning("%d points are inserted again: %s", block.num_rows, error)
            self.state.repeated.append((_first_place(block), _last_place(block)))
            self._wait(2.0 ** (_TRIES - left - 1))

    def _move_statistics(self) -> None:
        """Through the feed, which takes numbers; of series whose points may be there twice the rows say so."""
        parameters: dict[str, Any] = {"resent": series_flags.RESENT}
        conditions = []
        for number, (first, last) in enumerate(self.state.repeated):
            conditions.append(_REPEATED.format(number))
            for prefix, place in (("", first), ("to_", last)):
                names = (f"{prefix}{name}{number}" for name in ("run", "metric", "rank"))
                parameters |= dict(zip(names, place[:3], strict=True))
        sql = _READ_STATISTICS.replace("{is_repeated}", " OR ".join(conditions) or "false")
        self._move_rows(STATISTICS, sql, parameters, "series_stats_feed")

    def _move_rows(self, table: str, sql: str, parameters: Parameters, into: str) -> None:
        """Rows that may be inserted again: an interrupted table begins anew."""
        total = int(self._source.query(f"SELECT count() AS n FROM {table}")["n"][0].as_py())
        watch = _Watch("move", table, 0, total, self._tell, self._clock)
        with _streamed(self._source, sql, parameters) as rows:
            for block in _blocks(rows, _ROWS_AT_ONCE):
                self._destination.insert(into, block)
                watch.add(block.num_rows)


def tables_of(engine: Engine) -> list[str]:
    """The tables whose rows are moved."""
    sql = "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree' ORDER BY name"
    return [name for name in engine.query(sql)["name"].to_pylist() if name not in NOT_MOVED]


def _refuse_known_runs(source: Engine, destination: Engine) -> None:
    """Two histories under one name cannot be told apart again."""
    runs = source.query("SELECT DISTINCT run FROM branches ORDER BY run")["run"].to_pylist()
    for start in range(0, len(runs), _KEYS_AT_ONCE):
        among = {"runs": runs[start : start + _KEYS_AT_ONCE]}
        sql = "SELECT DISTINCT project, run_id FROM branches WHERE run IN {runs:Array(UInt64)} LIMIT 1"
        for row in destination.query(sql, among).to_pylist():
            raise RejectedError(
                "run_exists",
                f"cannot move: the destination has run {row['run_id']} of project {row['project']} already",
                "Move into another database.",
            )


class _Watch:
    """Counts rows and tells how it goes."""

    def __init__(
        self,
        step: str,
        table: str,
        before: int,
        total: int,
        tell: Callable[[Progress], None],
        clock: Callable[[], float],
    ) -> None:
        self._progress = Progress(step, table, before, total, 0.0, None)
        self._before = before
        self._tell = tell
        self._clock = clock
        self._started_s = clock()

    def add(self, rows: int) -> None:
        """So many rows more are done."""
        now = self._progress.rows + rows
        took_s = max(self._clock() - self._started_s, 1e-9)
        rate = (now - self._before) / took_s
        left_s = max(0, self._progress.rows_total - now) / rate if rate else None
        self._progress = replace(self._progress, rows=now, rows_per_s=rate, left_s=left_s)
        self._tell(self._progress)


@contextmanager
def _streamed(engine: Engine, sql: str, parameters: Parameters) -> Iterator[Iterator[pa.RecordBatch]]:
    """A stream that is closed after the block, however that ends."""
    stream = engine.stream(sql, parameters)
    try:
        yield stream
    finally:
        if isinstance(stream, Generator):
            stream.close()


def _blocks(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The same rows in blocks of about this size."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in (one.slice(start, rows) for one in batches for start in range(0, one.num_rows, rows)):
        waiting.append(batch)
        count += batch.num_rows
        if count >= rows or sum(one.nbytes for one in waiting) >= _BYTES_AT_ONCE:
            yield pa.Table.from_batches(waiting).combine_chunks()
            waiting, count = [], 0
    if count:
        yield pa.Table.from_batches(waiting).combine_chunks()


def _first_place(block: pa.Table) -> Place:
    return _place_at(block, 0)


def _last_place(block: pa.Table) -> Place:
    return _place_at(block, block.num_rows - 1)


def _place_at(block: pa.Table, row: int) -> Place:
    run, metric, rank, step = (block[name][row].as_py() for name in ("run", "metric", "rank", "step"))
    return run, metric, rank, step


def _of_place(place: Place) -> Parameters:
    return dict(zip(("run", "metric", "rank", "step"), place, strict=True))
