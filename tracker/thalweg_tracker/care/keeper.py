"""The rounds of a server process: deletes what is kept no longer, and purges what was deleted. Owns their thread.

Every process with the API makes them; two at once do the same twice.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from thalweg_tracker.care.deletion import utc_now
from thalweg_tracker.care.purge import due, purge, purge_projects
from thalweg_tracker.care.retention import apply_retentions
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import TrackerError

log = logging.getLogger(__name__)

EVERY_S: Final = 60.0


class Keeper:
    """One thread."""

    def __init__(self, engine: Engine, every_s: float = EVERY_S) -> None:
        self._engine = engine
        self._every_s = every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper")

    def start(self) -> None:
        """Begins: with the first round after a pause, so that a server that was just started answers first."""
        self._thread.start()

    def stop(self) -> None:
        """Ends, at the latest after the statement that is under way."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                self.round()
            except TrackerError as error:
                log.warning("cannot look after deleted runs, it is tried again: %s", error)
            except Exception:  # the outermost line of a thread
                log.exception("cannot look after deleted runs, it is tried again")

    def round(self) -> None:
        """One round. Raises EngineError."""
        apply_retentions(self._engine, utc_now())
        for project, some in due(self._engine, utc_now()).items():
            if self._stopped.is_set():
                return
            purge(self._engine, project, some, utc_now(), self._stopped)
        purge_projects(self._engine, utc_now(), self._stopped)
