"""Hands out the checkpoint to go on from: the nearest at or before a step, or the best, that is really there."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from thalweg_tracker.checkpoints.retention import Mode
from thalweg_tracker.checkpoints.state import Checkpoint
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import NotFoundError, RejectedError
from thalweg_tracker.objects.contract import ObjectStore
from thalweg_tracker.query.checkpoint_values import default_mode, read_values
from thalweg_tracker.query.checkpoints import Texts, read_told, walk
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.upkeep.contents import Contents, StoredFile, contents_of, listed
from thalweg_tracker.upkeep.verify import Verifier

SKIPPED_MAX: Final = 100
FEW_ROWS: Final = 32
"""Words read first: of the nearest one, which mostly is good."""
FILES_MAX: Final = 100_000
URLS_AT_ONCE: Final = 20
"""Signing is work for the processor, some 0.3 ms for S3: after so many others take their turns."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Which checkpoint. `kind` empty: with all its kinds. `best`: a metric, instead of the nearest one."""

    step: float = math.inf
    kind: str = ""
    best: str = ""
    mode: Mode | None = None


@dataclass(frozen=True, slots=True)
class FileUrl:
    """A file of a checkpoint. `url` None: the server does not hand it out."""

    kind: str
    shard: int
    file: StoredFile
    url: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint, and those that would have come before it, the nearest first, at most SKIPPED_MAX."""

    checkpoint: Checkpoint
    contents: Contents
    texts: Texts
    skipped: tuple[Checkpoint, ...]
    skipped_more: int


class Resolver:
    """Finds checkpoints. See `Verifier` for its thread."""

    def __init__(self, engine: Engine, objects: ObjectStore | None, verifier: Verifier) -> None:
        self._engine = engine
        self._objects = objects
        self._verifier = verifier

    async def find(self, view: RunView, wish: Wish, *, verify: bool = True) -> Found:
        """The first that is good, looked at before it is handed out. Raises NotFoundError "no_checkpoint"."""
        one, skipped, read = await self._search(view, wish, verify=verify)
        if one is None:
            raise _nothing(view, wish, skipped)
        if read is None:
            read = await asyncio.to_thread(self._read, view, one)
        return Found(one, *read, tuple(skipped[:SKIPPED_MAX]), max(0, len(skipped) - SKIPPED_MAX))

    async def latest_step(self, view: RunView) -> float | None:
        """The step of the latest good one; None where none was ever completed.

        Raises NotFoundError where there were some, and all are gone: to begin anew would be no answer to that.
        """
        one, skipped, _ = await self._search(view, Wish(), verify=True)
        if one is None and any(other.state in ("missing", "changed") for other in skipped):
            raise _nothing(view, Wish(), skipped)
        return None if one is None else one.place.step

    async def _search(
        self, view: RunView, wish: Wish, *, verify: bool
    ) -> tuple[Checkpoint | None, list[Checkpoint], tuple[Contents, Texts] | None]:
        """The first good one, what comes before it, and what it tells, if that was read to look at it."""
        skipped: list[Checkpoint] = []
        read: tuple[Contents, Texts] | None = None
        candidates = await asyncio.to_thread(_candidates, self._engine, view, wish)
        while (one := await asyncio.to_thread(_next_good, candidates, skipped)) is not None:
            if verify:
                read = await asyncio.to_thread(self._read, view, one)
                (one,) = await self._verifier.verify(view, [one], contents={one.place: read[0]})
            if one.is_good:
                return one, skipped, read
            skipped.append(one)
        return None, skipped, None

    def _read(self, view: RunView, checkpoint: Checkpoint) -> tuple[Contents, Texts]:
        told = read_told(self._engine, view.project, checkpoint.place)
        return contents_of(self._objects, view, checkpoint, told.manifests), told.texts

    async def files(self, project: str, of: Found) -> list[FileUrl]:
        """Its files with URLs to get them from. Raises RejectedError "too_many_files", ObjectStoreError."""
        found: list[FileUrl] = []
        for (kind, shard), content in sorted(of.contents.items()):
            objects = self._objects if self._verifier.reach.allows(project, content.word.uri) else None
            files = await listed(objects, content, FILES_MAX + 1)
            if len(found) + len(files) > FILES_MAX:
                raise RejectedError(
                    "too_many_files",
                    f"the checkpoint at step {of.checkpoint.place.step:g} has more than {FILES_MAX} files",
                    "Ask for one `kind`.",
                )
            for at, file in enumerate(files):
                if at % URLS_AT_ONCE == 0:
                    await asyncio.sleep(0)
                found.append(FileUrl(kind, shard, file, await _url(objects, file.uri)))
        return found


async def _url(objects: ObjectStore | None, uri: str) -> str | None:
    return None if objects is None or not objects.downloadable(uri) else await objects.presign_get(uri)


def _candidates(engine: Engine, view: RunView, wish: Wish) -> Iterator[Checkpoint]:
    """Those that may be handed out, the most wished first."""
    before = math.nextafter(wish.step, math.inf)
    if not wish.best:
        return walk(engine, view, before=before, kind=wish.kind, first_rows=FEW_ROWS)
    every = list(walk(engine, view, before=before, kind=wish.kind))
    values = read_values(engine, view, every, wish.best)
    sign = 1 if (wish.mode or default_mode(wish.best)) == "min" else -1
    ranked = [one for one in every if one.place.step in values]
    return iter(sorted(ranked, key=lambda one: (sign * values[one.place.step], -one.place.step)))


def _next_good(candidates: Iterator[Checkpoint], skipped: list[Checkpoint]) -> Checkpoint | None:
    for one in candidates:
        if one.is_good:
            return one
        skipped.append(one)
    return None


def _nothing(view: RunView, wish: Wish, skipped: Sequence[Checkpoint]) -> NotFoundError:
    of_kind = f" of kind {wish.kind!r}" if wish.kind else ""
    upto = "" if wish.step == math.inf else f" at or before step {wish.step:g}"
    by = f" with a value of {wish.best!r}" if wish.best else ""
    first = skipped[0] if skipped else None
    hint = f"That at step {first.place.step:g} is {first.state}: {first.detail or 'see its list'}" if first else ""
    return NotFoundError(
        "no_checkpoint", f"run {view.run_id!r} has no complete checkpoint{of_kind}{upto}{by} to go on from", hint
    )
