"""Registers metric names and runs behind their 64-bit keys, and refuses the second name of a key. Places writers.

Remembers what it has registered, so that known names cost a set look-up. Threads: any.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.engine.contract import Engine, Parameters
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.ingest.decode import Greeting, Writer
from thalweg_tracker.lineage.chain import Branch
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import RunKey, WriterKey, run_key
from thalweg_tracker.runs.branches import Branches
from thalweg_tracker.runs.deletions import deleted_error, deletions_of
from thalweg_tracker.runs.store import BRANCHES, Known, Registered, greeted_row, load_known
from thalweg_tracker.sql import load

_NAMES: Final = pa.schema([("project", pa.string()), ("metric", pa.uint64()), ("name", pa.string())])
RUN_METRICS: Final = pa.schema([("run", pa.uint64()), ("name", pa.string()), ("metric", pa.uint64())])
_LOOKUP_SIZE: Final = 20_000


@dataclass(frozen=True, slots=True)
class Naming:
    """Names, with their keys, of a run's metrics. `most`: how many the run may have, 0: any."""

    project: str
    run: RunKey
    names: list[tuple[int, str]]
    most: float = 0


@dataclass(frozen=True, slots=True)
class Named:
    """What became of names: the keys of those that were refused."""

    taken: Mapping[int, str]
    """Keys that another name has, which it is."""
    too_many: Collection[int]
    """Keys of names for which the run has no room."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A writer where it belongs. `committed`: the highest sequence number that ever was for it, 0 of a new one."""

    writer: Writer
    committed: int


class Registry:
    """What is registered, as far as this process knows."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._branches = Branches(engine)
        self._lock = threading.Lock()
        self._names: dict[tuple[str, int], str] = {}
        self._of_runs: set[tuple[RunKey, int]] = set()
        self._runs: set[tuple[str, int]] = set()

    def forget(self) -> None:
        """What was registered may have been removed, with its run: from here on it is registered again."""
        with self._lock:
            self._names, self._of_runs, self._runs = {}, set(), set()

    def unknown_names(self, project: str, run: RunKey, names: list[tuple[int, str]]) -> list[tuple[int, str]]:
        """Those of a run's (key, name) that must go through `register_names` first."""
        known, of_runs = self._names, self._of_runs
        return [pair for pair in names if known.get((project, pair[0])) != pair[1] or (run, pair[0]) not in of_runs]

    def register_names(self, project: str, run: RunKey, names: list[tuple[int, str]]) -> Named:
        """One of `register_all`."""
        return self.register_all([Naming(project, run, names)])[0]

    def register_all(self, namings: Sequence[Naming]) -> list[Named]:
        """Makes names of runs' metrics permanent, together. Raises EngineError."""
        with self._lock:
            named = self._named(namings)
            fresh: dict[tuple[str, int], str] = {}
            own: dict[tuple[RunKey, int], str] = {}
            every: list[Named] = []
            metrics = self._metrics_of([one.run for one in namings if one.most])
            for one in namings:
                refused: dict[int, str] = {}
                too_many: set[int] = set()
                has_now = metrics.get(one.run, set())
                for key, name in one.names:
                    if one.most and key not in has_now and len(has_now) >= one.most:
                        too_many.add(key)
                        continue
                    has_now.add(key)
                    if (one.project, key) not in named:
                        fresh[one.project, key] = named[one.project, key] = name
                    has = named[one.project, key]
                    if has != name:
                        refused[key] = has
                    elif (one.run, key) not in self._of_runs:
                        own[one.run, key] = name
                every.append(Named(refused, too_many))
            if fresh:
                rows = [{"project": project, "metric": key, "name": name} for (project, key), name in fresh.items()]
                self._engine.insert("metric_names", pa.Table.from_pylist(rows, schema=_NAMES))
            if own:
                rows = [{"run": run, "name": name, "metric": key} for (run, key), name in own.items()]
                self._engine.insert("run_metrics", pa.Table.from_pylist(rows, schema=RUN_METRICS))
            if len(self._names) + len(named) > limits.KNOWN_NAMES_MAX:
                self._names.clear()
            if len(self._of_runs) + len(own) > limits.KNOWN_RUN_METRICS_MAX:
                self._of_runs.clear()
            self._names.update(named)
            self._of_runs.update(own)
            return every

    def _metrics_of(self, runs: Sequence[RunKey]) -> dict[RunKey, set[int]]:
        """Keys of the metrics that some runs have."""
        found: dict[RunKey, set[int]] = {run: set() for run in runs}
        rows = self._engine.query(load("metrics_of_runs"), {"runs": list(found)}).to_pylist() if found else []
        for row in rows:
            found[row["run"]].update(row["metrics"])
        return found

    def _named(self, namings: Sequence[Naming]) -> dict[tuple[str, int], str]:
        """The names that keys of these have already."""
        named: dict[tuple[str, int], str] = {}
        for project in {one.project for one in namings}:
            keys = {key for one in namings if one.project == project for key, _ in one.names}
            named |= {(project, key): self._names[project, key] for key in keys if (project, key) in self._names}
            stored = self._stored_names(project, [key for key in keys if (project, key) not in named])
            named |= {(project, key): name for key, name in stored.items()}
        return named

    def _stored_names(self, project: str, keys: list[int]) -> dict[int, str]:
        stored: dict[int, str] = {}
        for start in range(0, len(keys), _LOOKUP_SIZE):
            found = self._engine.query(
                load("known_names"), {"project": project, "keys": keys[start : start + _LOOKUP_SIZE]}
            )
            stored.update(zip(found["metric"].to_pylist(), found["name"].to_pylist(), strict=True))
        return stored

    def place(self, greeting: Greeting, now_us: int) -> Writer:
        """One of `place_all`. Raises RejectedError, EngineError."""
        (placed,) = self.place_all([greeting], now_us)
        if isinstance(placed, RejectedError):
            raise placed
        return placed.writer

    def place_all(self, greetings: Sequence[Greeting], now_us: int) -> list[Placed | RejectedError]:
        """The branches that writers belong to, made known if need be, together. Raises EngineError."""
        placed: dict[int, Placed | RejectedError] = {}
        for project in {one.project for one in greetings}:
            some = [(place, one) for place, one in enumerate(greetings) if one.project == project]
            placed |= self._place_in(project, some, now_us)
        began = {place: _began_us(greetings[place], now_us) for place in placed}
        self._register_runs(placed, began)
        return [placed[place] for place in range(len(greetings))]

    def _place_in(
        self, project: str, greetings: Sequence[tuple[int, Greeting]], now_us: int
    ) -> dict[int, Placed | RejectedError]:
        run_ids = list({one.run_id for _, one in greetings})
        deleted = deletions_of(self._engine, project, run_ids)
        known = load_known(self._engine, project, run_ids)
        written = self._written(known, [one for _, one in greetings])
        claimed: dict[tuple[str, bytes], Registered | RejectedError] = {}
        placed: dict[int, Placed | RejectedError] = {}
        for place, one in greetings:
            before, committed = written.get((one.run_id, one.writer), (None, 0))
            found: Registered | RejectedError
            if one.run_id in deleted:
                found = deleted_error(deleted[one.run_id])
            elif before is not None:  # where it wrote before, whatever came since
                found = known.registered(before)
            elif one.origin is None:
                found = known.continued(one.run_id, _began_us(one, now_us), one.branch)
            else:  # what it says of its origin, in any order; all that say the same belong to one branch
                claim = one.run_id, one.origin.SerializeToString(deterministic=True)
                if claim not in claimed:
                    claimed[claim] = self._claimed(one, one.origin, _began_us(one, now_us))
                found = claimed[claim]
            placed[place] = found if isinstance(found, RejectedError) else Placed(_writer(one, found), committed)
        return placed

    def _written(self, known: Known, greetings: Sequence[Greeting]) -> dict[tuple[str, WriterKey], tuple[Branch, int]]:
        """Branches that writers have written to, and the highest sequence that was committed, by run and writer."""
        branches = {
            run_key(known.project, run_id, number): Branch(run_id, number)
            for run_id in {one.run_id for one in greetings}
            for number in (0, *known.tree.numbers(run_id))
        }
        writers = list({one.writer for one in greetings})
        where: Parameters = {"project": known.project, "runs": list(branches), "writers": writers}
        rows = self._engine.query(load("runs_of_writers"), where).to_pylist()
        found = ((branches[row["run"]], row["writer"], row["sequence"]) for row in rows)
        return {(branch.run_id, writer): (branch, sequence) for branch, writer, sequence in found}

    def _claimed(self, greeting: Greeting, origin: pb.Origin, began_us: int) -> Registered | RejectedError:
        """The branch that begins as a writer says."""
        branches, project, run_id, attempt = self._branches, greeting.project, greeting.run_id, origin.attempt
        try:
            if origin.kind == pb.Origin.START:
                return branches.start(project, run_id, attempt, began_us)
            if origin.kind == pb.Origin.FORK:
                parent_branch = origin.parent_branch if origin.HasField("parent_branch") else None
                return branches.fork(project, run_id, origin.parent_run_id, parent_branch, origin.step, began_us)
            told = branches.of_number(project, run_id, origin.branch, attempt) if origin.HasField("branch") else None
            return told or branches.rewind(project, run_id, origin.step, attempt, began_us)
        except RejectedError as error:
            return error

    def _register_runs(self, placed: dict[int, Placed | RejectedError], began_us: Mapping[int, int]) -> None:
        """Makes the branches of writers known; of one whose key another run has, its place becomes an error."""
        fresh = {
            place: one.writer
            for place, one in placed.items()
            if isinstance(one, Placed) and (one.writer.project, one.writer.run) not in self._runs
        }
        if not fresh:
            return
        where: Parameters = {"runs": list({writer.run for writer in fresh.values()})}
        taken: dict[int, set[tuple[str, str, int]]] = {}
        for row in self._engine.query(load("runs_of_keys"), where).to_pylist():
            taken.setdefault(row["run"], set()).add((row["project"], row["run_id"], row["branch"]))
        rows: dict[RunKey, dict[str, Any]] = {}
        for place, writer in fresh.items():
            names = taken.setdefault(writer.run, {(writer.project, writer.run_id, writer.branch)})
            if names != {(writer.project, writer.run_id, writer.branch)}:
                placed[place] = RejectedError(
                    "run_collision",
                    f"cannot take run {writer.run_id}: its key is that of another run. Choose another run_id.",
                )
                continue
            since_us = min(began_us[place], rows[writer.run]["created_at"]) if writer.run in rows else began_us[place]
            branch = Branch(writer.run_id, writer.branch)
            rows[writer.run] = greeted_row(writer.project, branch, writer.run, since_us)
        if rows:
            self._engine.insert("branches", pa.Table.from_pylist(list(rows.values()), schema=BRANCHES))
        with self._lock:
            if len(self._runs) + len(rows) > limits.KNOWN_NAMES_MAX:
                self._runs.clear()
            self._runs.update((row["project"], run) for run, row in rows.items())


def _began_us(greeting: Greeting, now_us: int) -> int:
    """When the training began: what has not begun yet would stay the newest for long."""
    return min(greeting.began_us or now_us, now_us)


def _writer(greeting: Greeting, found: Registered) -> Writer:
    return Writer(
        project=greeting.project,
        run_id=greeting.run_id,
        branch=found.branch.number,
        run=found.key,
        rank=greeting.rank,
        writer_id=greeting.writer_id,
        writer=greeting.writer,
        after=found.after,
    )
