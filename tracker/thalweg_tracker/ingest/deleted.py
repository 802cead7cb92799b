"""Which runs were deleted while their writers' streams are open. Lives on the event loop of the ingest."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import TrackerError
from thalweg_tracker.ingest.decode import Writer
from thalweg_tracker.ingest.registry import Registry
from thalweg_tracker.model import limits
from thalweg_tracker.runs.deletions import Deletion, deleted_error, deletions_of, list_deletions

log = logging.getLogger(__name__)

_NO_LONGER_THERE: Final = ("deleted", "purging", "purged")


class DeletedRuns:
    """Asks the database every DELETIONS_POLL_S: other processes delete too."""

    def __init__(self, engine: Engine, registry: Registry) -> None:
        self._engine = engine
        self._registry = registry
        self._deleted: dict[tuple[str, str], Deletion] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to ask."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Asks no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def check(self, writer: Writer) -> None:
        """Raises RejectedError if the run of a writer was deleted."""
        if (writer.project, writer.run_id) in self._deleted:  # it may have been brought back since
            found = await asyncio.to_thread(deletions_of, self._engine, writer.project, [writer.run_id])
            if writer.run_id in found:
                raise deleted_error(found[writer.run_id])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(limits.DELETIONS_POLL_S)
            try:
                rows = await asyncio.to_thread(list_deletions, self._engine, None, _NO_LONGER_THERE)
            except TrackerError as error:
                log.warning("cannot look which runs were deleted: %s", error)
                continue
            found = {(one.project, one.run_id): one for one in rows}
            if found != self._deleted:
                self._registry.forget()
                self._deleted = found
