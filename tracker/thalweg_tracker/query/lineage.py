"""Runs as readers name them, to the branches and segments in which their points lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, Final

from thalweg_tracker.engine.answers import rows_of
from thalweg_tracker.engine.contract import Engine, Lookup
from thalweg_tracker.errors import NotFoundError
from thalweg_tracker.lineage.chain import Branch, Lineage, Segment, root, segments
from thalweg_tracker.lineage.tree import START, Kind
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import RunKey, run_key
from thalweg_tracker.runs.deletions import Deletion, deletions_of
from thalweg_tracker.runs.store import read_lineage, read_lineages
from thalweg_tracker.sql import load

_ORIGINS: Final = Lookup("branches", "run_id", load("origins"))
_SHORT: Final = 128
"""Lineages up to this length come with the origins; of others the end does."""


@dataclass(frozen=True, slots=True)
class RunRef:
    """A run, or one branch of it. None: the newest branch."""

    run_id: str
    branch: int | None = None


@dataclass(frozen=True, slots=True)
class BranchOrigin:
    """How one branch of a run began."""

    branch: int
    kind: Kind
    parent: Branch | None
    fork_step: float | None
    created_at: datetime
    known_since: datetime
    """The earliest time that a writer or its origin told."""


@dataclass(frozen=True, slots=True)
class RunView:
    """One branch of a run as it is read: where its points lie."""

    project: str
    run_id: str
    branch: int
    key: RunKey
    lineage: Lineage
    segments: tuple[Segment, ...]  # by ascending steps; its own last
    branches: tuple[BranchOrigin, ...]  # of the run, by number

    @property
    def keys(self) -> list[RunKey]:
        """Keys of all on the way from the root, itself last: also of those that have no visible points."""
        return [run_key(self.project, one.branch.run_id, one.branch.number) for one in self.lineage]

    @property
    def is_plain(self) -> bool:
        """Whether all its points are its own."""
        return len(self.segments) == 1

    @property
    def fork_step(self) -> float | None:
        """The step after which it goes its own way; None for one that began from nothing."""
        return self.lineage[-2].upto if len(self.lineage) > 1 else None


def find_views(engine: Engine, project: str, refs: Sequence[RunRef], *, also: Sequence[RunRef] = ()) -> list[RunView]:
    """Views of runs, in the same order, then those of `also` that are there. Raises NotFoundError for one of `refs`.

    What was deleted is not there.
    """
    found, lineages = _read_origins(engine, project, [*refs, *also])
    for run_id, deletion in deletions_of(engine, project, list(found)).items():
        if any(ref.run_id == run_id for ref in refs):
            raise _deleted(deletion)
        del found[run_id]
    present = [ref for ref in also if ref.run_id in found and (ref.branch is None or ref.branch in found[ref.run_id])]
    chosen = [_choose(project, ref, found.get(ref.run_id, {})) for ref in (*refs, *present)]
    forked = [branch for branch in chosen if found[branch.run_id][branch.number].parent is not None]
    lineages |= read_lineages(engine, project, [branch for branch in forked if branch not in lineages])
    return [
        view_of(
            project,
            lineages.get(branch, root(branch)),
            tuple(origin for _, origin in sorted(found[branch.run_id].items())),
        )
        for branch in chosen
    ]


def _read_origins(
    engine: Engine, project: str, refs: Sequence[RunRef]
) -> tuple[dict[str, dict[int, BranchOrigin]], dict[Branch, Lineage]]:
    """How the branches of some runs began, by run and number; and those of their lineages that are short."""
    run_ids = list(dict.fromkeys(ref.run_id for ref in refs))
    told = engine.look_up(_ORIGINS, project, run_ids, limits.QUERY_TIMEOUT_S)
    rows = chain.from_iterable(told.values())
    found: dict[str, dict[int, BranchOrigin]] = {}
    lineages: dict[Branch, Lineage] = {}
    for row in sorted(rows, key=lambda row: (row["has_origin"], row["version"])):  # an origin comes last, and stands
        branches = found.setdefault(row["run_id"], {})
        before = branches.get(row["branch"])
        since = row["created_at"] if before is None else min(before.known_since, row["created_at"])
        tail = read_lineage(row)
        branches[row["branch"]] = _origin(row, tail, since)
        branch = Branch(row["run_id"], row["branch"])
        lineages.pop(branch, None)
        if 0 < len(tail) <= _SHORT:
            lineages[branch] = tail
    return found, lineages


def _origin(row: Mapping[str, Any], tail: Lineage, known_since: datetime) -> BranchOrigin:
    above = tail[-2] if len(tail) > 1 else None
    return BranchOrigin(
        branch=row["branch"],
        kind=row["kind"] or START,
        parent=above.branch if above else None,
        fork_step=above.upto if above else None,
        created_at=row["created_at"],
        known_since=known_since,
    )


def _deleted(one: Deletion) -> NotFoundError:
    hint = f"`thalweg undelete {one.project}/{one.run_id}` brings it back." if one.state == "deleted" else ""
    when = f"{one.deleted_at:%Y-%m-%d %H:%M} UTC"
    message = f"there is no run {one.run_id!r} in project {one.project!r}: it was deleted at {when}"
    return NotFoundError("run_not_found", message, hint)


def _choose(project: str, ref: RunRef, found: dict[int, BranchOrigin]) -> Branch:
    """The branch that is meant. Raises NotFoundError."""
    if not found:
        raise NotFoundError(
            "run_not_found",
            f"there is no run {ref.run_id!r} in project {project!r}",
            "GET /api/v1/projects/{project}/runs lists the runs.",
        )
    if ref.branch is None:
        newest = max(found, key=lambda number: (number > 0, found[number].created_at, number))
        return Branch(ref.run_id, newest)
    if ref.branch not in found:
        numbers = ", ".join(map(str, sorted(found)))
        raise NotFoundError("branch_not_found", f"run {ref.run_id!r} has no branch {ref.branch}: it has {numbers}")
    return Branch(ref.run_id, ref.branch)


def views_of(engine: Engine, project: str, branches: Sequence[Branch]) -> list[RunView]:
    """The views of branches that are there, in the same order, without the origins of their runs' branches."""
    lineages = read_lineages(engine, project, branches)
    return [view_of(project, lineages.get(branch, root(branch))) for branch in branches]


def view_of(project: str, lineage: Lineage, branches: tuple[BranchOrigin, ...] = ()) -> RunView:
    """The view that a lineage is."""
    own = lineage[-1].branch
    key = run_key(project, own.run_id, own.number)
    return RunView(project, own.run_id, own.number, key, lineage, segments(project, lineage), branches)


def branch_points(engine: Engine, project: str, run_id: str) -> list[tuple[int, float]]:
    """Up to where branches of a run are seen from forks, rewinds, and forks of those: (branch, last visible step)."""
    where = {"project": project, "run_id": run_id}
    rows = rows_of(engine.query(load("branch_points"), where, limits.QUERY_TIMEOUT_S))
    return [(row["branch"], row["fork_step"]) for row in rows]
