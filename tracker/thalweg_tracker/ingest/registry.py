"""Registers metric names and runs behind their 64-bit keys, and refuses the second name of a key. Places writers.

Remembers what it has registered, so that known names cost a set look-up. Threads: any.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.ingest.decode import Greeting, Writer
from thalweg_tracker.lineage.chain import Branch
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import RunKey
from thalweg_tracker.runs.branches import Branches
from thalweg_tracker.runs.store import BRANCHES, Registered, greeted_row
from thalweg_tracker.sql import load

_NAMES: Final = pa.schema([("project", pa.string()), ("metric", pa.uint64()), ("name", pa.string())])
RUN_METRICS: Final = pa.schema([("run", pa.uint64()), ("name", pa.string()), ("metric", pa.uint64())])
_LOOKUP_SIZE: Final = 20_000


class Registry:
    """What is registered, as far as this process knows."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._branches = Branches(engine)
        self._lock = threading.Lock()
        self._names: dict[tuple[str, int], str] = {}
        self._of_runs: set[tuple[RunKey, int]] = set()
        self._runs: set[tuple[str, int]] = set()

    def unknown_names(self, project: str, run: RunKey, names: list[tuple[int, str]]) -> list[tuple[int, str]]:
        """Those of a run's (key, name) that must go through `register_names` first."""
        known, of_runs = self._names, self._of_runs
        return [pair for pair in names if known.get((project, pair[0])) != pair[1] or (run, pair[0]) not in of_runs]

    def register_names(self, project: str, run: RunKey, names: list[tuple[int, str]]) -> Mapping[int, str]:
        """Makes names of a run's metrics permanent. Returns the refused: key -> the name that has it.

        Raises EngineError.
        """
        with self._lock:
            wanted: dict[int, str] = {}
            refused: dict[int, str] = {}
            for key, name in names:
                if wanted.setdefault(key, name) != name:
                    refused[key] = wanted[key]
            present = {key: self._names[project, key] for key in wanted if (project, key) in self._names}
            present |= self._stored_names(project, [key for key in wanted if key not in present])
            fresh = {key: name for key, name in wanted.items() if key not in present}
            if fresh:
                rows = {"project": [project] * len(fresh), "metric": list(fresh), "name": list(fresh.values())}
                self._engine.insert("metric_names", pa.table(rows, schema=_NAMES))
            if len(self._names) + len(wanted) > limits.KNOWN_NAMES_MAX:
                self._names.clear()
            for key, name in {**wanted, **present}.items():
                self._names[project, key] = name
            refused.update((key, present[key]) for key, name in wanted.items() if present.get(key, name) != name)
            self._register_of_run(run, {key: name for key, name in wanted.items() if present.get(key, name) == name})
            return refused

    def _register_of_run(self, run: RunKey, names: Mapping[int, str]) -> None:
        own = {key: name for key, name in names.items() if (run, key) not in self._of_runs}
        if not own:
            return
        rows = {"run": [run] * len(own), "name": list(own.values()), "metric": list(own)}
        self._engine.insert("run_metrics", pa.table(rows, schema=RUN_METRICS))
        if len(self._of_runs) + len(own) > limits.KNOWN_RUN_METRICS_MAX:
            self._of_runs.clear()
        self._of_runs.update((run, key) for key in own)

    def _stored_names(self, project: str, keys: list[int]) -> dict[int, str]:
        stored: dict[int, str] = {}
        for start in range(0, len(keys), _LOOKUP_SIZE):
            found = self._engine.query(
                load("known_names"), {"project": project, "keys": keys[start : start + _LOOKUP_SIZE]}
            )
            stored.update(zip(found["metric"].to_pylist(), found["name"].to_pylist(), strict=True))
        return stored

    def committed_sequence(self, writer: Writer) -> int:
        """Highest sequence number that was ever committed for a writer; 0 if it is new. Raises EngineError."""
        where: dict[str, str | int] = {"project": writer.project, "run": writer.run, "writer": writer.writer}
        found = self._engine.query(load("committed_sequence"), where)
        return int(found["sequence"][0].as_py())

    def place(self, greeting: Greeting, now_us: int) -> Writer:
        """The branch of the run that a writer belongs to, made known if need be. Raises RejectedError, EngineError."""
        began_us = min(greeting.began_us or now_us, now_us)  # what has not begun yet would stay the newest for long
        found = self._branch_of(greeting, began_us)
        writer = Writer(
            project=greeting.project,
            run_id=greeting.run_id,
            branch=found.branch.number,
            run=found.key,
            rank=greeting.rank,
            writer_id=greeting.writer_id,
            writer=greeting.writer,
            after=found.after,
        )
        self._register_run(writer, began_us)
        return writer

    def _branch_of(self, greeting: Greeting, began_us: int) -> Registered:
        """Where a writer wrote before, whatever came since. A new one: what it says of its origin, in any order."""
        branches, project, run_id, origin = self._branches, greeting.project, greeting.run_id, greeting.origin
        before = branches.of_writer(project, run_id, greeting.writer)
        if before is not None:
            return before
        if origin is None:
            return branches.continued(project, run_id, began_us, greeting.branch)
        if origin.kind == pb.Origin.START:
            return branches.start(project, run_id, origin.attempt, began_us)
        if origin.kind == pb.Origin.FORK:
            parent_branch = origin.parent_branch if origin.HasField("parent_branch") else None
            return branches.fork(project, run_id, origin.parent_run_id, parent_branch, origin.step, began_us)
        attempt = origin.attempt
        known = branches.of_number(project, run_id, origin.branch, attempt) if origin.HasField("branch") else None
        return known or branches.rewind(project, run_id, origin.step, attempt, began_us)

    def _register_run(self, writer: Writer, time_us: int) -> None:
        """Makes the run of a writer known. Raises RejectedError if another run has its key; EngineError."""
        if (writer.project, writer.run) in self._runs:
            return
        for row in self._engine.query(load("runs_of_key"), {"run": writer.run}).to_pylist():
            if (row["project"], row["run_id"], row["branch"]) != (writer.project, writer.run_id, writer.branch):
                raise RejectedError(
                    "run_collision",
                    f"cannot take run {writer.run_id}: its key is that of another run. Choose another run_id.",
                )
        branch = Branch(writer.run_id, writer.branch)
        row = greeted_row(writer.project, branch, writer.run, time_us)
        self._engine.insert("branches", pa.Table.from_pylist([row], schema=BRANCHES))
        with self._lock:
            if len(self._runs) >= limits.KNOWN_NAMES_MAX:
                self._runs.clear()
            self._runs.add((writer.project, writer.run))
