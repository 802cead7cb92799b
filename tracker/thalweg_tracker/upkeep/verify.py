"""Looks whether the objects of checkpoints are there and as they were told, and keeps what was found.

Good is an object with the size that was told, and with the etag and version that an earlier look has found. Out of
reach is the store, not the object: then ObjectStoreError is raised and nothing is kept. A file:// place outside the
store may be on another host's disk: while nothing was ever found there, it is unchecked, not missing. Lives on the
event loop of its store; the database is asked, and what is long is compared, in threads.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import pyarrow as pa

from thalweg_tracker.checkpoints.places import common_folder
from thalweg_tracker.checkpoints.state import Check, Checkpoint, CheckState, Place, Shard, Word, assemble
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.objects.contract import ObjectInfo, ObjectStore
from thalweg_tracker.objects.keys import canonical
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.upkeep.contents import Content, Contents, StoredFile, read_contents
from thalweg_tracker.upkeep.reach import OUTSIDE, Reach

T = TypeVar("T")

CHECKS: Final = pa.schema(
    [
        ("project", pa.string()),
        ("run", pa.uint64()),
        ("step", pa.float64()),
        ("kind", pa.string()),
        ("shard", pa.uint32()),
        ("uri", pa.string()),
        ("state", pa.string()),
        ("detail", pa.string()),
        ("size_bytes", pa.uint64()),
        ("etag", pa.string()),
        ("version", pa.string()),
        ("told_at", pa.timestamp("us", "UTC")),
        ("checked_at", pa.timestamp("us", "UTC")),
    ]
)
NOTHING_READ: Final[Mapping[Place, Contents]] = {}
AT_ONCE: Final = 32
"""Requests to the store."""
CHECKPOINTS_AT_ONCE: Final = 8
HEADS_MAX: Final = 64
"""Files of a shard that are looked at one by one; of more, the folder is listed."""
OUTSIDE_HEADS_MAX: Final = 4096
"""The same where the store lists no folders, because it does not cover them; more are not looked at."""
FOLDER_MAX: Final = 100_000
"""Objects in a folder that are listed."""
DETAIL_MAX_CHARS: Final = 1000
REPEATED_AFTER_US: Final = 600 * 1_000_000
"""What was found again is kept again only after this long: a thousand ranks may resolve the same checkpoint."""


@dataclass(frozen=True, slots=True)
class _Found:
    state: CheckState
    detail: str = ""
    size_bytes: int = 0
    etag: str = ""
    version: str = ""


class Verifier:
    """Looks at objects. `objects` None: this server has no store, so all is unchecked."""

    def __init__(
        self,
        engine: Engine,
        objects: ObjectStore | None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        *,
        reach: Reach | None = None,
    ) -> None:
        self._engine = engine
        self._objects = objects
        self.reach = reach or Reach(objects)
        self._now_us = now_us
        self._places = asyncio.Semaphore(AT_ONCE)

    async def verify(
        self,
        view: RunView,
        checkpoints: Sequence[Checkpoint],
        *,
        keep: bool = True,
        contents: Mapping[Place, Contents] = NOTHING_READ,
    ) -> list[Checkpoint]:
        """The same checkpoints as they are now. Shards that are staged or deleted are left as they are.

        `keep`: what is new is written down. `contents`: those that the caller has read. Raises ObjectStoreError,
        EngineError.
        """
        places = asyncio.Semaphore(CHECKPOINTS_AT_ONCE)

        async def look(checkpoint: Checkpoint) -> list[Shard]:
            async with places:
                return await self._look(view, checkpoint, contents.get(checkpoint.place))

        found = await _all(look(checkpoint) for checkpoint in checkpoints)
        if keep:
            before = [part for checkpoint in checkpoints for part in checkpoint.parts]
            after = [part for parts in found for part in parts]
            news = [new.check for old, new in zip(before, after, strict=True) if new.check and _is_news(old, new)]
            await self.write(view, news)
        return [
            assemble((part.word for part in parts), (part.check for part in parts if part.check))[0] for parts in found
        ]

    async def write(self, view: RunView, checks: Sequence[Check]) -> None:
        """Keeps what was found."""
        if checks:
            rows = [_row(view.project, check) for check in checks]
            table = pa.Table.from_pylist(rows, schema=CHECKS)
            await asyncio.to_thread(self._engine.insert, "checkpoint_checks", table)

    def check_of(self, part: Shard, state: CheckState, detail: str = "") -> Check:
        """A check that counts from now on: later than the word and the check before, whatever the clocks say."""
        return self._check(part, _Found(state, detail))

    async def _look(self, view: RunView, checkpoint: Checkpoint, contents: Contents | None) -> list[Shard]:
        if contents is None:
            contents = await asyncio.to_thread(read_contents, self._engine, self._objects, view, checkpoint)
        listings = _Listings(self._objects, self._places) if self._objects else None
        return await _all(
            self._look_at_shard(view.project, part, contents[part.word.kind, part.word.shard], listings)
            for part in checkpoint.parts
        )

    async def _look_at_shard(self, project: str, part: Shard, content: Content, listings: _Listings | None) -> Shard:
        if not part.word.is_durable or (part.check is not None and part.check.state == "deleted"):
            return part
        if not self.reach.allows(project, part.word.uri):
            return Shard(part.word, self._check(part, _Found("unchecked", OUTSIDE)))
        found = await self._find(part.word, content, listings)
        if found.state == "missing" and found.size_bytes == 0 and self._is_elsewhere(part):
            found = _Found("unchecked", f"{found.detail}: it is not on the server's host, or gone")
        found = _compared(part.check, found)
        return Shard(part.word, self._check(part, found))

    def _is_elsewhere(self, part: Shard) -> bool:
        """Whether it may be a path of another host: the server has never found anything there."""
        uri = canonical(part.word.uri)
        is_outside = self._objects is not None and uri.startswith("file:") and not self._objects.covers(uri)
        return is_outside and (part.check is None or part.check.state == "unchecked")

    def _check(self, part: Shard, found: _Found) -> Check:
        word, before = part.word, part.check.checked_us + 1 if part.check else 0
        return Check(
            place=word.place,
            kind=word.kind,
            shard=word.shard,
            uri=word.uri,
            state=found.state,
            detail=found.detail[:DETAIL_MAX_CHARS],
            size_bytes=found.size_bytes,
            etag=found.etag,
            version=found.version,
            told_us=word.time_us,
            checked_us=max(self._now_us(), before),
        )

    async def _find(self, word: Word, content: Content, listings: _Listings | None) -> _Found:
        objects = self._objects
        if objects is None or listings is None:
            return _Found("unchecked", "this server has no object store")
        uri = canonical(word.uri)
        if not objects.readable(uri):
            return _Found("unchecked", f"the server cannot look there: it has {objects.describe()}")
        try:
            if content.is_folder:
                if not objects.covers(uri):
                    return _Found("unchecked", f"the server lists no folders outside {objects.describe()}")
                return await asyncio.to_thread(_judge_folder, word, await listings.of(uri))
            infos = await self._infos(objects, content.files, listings)
            return await asyncio.to_thread(_judge_files, content.files, infos)
        except RejectedError as error:  # a link on the way, or a name that its store cannot have
            return _Found("unchecked", error.message)

    async def _infos(
        self, objects: ObjectStore, files: Sequence[StoredFile], listings: _Listings
    ) -> list[ObjectInfo | None]:
        """What is there of each file. Raises RejectedError."""
        listed: dict[str, ObjectInfo] = {}
        is_whole = False
        if len(files) > HEADS_MAX:
            folder = await asyncio.to_thread(common_folder, [file.uri for file in files])
            if objects.covers(folder):
                infos = await listings.of(folder)
                listed, is_whole = {info.uri: info for info in infos}, len(infos) <= FOLDER_MAX
            elif len(files) > OUTSIDE_HEADS_MAX:
                raise RejectedError(
                    "too_many_files", f"there are more than {OUTSIDE_HEADS_MAX} files outside the store"
                )

        async def head(uri: str) -> ObjectInfo | None:
            async with self._places:
                return await objects.head(uri)

        rest = [] if is_whole else [file.uri for file in files if file.uri not in listed]
        heads = dict(zip(rest, await _all(map(head, rest)), strict=True))  # a task for each, so only for these
        return [listed.get(file.uri) or heads.get(file.uri) for file in files]


class _Listings:
    """Folders listed for one checkpoint, whose shards may share them: of each FOLDER_MAX objects and one more."""

    def __init__(self, objects: ObjectStore, places: asyncio.Semaphore) -> None:
        self._objects = objects
        self._places = places
        self._tasks: dict[str, asyncio.Task[list[ObjectInfo]]] = {}

    async def of(self, folder: str) -> list[ObjectInfo]:
        if folder not in self._tasks:
            self._tasks[folder] = asyncio.create_task(self._list(folder))
        return await self._tasks[folder]

    async def _list(self, folder: str) -> list[ObjectInfo]:
        async with self._places:
            return await self._objects.list_objects(folder, FOLDER_MAX + 1)


async def _all(jobs: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results, in order. The first failure ends the others."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _judge_folder(word: Word, infos: Sequence[ObjectInfo]) -> _Found:
    if len(infos) > FOLDER_MAX:
        return _Found("unchecked", f"there are more than {FOLDER_MAX} objects in {word.uri}")
    if not infos:
        return _Found("missing", f"there is nothing in {word.uri}")
    size_bytes = sum(info.size_bytes for info in infos)
    if word.size_bytes and size_bytes != word.size_bytes:
        return _Found("changed", f"{word.uri} has {size_bytes} bytes, {word.size_bytes} were told", size_bytes)
    return _Found("verified", "", size_bytes, _etag_of(infos))


def _judge_files(files: Sequence[StoredFile], infos: Sequence[ObjectInfo | None]) -> _Found:
    absent = [file.uri for file, info in zip(files, infos, strict=True) if info is None]
    present = [info for info in infos if info is not None]
    size_bytes = sum(info.size_bytes for info in present)
    if absent:
        more = f" and {len(absent) - 1} more" if absent[1:] else ""
        return _Found("missing", f"there is no object {absent[0]}{more}", size_bytes)
    for file, info in zip(files, present, strict=True):
        if file.size_bytes and file.size_bytes != info.size_bytes:
            detail = f"{file.uri} has {info.size_bytes} bytes, {file.size_bytes} were told"
            return _Found("changed", detail, size_bytes)
    if len(present) == 1:
        return _Found("verified", "", size_bytes, present[0].etag, present[0].version)
    return _Found("verified", "", size_bytes, _etag_of(present))


def _compared(before: Check | None, found: _Found) -> _Found:
    """With what was found before: its etag and version are what there has to be, until the pointer is told anew."""
    if before is None or not before.etag:
        return found
    if found.state != "verified":
        return replace(found, etag=before.etag, version=before.version)
    is_same_version = not (before.version and found.version) or before.version == found.version
    if before.etag == found.etag and is_same_version:
        return found
    detail = f"the content is another: etag {found.etag[:64]}, and before it was {before.etag[:64]}"
    return replace(found, state="changed", detail=detail, etag=before.etag, version=before.version)


def _is_news(old: Shard, new: Shard) -> bool:
    assert new.check is not None
    if old.check is new.check:
        return False
    if old.check is None or new.check.checked_us - old.check.checked_us > REPEATED_AFTER_US:
        return True
    return replace(new.check, checked_us=old.check.checked_us) != old.check


def _etag_of(infos: Sequence[ObjectInfo]) -> str:
    """One etag for several objects."""
    lines = sorted(f"{info.etag} {info.size_bytes} {info.uri}\n" for info in infos)
    return hashlib.sha256("".join(lines).encode(errors="surrogatepass")).hexdigest()


def _row(project: str, check: Check) -> dict[str, object]:
    return {
        "project": project,
        "run": check.place.run,
        "step": check.place.step,
        "kind": check.kind,
        "shard": check.shard,
        "uri": check.uri,
        "state": check.state,
        "detail": check.detail,
        "size_bytes": check.size_bytes,
        "etag": check.etag,
        "version": check.version,
        "told_at": check.told_us,
        "checked_at": check.checked_us,
    }
