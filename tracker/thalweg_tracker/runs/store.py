"""Rows of the table `branches`: since when writers greeted, how branches began, and their lineages.

A run that is restarted all day has thousands of branches with long lineages: only those that are needed are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from thalweg_tracker.engine.contract import Engine, Lookup, Parameters
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.lineage.chain import Ancestor, Branch, Lineage, extend, fork_step, root
from thalweg_tracker.lineage.tree import START, Kind, Origin, Tree
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import RunKey, run_key
from thalweg_tracker.sql import load

BRANCHES: Final = pa.schema(
    [
        ("project", pa.string()),
        ("run_id", pa.string()),
        ("branch", pa.uint32()),
        ("has_origin", pa.uint8()),
        ("run", pa.uint64()),
        ("created_at", pa.timestamp("us", "UTC")),
        ("kind", pa.string()),
        ("parent_run_id", pa.string()),
        ("parent_branch", pa.int64()),
        ("fork_step", pa.float64()),
        ("attempt", pa.string()),
        ("lineage_run_id", pa.list_(pa.string())),
        ("lineage_branch", pa.list_(pa.uint32())),
        ("lineage_run", pa.list_(pa.uint64())),
        ("lineage_upto", pa.list_(pa.float64())),
        ("version", pa.uint64()),
    ]
)
OWN_STEPS: Final = Lookup("writers", "run", load("run_last_step"))
"""First and last step of the own points of branches: inf and -inf of one without."""
REPAIR: Final = 1 << 62
"""Versions below it fall with time: of greetings and registrations the first stands. Those above are of repairs."""
_NEWEST: Final = -1
"""`parent_branch` of an origin that names none."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A branch that is there. `created_us` is 0 where nothing is known of its origin."""

    branch: Branch
    key: RunKey
    kind: Kind
    lineage: Lineage
    created_us: int

    @property
    def after(self) -> float:
        """Its own points have steps above this one."""
        return fork_step(self.lineage)


class Known:
    """Some of a project's branches, as they are stored."""

    def __init__(self, engine: Engine, project: str, rows: Iterable[dict[str, Any]]) -> None:
        self.project = project
        self._engine = engine
        origins = []
        self._lineages: dict[Branch, Lineage] = {}
        for row in rows:
            origin = _origin(row)
            origins.append(origin)
            if row["lineage_run_id"]:
                self._lineages[origin.branch] = read_lineage(row)
        self.tree = Tree(origins)
        self.origins = origins

    def lineage(self, branch: Branch) -> Lineage:
        """The stored lineage of a branch; that of a root where nothing is known of its origin."""
        if branch not in self._lineages and self.tree.origin(branch) is not None:
            self._lineages.update(read_lineages(self._engine, self.project, [branch]))
        return self._lineages.get(branch, root(branch))

    def lineage_of(self, origin: Origin) -> Lineage:
        """What the lineage of a branch is by that of its parent, as stored. Raises RejectedError."""
        parent = self.tree.parent(origin)
        return root(origin.branch) if parent is None else extended(self.lineage(parent), origin)

    def is_wrong_about(self, branch: Branch) -> bool:
        """Whether the lineage of a branch, or of one that continues it, is not what it is by its parent's."""
        for origin in self.origins:
            if branch in (origin.branch, self.tree.parent(origin)):
                try:
                    if self.lineage_of(origin) != self.lineage(origin.branch):
                        return True
                except RejectedError:  # a cycle that two processes made at once: what is stored can be read
                    continue
        return False

    def registered(self, branch: Branch) -> Registered:
        """A branch with its lineage; from nothing if nothing else is known."""
        origin = self.tree.origin(branch)
        key = run_key(self.project, branch.run_id, branch.number)
        kind, created_us = (origin.kind, origin.created_us) if origin else (START, 0)
        return Registered(branch, key, kind, self.lineage(branch), created_us)

    def continued(self, run_id: str, began_us: int, told: int | None) -> Registered:
        """The branch that a writer without an origin belongs to: the one that the server told it, if that is there,
        else the newest that had begun before it.
        """
        if told is not None and (told == 0 or self.tree.origin(Branch(run_id, told)) is not None):
            return self.registered(Branch(run_id, told))
        return self.registered(self.tree.newest(run_id, began_us))


def load_known(engine: Engine, project: str, run_ids: Sequence[str] | None, *, numbers: Sequence[int] = ()) -> Known:
    """What is registered of some runs (None: of all). Long lineages come with branches of these numbers only."""
    where: Parameters = {
        "project": project,
        "all": run_ids is None,
        "run_ids": run_ids or [],
        "numbers": numbers,
    }
    return Known(engine, project, engine.query(load("branches"), where).to_pylist())


def load_named(engine: Engine, project: str, branches: Sequence[Branch]) -> Known:
    """What is registered of these branches, and perhaps of some others, with their lineages."""
    return Known(engine, project, _named_rows(engine, project, branches))


def read_lineages(engine: Engine, project: str, branches: Sequence[Branch]) -> dict[Branch, Lineage]:
    """The stored lineages of these branches, and perhaps of some others."""
    rows = _named_rows(engine, project, branches)
    return {Branch(row["run_id"], row["branch"]): read_lineage(row) for row in rows}


def _named_rows(engine: Engine, project: str, branches: Sequence[Branch]) -> list[dict[str, Any]]:
    """Rows that stand: of several, that of the greatest version."""
    if not branches:
        return []
    run_ids, numbers = {branch.run_id for branch in branches}, {branch.number for branch in branches}
    where: Parameters = {"project": project, "run_ids": list(run_ids), "numbers": list(numbers)}
    rows = engine.query(load("branch_lineages"), where).to_pylist()
    rows.sort(key=lambda row: row["version"])
    return list({(row["run_id"], row["branch"]): row for row in rows}.values())


def children_since(engine: Engine, project: str, run_id: str, since_us: int) -> list[str]:
    """Runs of which a branch continues a run, and began since a time."""
    where: Parameters = {"project": project, "run_id": run_id, "since": since_us}
    found: list[str] = engine.query(load("children_since"), where)["run_id"].to_pylist()
    return found


def write_branches(engine: Engine, project: str, some: Sequence[tuple[Origin, Lineage]], version: int) -> None:
    """Stores branches with their lineages."""
    rows = [as_row(project, origin, lineage, version) for origin, lineage in some]
    engine.insert("branches", pa.Table.from_pylist(rows, schema=BRANCHES))


def extended(above: Lineage, origin: Origin) -> Lineage:
    """The lineage of a branch below its parent's. Raises RejectedError for a cycle, or one that is too long."""
    if any(one.branch == origin.branch for one in above):
        child, parent = origin.branch.run_id, above[-1].branch.run_id
        raise RejectedError("cycle", f"cannot fork run {child} from {parent}, which is itself forked from it")
    lineage = extend(above, origin.step, origin.branch)
    if len(lineage) > limits.LINEAGE_MAX:
        raise RejectedError("too_deep", f"cannot fork: the lineage has {len(above)} branches, the limit")
    return lineage


def _origin(row: dict[str, Any]) -> Origin:
    return Origin(
        branch=Branch(row["run_id"], row["branch"]),
        kind=row["kind"],
        parent_run_id=row["parent_run_id"],
        parent_branch=None if row["parent_branch"] == _NEWEST else row["parent_branch"],
        step=row["fork_step"],
        attempt=row["attempt"],
        created_us=row["created_us"],
    )


def read_lineage(row: Mapping[str, Any]) -> Lineage:
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
        "has_origin": 1,
        "run": run_key(project, branch.run_id, branch.number),
        "created_at": origin.created_us,
        "kind": origin.kind,
        "parent_run_id": origin.parent_run_id,
        "parent_branch": _NEWEST if origin.parent_branch is None else origin.parent_branch,
        "fork_step": origin.step,
        "attempt": origin.attempt,
        "lineage_run_id": [one.branch.run_id for one in lineage],
        "lineage_branch": [one.branch.number for one in lineage],
        "lineage_run": [run_key(project, one.branch.run_id, one.branch.number) for one in lineage],
        "lineage_upto": [one.upto for one in lineage],
        "version": version,
    }


def greeted_row(project: str, branch: Branch, key: RunKey, since_us: int) -> dict[str, Any]:
    """A row of BRANCHES: writers of a branch are there since a time."""
    return {
        "project": project,
        "run_id": branch.run_id,
        "branch": branch.number,
        "has_origin": 0,
        "run": key,
        "created_at": since_us,
        "kind": "",
        "parent_run_id": "",
        "parent_branch": _NEWEST,
        "fork_step": 0.0,
        "attempt": "",
        "lineage_run_id": [],
        "lineage_branch": [],
        "lineage_run": [],
        "lineage_upto": [],
        "version": max(REPAIR - since_us, 0),
    }
