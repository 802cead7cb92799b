"""Deletes checkpoints that a policy does not keep: objects first, then the word that they are deleted.

Guarantees beside those of `checkpoints.retention`:
 * what must stay is looked at before anything is deleted; if it is not really there, the one before it must stay;
 * only uploads of the branch itself are deleted, for the pointer to another one may be in a spool yet, and none that
   another checkpoint points at, in whatever project and spelling;
 * what a fork points at is looked up again right before each checkpoint is deleted;
 * a checkpoint is deleted whole or, where that is seen before, not at all; one that fails halfway is reported, and
   may be deleted again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

from thalweg_tracker.checkpoints.places import branch_levels, common_begin
from thalweg_tracker.checkpoints.retention import NEWEST, Candidate, Kept, Mode, Plan, Policy, plan, pointed_at
from thalweg_tracker.checkpoints.state import GOOD, Checkpoint, Place
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import ObjectStoreError, RejectedError
from thalweg_tracker.model import limits
from thalweg_tracker.objects.contract import ObjectStore
from thalweg_tracker.objects.keys import canonical, comparable
from thalweg_tracker.query.checkpoint_values import default_mode, read_values
from thalweg_tracker.query.checkpoints import BATCH_ROWS, walk
from thalweg_tracker.query.lineage import RunView, branch_points
from thalweg_tracker.sql import load
from thalweg_tracker.upkeep.contents import StoredFile, listed, read_contents
from thalweg_tracker.upkeep.verify import FOLDER_MAX, Verifier

OUTSIDE: Final = "outside the store"
FOREIGN: Final = "no upload of this branch"
SHARED: Final = "another checkpoint points at its objects"
TOO_MANY: Final = f"more than {FOLDER_MAX} objects in a folder"


@dataclass(frozen=True, slots=True)
class Order:
    """What to keep; at least one of the three is given."""

    keep_last: int | None = None
    keep_every: float | None = None
    metric: str = ""
    mode: Mode | None = None
    keep_best: int | None = None


@dataclass(frozen=True, slots=True)
class Deleted:
    """A checkpoint that is deleted, or would be."""

    step: float
    size_bytes: int
    objects: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A checkpoint that could not be deleted."""

    step: float
    detail: str


@dataclass(frozen=True, slots=True)
class Pruned:
    """What became of each checkpoint, by ascending steps."""

    kept: list[Kept]
    deleted: list[Deleted]
    failed: list[Failed]


@dataclass(frozen=True, slots=True)
class _Doomed:
    checkpoint: Checkpoint
    files: tuple[StoredFile, ...]

    @property
    def step(self) -> float:
        return self.checkpoint.place.step


class Pruner:
    """Prunes the own part of a branch. See `Verifier` for its thread."""

    def __init__(self, engine: Engine, objects: ObjectStore | None, verifier: Verifier) -> None:
        self._engine = engine
        self._objects = objects
        self._verifier = verifier

    async def prune(self, view: RunView, order: Order, *, dry_run: bool) -> Pruned:
        """Deletes what is not to be kept; with `dry_run` nothing is changed. Raises ObjectStoreError, EngineError."""
        if self._objects is None:
            raise RejectedError(
                "no_object_store", "cannot prune: this server has no object store", "Set THALWEG_OBJECTS."
            )
        every = await asyncio.to_thread(lambda: list(walk(self._engine, view, own=True, first_rows=BATCH_ROWS)))
        gone = {one.place for one in every if one.state == "deleted"}
        checkpoints = {one.place.step: one for one in every if one.place not in gone}
        planned = await self._plan(view, order, checkpoints, keep=not dry_run)
        left, doomed = await self._sort_out(self._objects, view, [checkpoints[step] for step in planned.deleted], gone)
        if dry_run:
            return Pruned(_by_step([*planned.kept, *left]), [_deleted(one) for one in doomed], [])
        spared, deleted, failed = await self._delete(self._objects, view, doomed, checkpoints)
        return Pruned(_by_step([*planned.kept, *left, *spared]), deleted, failed)

    async def _plan(self, view: RunView, order: Order, checkpoints: dict[float, Checkpoint], *, keep: bool) -> Plan:
        """Changes `checkpoints` to what was found of those that must stay."""
        values, fork_steps = await asyncio.to_thread(self._facts, view, order, list(checkpoints.values()))
        policy = Policy(order.keep_last, order.keep_every, order.keep_best, order.mode or default_mode(order.metric))
        seen: set[float] = set()
        while True:
            candidates = [_candidate(one, values.get(step)) for step, one in checkpoints.items()]
            protected = pointed_at(candidates, fork_steps)
            planned = plan(candidates, policy, protected)
            needed = {one.step for one in planned.kept if one.step in protected or NEWEST in one.reasons} - seen
            if not needed or not planned.deleted:
                return planned
            for one in await self._verifier.verify(view, [checkpoints[step] for step in sorted(needed)], keep=keep):
                checkpoints[one.place.step] = one
            seen |= needed

    def _facts(
        self, view: RunView, order: Order, checkpoints: Sequence[Checkpoint]
    ) -> tuple[dict[float, float], list[float]]:
        """Values of the metric by step, and the steps of the forks of this branch. Runs in a thread."""
        values = read_values(self._engine, view, checkpoints, order.metric) if order.metric else {}
        return values, self._fork_steps(view)

    def _fork_steps(self, view: RunView) -> list[float]:
        points = branch_points(self._engine, view.project, view.run_id)
        return [step for branch, step in points if branch == view.branch]

    async def _sort_out(
        self, objects: ObjectStore, view: RunView, checkpoints: Sequence[Checkpoint], gone: set[Place]
    ) -> tuple[list[Kept], list[_Doomed]]:
        """Those that are left after all, with the reason, and those that go."""
        left: list[Kept] = []
        doomed: list[_Doomed] = []
        for one in checkpoints:
            files = await self._files(objects, view, one)
            if isinstance(files, str):
                left.append(Kept(one.place.step, (files,)))
            else:
                doomed.append(_Doomed(one, files))
        taken = await asyncio.to_thread(self._pointed_at_by_others, doomed, gone)
        shared = {one.step for one in doomed if any(_is_taken(comparable(file.uri), taken) for file in one.files)}
        left += [Kept(step, (SHARED,)) for step in shared]
        return left, [one for one in doomed if one.step not in shared]

    async def _files(self, objects: ObjectStore, view: RunView, checkpoint: Checkpoint) -> tuple[StoredFile, ...] | str:
        """The objects of a checkpoint, or why it cannot be deleted."""
        own = objects.uri_for(*branch_levels(view.project, view.run_id, view.branch), "")
        uris = [canonical(part.word.uri) for part in checkpoint.parts]
        if not all(map(objects.covers, uris)):
            return OUTSIDE
        if not all(uri.startswith(own) and uri != own for uri in uris):
            return FOREIGN
        contents = await asyncio.to_thread(read_contents, self._engine, objects, view, checkpoint)
        found: dict[str, StoredFile] = {}
        for content in contents.values():
            files = await listed(objects, content, FOLDER_MAX + 1)
            if len(files) > FOLDER_MAX:
                return TOO_MANY
            found.update((file.uri, file) for file in files)
        if not all(objects.covers(uri) and uri.startswith(own) for uri in found):
            return OUTSIDE
        return tuple(found.values())

    def _pointed_at_by_others(self, doomed: Sequence[_Doomed], gone: set[Place]) -> set[str]:
        """URIs of other checkpoints near those that go, comparable. Runs in a thread."""
        uris = [comparable(file.uri) for one in doomed for file in one.files]
        if not uris:
            return set()
        own = gone | {one.checkpoint.place for one in doomed}
        where: dict[str, Any] = {"begin": "".join(takewhile(str.isascii, common_begin(uris)))}
        rows = self._engine.query(load("checkpoint_references"), where, limits.QUERY_TIMEOUT_S).to_pylist()
        return {
            comparable(row["uri"]) for row in rows if self._counts(row) and Place(row["run"], row["step"]) not in own
        }

    def _counts(self, row: dict[str, Any]) -> bool:
        """Whether a pointer spares what it leads to: what the server would never serve for it, it does not."""
        return self._verifier.reach.allows(row["project"], row["uri"])

    async def _delete(
        self, objects: ObjectStore, view: RunView, doomed: Sequence[_Doomed], checkpoints: Mapping[float, Checkpoint]
    ) -> tuple[list[Kept], list[Deleted], list[Failed]]:
        """Those that are left after all, those deleted, and those that failed."""
        candidates = [_candidate(one) for one in checkpoints.values()]
        spared: list[Kept] = []
        deleted: list[Deleted] = []
        failed: list[Failed] = []
        broken = ""
        for one in doomed:
            forks = pointed_at(candidates, await asyncio.to_thread(self._fork_steps, view))
            if one.step in forks:  # made since the plan
                spared.append(Kept(one.step, tuple(forks[one.step])))
                continue
            try:
                problems = {} if broken else await objects.delete([file.uri for file in one.files])
            except ObjectStoreError as error:
                broken = str(error)
            if broken:
                failed.append(Failed(one.step, broken))
            elif problems:
                uri, why = next(iter(problems.items()))
                failed.append(Failed(one.step, f"{len(problems)} of {len(one.files)} objects are left; {uri}: {why}"))
            else:
                detail = "deleted by a retention policy"
                checks = [self._verifier.check_of(part, "deleted", detail) for part in one.checkpoint.parts]
                await self._verifier.write(view, checks)
                deleted.append(_deleted(one))
        return spared, deleted, failed


def _by_step(kept: Iterable[Kept]) -> list[Kept]:
    return sorted(kept, key=lambda one: one.step)


def _candidate(checkpoint: Checkpoint, value: float | None = None) -> Candidate:
    good_kinds = frozenset(kind.kind for kind in checkpoint.kinds if kind.state in GOOD)
    return Candidate(checkpoint.place.step, checkpoint.is_good, good_kinds, value)


def _deleted(one: _Doomed) -> Deleted:
    told = sum(file.size_bytes for file in one.files)
    return Deleted(one.step, told or one.checkpoint.size_bytes, len(one.files))


def _is_taken(uri: str, taken: Iterable[str]) -> bool:
    """Whether an object, or a folder in which it lies, is among these."""
    return any(begin in taken for begin in _begins(uri))


def _begins(uri: str) -> Iterator[str]:
    yield uri
    for at, letter in enumerate(uri):
        if letter == "/":
            yield uri[:at]
            yield uri[: at + 1]
