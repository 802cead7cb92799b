"""Makes branches of runs: forks, rewinds, starts. Owns what the table `branches` says.

Guarantees: a claim made again gives the same branch; all claims of one attempt give one branch, whatever their order
and whichever server process takes them; the stored lineages are those of the tree as it is known, also where a
parent comes after its child. For that, every registration is written first and checked afterwards against what
others have written meanwhile, and a repair looks again until nothing is wrong: of two processes at least one sees the
other's row, and mends. Within a process registrations are made one by one, so that who has read that it won has won. Of
two processes that register different things under one name in the same milliseconds both may read that; their
writers' greetings then tell which one it was. Threads: any.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Final

from thalweg_tracker.engine.contract import Engine, Parameters
from thalweg_tracker.errors import EngineBusyError, RejectedError
from thalweg_tracker.lineage.chain import Branch, Lineage
from thalweg_tracker.lineage.tree import START, CycleError, Origin, TooDeepError
from thalweg_tracker.model.keys import run_key
from thalweg_tracker.runs.deletions import refuse_deleted
from thalweg_tracker.runs.store import (
    OWN_STEPS,
    REPAIR,
    Known,
    Registered,
    children_since,
    extended,
    load_known,
    load_named,
    write_branches,
)
from thalweg_tracker.sql import load

_TRIES: Final = 20
_one_by_one = threading.Lock()
"""Held from the choice of a version to the reading of which row stands, over all engines of the process."""


class Branches:
    """The branches of an engine's runs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def start(self, project: str, run_id: str, attempt: str, began_us: int) -> Registered:
        """The branch of an attempt, or branch 0 if the run begins with it. Raises RejectedError, EngineError.

        So does all that makes branches of a run that was deleted.
        """
        refuse_deleted(self._engine, project, run_id)
        known = load_known(self._engine, project, [run_id])
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
        *,
        above: Lineage | None = None,
    ) -> Registered:
        """A new run that continues another after a step. Raises RejectedError if it is there otherwise; EngineError.

        A run that began from nothing gains the history, if it has no points of its own there: its continuation may
        have come first. `above`: the parent's lineage, where the caller has just read it, and has seen that the new
        run is not there.
        """
        if parent_run_id == run_id:
            raise RejectedError("own_fork", f"cannot fork run {run_id} from itself", "Rewind it, or choose another id.")
        refuse_deleted(self._engine, project, run_id)
        origin = Origin(Branch(run_id), "fork", parent_run_id, parent_branch, step, "", began_us)
        if above is not None:
            registered, present = self._register(project, origin, extended(above, origin))
        else:
            known = load_known(self._engine, project, [run_id, parent_run_id])
            found = known.tree.origin(origin.branch)
            if found is None and self._has_history(project, run_id, step):
                found = Origin(Branch(run_id), START, "", None, -math.inf, "", 0)
            if found is not None:
                registered, present = known.registered(origin.branch), found
            else:
                registered, present = self._register(project, origin, known.lineage_of(origin))
        _check_same_fork(origin, present, registered)
        return registered

    def fork_fresh(self, project: str, run_id: str, above: Lineage, step: float, began_us: int) -> Registered:
        """A fork of the last branch of a lineage, as it was just read, under an id just made up: nobody else claims it.

        Whoever calls this looks at the parent's lineage afterwards, and calls `repair` if it was mended meanwhile.
        Raises EngineError.
        """
        parent = above[-1].branch
        origin = Origin(Branch(run_id), "fork", parent.run_id, parent.number, step, "", began_us)
        lineage = extended(above, origin)
        write_branches(self._engine, project, [(origin, lineage)], REPAIR - _now_us())
        return Registered(origin.branch, run_key(project, run_id), origin.kind, lineage, began_us)

    def rewind(
        self,
        project: str,
        run_id: str,
        step: float,
        attempt: str,
        began_us: int,
        *,
        rank: int | None = None,
        parent_branch: int | None = None,
    ) -> Registered:
        """The branch of an attempt, made if need be: it continues a branch after a step. Raises EngineError.

        `parent_branch` None: the newest that had begun before. `rank`: see `of_attempt`.
        """
        refuse_deleted(self._engine, project, run_id)
        # Read once: between two readings another process of the attempt may begin it.
        known = load_known(self._engine, project, [run_id])
        joined = self._joined(known, run_id, attempt, rank)
        if joined is not None:
            return joined
        number = max(known.tree.numbers(run_id), default=0) + 1
        for more in range(_TRIES):
            branch = Branch(run_id, number + more)
            origin = Origin(branch, "rewind", run_id, parent_branch, step, attempt, began_us)
            registered, present = self._register(project, origin, known.lineage_of(origin))
            if present.attempt == attempt:  # else another attempt has taken the number
                return registered
        raise EngineBusyError(f"cannot rewind run {run_id}: others rewind it all the time")

    def of_attempt(self, project: str, run_id: str, attempt: str, rank: int | None = None) -> Registered | None:
        """The newest branch of an attempt. With `rank`: unless a process of this rank has written there already, so
        that the label names an earlier start of the training.
        """
        return self._joined(load_known(self._engine, project, [run_id]), run_id, attempt, rank)

    def _joined(self, known: Known, run_id: str, attempt: str, rank: int | None) -> Registered | None:
        named = known.tree.of_attempt(run_id, attempt)
        if named is None or (rank is not None and self._has_written(known.project, named.branch, rank)):
            return None
        return known.registered(named.branch)

    def of_number(self, project: str, run_id: str, number: int, attempt: str) -> Registered | None:
        """A branch that was registered before for an attempt."""
        known = load_known(self._engine, project, [run_id], numbers=[number])
        origin = known.tree.origin(Branch(run_id, number))
        return known.registered(origin.branch) if origin is not None and origin.attempt == attempt else None

    def _has_history(self, project: str, run_id: str, step: float) -> bool:
        """Whether branch 0 has points of its own at or before a step, which a fork there would hide."""
        key = run_key(project, run_id)
        rows = self._engine.look_up(OWN_STEPS, project, [key])[key]
        return any(row["first_step"] <= min(step, row["last_step"]) for row in rows)

    def _has_written(self, project: str, branch: Branch, rank: int) -> bool:
        key = run_key(project, branch.run_id, branch.number)
        where: Parameters = {"project": project, "run": key, "rank": rank}
        return bool(self._engine.query(load("rank_has_written"), where)["writers"][0].as_py())

    def _register(self, project: str, origin: Origin, lineage: Lineage) -> tuple[Registered, Origin]:
        """Writes a branch, then mends whatever it, or what came meanwhile, made wrong. Returns the row that stands."""
        branch = origin.branch
        near = list({branch.run_id, origin.parent_run_id or branch.run_id})
        named = [one.branch for one in lineage[-2:]]
        numbers = [one.number for one in named]
        since_us = origin.created_us if origin.kind == "rewind" else 0
        with _one_by_one:
            write_branches(self._engine, project, [(origin, lineage)], REPAIR - _now_us())
            children = children_since(self._engine, project, branch.run_id, since_us)
            if origin.parent_branch is not None and not children:  # nobody else is concerned
                known = load_named(self._engine, project, named)
            else:
                known = load_known(self._engine, project, list({*near, *children}), numbers=numbers)
        if known.is_wrong_about(branch):
            self.repair(project)
            known = load_known(self._engine, project, near, numbers=numbers)
        present = known.tree.origin(branch)
        assert present is not None, branch
        return known.registered(branch), present

    def repair(self, project: str) -> None:
        """Computes all lineages of a project anew, and writes those that differ, until none does: a registration that
        came between the reading and the writing has built on what was wrong.
        """
        for _ in range(_TRIES):
            version = REPAIR + _now_us()  # of the time of reading: who has read more wins
            known = load_known(self._engine, project, None)
            wrong = []
            for origin in known.origins:
                try:
                    lineage = known.tree.lineage(origin.branch)
                except (CycleError, TooDeepError):  # of rows that two processes wrote at once: what is stored is read
                    continue
                if lineage != known.lineage(origin.branch):
                    wrong.append((origin, lineage))
            if not wrong:
                return
            write_branches(self._engine, project, wrong, version)


def _now_us() -> int:
    return time.time_ns() // 1000


def _check_same_fork(claimed: Origin, present: Origin, registered: Registered) -> None:
    """Raises RejectedError unless both say the same; a claim without a branch takes whichever was found."""
    same = (claimed.kind, claimed.parent_run_id, claimed.step) == (present.kind, present.parent_run_id, present.step)
    found = registered.lineage[-2].branch.number if len(registered.lineage) > 1 else None
    if not same or claimed.parent_branch not in (None, found):
        was = f"a fork of {present.parent_run_id} at step {present.step:g}" if present.kind == "fork" else "no fork"
        raise RejectedError(
            "run_exists",
            f"cannot fork run {claimed.branch.run_id} from {claimed.parent_run_id} at step {claimed.step:g}:"
            f" it is there already, and is {was}",
            "Choose another run id.",
        )
