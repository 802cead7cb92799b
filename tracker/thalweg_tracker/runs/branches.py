"""Makes branches of runs: forks, rewinds, starts. Owns the table `branches`.

Guarantees: a claim made again gives the same branch; all claims of one attempt give one branch, whatever their order
and whichever server process takes them; the stored lineages are those of the tree as it is known, also where a
parent comes after its child. For that, every registration is written first and checked afterwards against what
others have written meanwhile: of two processes at least one sees the other's row, and mends. Within a process they are
made one by one, so that who has read that it won has won. Of two processes that register different things under one
name in the same milliseconds both may read that; their writers' greetings then tell which one it was. Threads: any.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from thalweg_tracker.engine.contract import Engine, Parameters
from thalweg_tracker.errors import EngineBusyError, RejectedError
from thalweg_tracker.lineage.chain import Ancestor, Branch, Lineage, extend, fork_step, root
from thalweg_tracker.lineage.tree import START, CycleError, Kind, Origin, TooDeepError, Tree
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import RunKey, WriterKey, run_key
from thalweg_tracker.sql import load

BRANCHES: Final = pa.schema(
    [
        ("project", pa.string()),
        ("run_id", pa.string()),
        ("branch", pa.uint32()),
        ("run", pa.uint64()),
        ("kind", pa.string()),
        ("parent_run_id", pa.string()),
        ("parent_branch", pa.int64()),
        ("fork_step", pa.float64()),
        ("attempt", pa.string()),
        ("created_at", pa.timestamp("us", "UTC")),
        ("lineage_run_id", pa.list_(pa.string())),
        ("lineage_branch", pa.list_(pa.uint32())),
        ("lineage_upto", pa.list_(pa.float64())),
        ("version", pa.uint64()),
    ]
)
_NEWEST: Final = -1
"""`parent_branch` of an origin that names none."""
_REPAIR: Final = 1 << 62
"""Versions below it are of registrations, and fall with time: the first stands. Those above are of repairs."""
_TRIES: Final = 20
_one_by_one = threading.Lock()
"""Held from the choice of a version to the reading of which row stands, over all engines of the process."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A branch that is there."""

    branch: Branch
    key: RunKey
    kind: Kind
    lineage: Lineage

    @property
    def after(self) -> float:
        """Its own points have steps above this one."""
        return fork_step(self.lineage)


class Branches:
    """The branches of an engine's runs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def continued(self, project: str, run_id: str, writer: WriterKey, began_us: int) -> Registered:
        """The branch that a writer without an origin belongs to: where it was before, else the newest when it began."""
        known = self._load(project, [run_id])
        branch = known.tree.newest(run_id, began_us)
        numbers = {run_key(project, run_id, number): number for number in (0, *known.tree.numbers(run_id))}
        if len(numbers) > 1:
            where: Parameters = {"project": project, "runs": list(numbers), "writer": writer}
            for row in self._engine.query(load("runs_of_writer"), where).to_pylist():
                branch = Branch(run_id, numbers[row["run"]])
        return known.registered(branch)

    def start(self, project: str, run_id: str, attempt: str, began_us: int) -> Registered:
        """The branch of an attempt, or branch 0 if the run begins with it. Raises EngineError."""
        known = self._load(project, [run_id])
        named = known.tree.of_attempt(run_id, attempt)
        if named is not None:
            return known.registered(named.branch)
        if known.tree.numbers(run_id):
            return known.registered(known.tree.newest(run_id, began_us))
        origin = Origin(Branch(run_id), START, "", None, -math.inf, attempt, began_us)
        return self._register(project, origin, known.lineage_of(origin))[0]

    def fork(
        self,
        project: str,
        run_id: str,
        parent_run_id: str,
        parent_branch: int | None,
        step: float,
        began_us: int,
        above: Lineage | None = None,
    ) -> Registered:
        """A new run that continues another after a step. Raises RejectedError if it is there otherwise; EngineError.

        `above`: the parent's lineage, where the caller has just read it, and has seen that the new run is not there.
        """
        if parent_run_id == run_id:
            raise RejectedError("own_fork", f"cannot fork run {run_id} from itself", "Rewind it, or choose another id.")
        origin = Origin(Branch(run_id), "fork", parent_run_id, parent_branch, step, "", began_us)
        if above is not None:
            registered, present = self._register(project, origin, _extended(above, origin))
        else:
            known = self._load(project, [run_id, parent_run_id])
            found = known.tree.origin(origin.branch)
            if found is None and self._has_begun(project, run_id):
                found = Origin(Branch(run_id), START, "", None, -math.inf, "", 0)
            if found is not None:
                registered, present = known.registered(origin.branch), found
            else:
                registered, present = self._register(project, origin, known.lineage_of(origin))
        _check_same_fork(origin, present)
        return registered

    def rewind(
        self, project: str, run_id: str, step: float, attempt: str, began_us: int, rank: int | None = None
    ) -> Registered:
        """The branch of an attempt, made if need be: it continues the newest one after a step. Raises EngineError.

        `rank`: see `of_attempt`.
        """
        known = self._load(project, [run_id])  # once: between two readings another process of the attempt may begin it
        joined = self._joined(known, run_id, attempt, rank)
        if joined is not None:
            return joined
        number = max(known.tree.numbers(run_id), default=0) + 1
        for more in range(_TRIES):
            origin = Origin(Branch(run_id, number + more), "rewind", run_id, None, step, attempt, began_us)
            registered, present = self._register(project, origin, known.lineage_of(origin))
            if present.attempt == attempt:  # else another attempt has taken the number
                return registered
        raise EngineBusyError(f"cannot rewind run {run_id}: others rewind it all the time")

    def of_attempt(self, project: str, run_id: str, attempt: str, rank: int | None = None) -> Registered | None:
        """The newest branch of an attempt. With `rank`: unless a process of this rank has written there already, so
        that the label names an earlier start of the training.
        """
        return self._joined(self._load(project, [run_id]), run_id, attempt, rank)

    def _joined(self, known: _Known, run_id: str, attempt: str, rank: int | None) -> Registered | None:
        named = known.tree.of_attempt(run_id, attempt)
        if named is None or (rank is not None and self._has_written(known.project, named.branch, rank)):
            return None
        return known.registered(named.branch)

    def of_number(self, project: str, run_id: str, number: int, attempt: str) -> Registered | None:
        """A branch that was registered before for an attempt."""
        known = self._load(project, [run_id])
        origin = known.tree.origin(Branch(run_id, number))
        return known.registered(origin.branch) if origin is not None and origin.attempt == attempt else None

    def _has_begun(self, project: str, run_id: str) -> bool:
        """Whether somebody writes to branch 0, of whose origin nothing was said."""
        rows = self._engine.query(load("run_branches"), {"project": project, "run_ids": [run_id]}).to_pylist()
        return any(row["branch"] == 0 for row in rows)

    def _has_written(self, project: str, branch: Branch, rank: int) -> bool:
        key = run_key(project, branch.run_id, branch.number)
        where: Parameters = {"project": project, "run": key, "rank": rank}
        return bool(self._engine.query(load("rank_has_written"), where)["writers"][0].as_py())

    def _register(self, project: str, origin: Origin, lineage: Lineage) -> tuple[Registered, Origin]:
        """Writes a branch, then mends whatever it, or what came meanwhile, made wrong. Returns the row that stands."""
        branch = origin.branch
        near = list({branch.run_id, origin.parent_run_id or branch.run_id})
        children_since_us = origin.created_us if origin.kind == "rewind" else 0
        with _one_by_one:
            self._write(project, [(origin, lineage)], _REPAIR - _now_us())
            known = self._load(project, near, children_of=branch.run_id, children_since_us=children_since_us)
        if known.is_wrong_about(branch.run_id, near):
            self._repair(project)
            known = self._load(project, near)
        present = known.tree.origin(branch)
        assert present is not None, branch
        return known.registered(branch), present

    def _repair(self, project: str) -> None:
        """Computes all lineages of a project anew, and writes those that differ."""
        version = _REPAIR + _now_us()  # of the time of reading: who has read more wins
        known = self._load(project, None)
        wrong = []
        for row in known.rows:
            try:
                lineage = known.tree.lineage(row.origin.branch)
            except (CycleError, TooDeepError):  # of rows that two processes wrote at once: what is stored can be read
                continue
            if lineage != row.lineage:
                wrong.append((row.origin, lineage))
        if wrong:
            self._write(project, wrong, version)

    def _load(
        self, project: str, run_ids: Sequence[str] | None, *, children_of: str = "", children_since_us: int = 0
    ) -> _Known:
        """What is registered of some runs (None: of all), and what continues one of them since a time."""
        where: Parameters = {
            "project": project,
            "all": run_ids is None,
            "run_ids": run_ids or [],
            "children_of": children_of,
            "children_since": children_since_us,
        }
        return _Known(project, list(_rows(self._engine.query(load("branches"), where).to_pylist())))

    def _write(self, project: str, some: list[tuple[Origin, Lineage]], version: int) -> None:
        rows = [as_row(project, origin, lineage, version) for origin, lineage in some]
        self._engine.insert("branches", pa.Table.from_pylist(rows, schema=BRANCHES))


def _now_us() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class _Row:
    origin: Origin
    lineage: Lineage


class _Known:
    """Some of a project's branches, as they are stored."""

    def __init__(self, project: str, rows: list[_Row]) -> None:
        self.project = project
        self.rows = rows
        self.tree = Tree(row.origin for row in rows)
        self.lineages = {row.origin.branch: row.lineage for row in rows}

    def lineage_of(self, origin: Origin) -> Lineage:
        """What the lineage of a branch is by that of its parent, as stored. Raises RejectedError."""
        parent = self.tree.parent(origin)
        if parent is None:
            return root(origin.branch)
        return _extended(self.lineages.get(parent, root(parent)), origin)

    def is_wrong_about(self, run_id: str, whole: Sequence[str]) -> bool:
        """Whether a lineage of this run, or of what continues it, is wrong by the runs that are here whole."""
        for row in self.rows:
            if run_id in (row.origin.branch.run_id, row.origin.parent_run_id) and row.origin.parent_run_id in whole:
                try:
                    if self.lineage_of(row.origin) != row.lineage:
                        return True
                except RejectedError:  # a cycle that two processes made at once: what is stored can be read
                    continue
        return False

    def registered(self, branch: Branch) -> Registered:
        """A branch with its lineage; from nothing if nothing else is known."""
        origin = self.tree.origin(branch)
        key = run_key(self.project, branch.run_id, branch.number)
        return Registered(branch, key, origin.kind if origin else START, self.lineages.get(branch, root(branch)))


def _extended(above: Lineage, origin: Origin) -> Lineage:
    """The lineage of a branch below its parent's. Raises RejectedError for a cycle, or one that is too long."""
    if any(one.branch == origin.branch for one in above):
        child, parent = origin.branch.run_id, above[-1].branch.run_id
        raise RejectedError("cycle", f"cannot fork run {child} from {parent}, which is itself forked from it")
    if len(above) >= limits.LINEAGE_MAX:
        raise RejectedError("too_deep", f"cannot fork: the lineage has {len(above)} branches, the limit")
    return extend(above, origin.step, origin.branch)


def _rows(found: Iterable[dict[str, Any]]) -> Iterator[_Row]:
    for row in found:
        origin = Origin(
            branch=Branch(row["run_id"], row["branch"]),
            kind=row["kind"],
            parent_run_id=row["parent_run_id"],
            parent_branch=None if row["parent_branch"] == _NEWEST else row["parent_branch"],
            step=row["fork_step"],
            attempt=row["attempt"],
            created_us=row["created_us"],
        )
        yield _Row(origin, read_lineage(row))


def read_lineage(row: dict[str, Any]) -> Lineage:
    """A stored lineage, from the three arrays of a row."""
    columns = zip(row["lineage_run_id"], row["lineage_branch"], row["lineage_upto"], strict=True)
    return tuple(Ancestor(Branch(run_id, number), upto) for run_id, number, upto in columns)


def as_row(project: str, origin: Origin, lineage: Lineage, version: int) -> dict[str, Any]:
    """A row of BRANCHES."""
    branch = origin.branch
    return {
        "project": project,
        "run_id": branch.run_id,
        "branch": branch.number,
        "run": run_key(project, branch.run_id, branch.number),
        "kind": origin.kind,
        "parent_run_id": origin.parent_run_id,
        "parent_branch": _NEWEST if origin.parent_branch is None else origin.parent_branch,
        "fork_step": origin.step,
        "attempt": origin.attempt,
        "created_at": origin.created_us,
        "lineage_run_id": [one.branch.run_id for one in lineage],
        "lineage_branch": [one.branch.number for one in lineage],
        "lineage_upto": [one.upto for one in lineage],
        "version": version,
    }


def _check_same_fork(claimed: Origin, present: Origin) -> None:
    """Raises RejectedError unless both say the same; a claim without a branch takes whichever was found."""
    same = (claimed.kind, claimed.parent_run_id, claimed.step) == (present.kind, present.parent_run_id, present.step)
    if not same or claimed.parent_branch not in (None, present.parent_branch):
        was = f"a fork of {present.parent_run_id} at step {present.step:g}" if present.kind == "fork" else "no fork"
        raise RejectedError(
            "run_exists",
            f"cannot fork run {claimed.branch.run_id} from {claimed.parent_run_id} at step {claimed.step:g}:"
            f" it is there already, and is {was}",
            "Choose another run id.",
        )
