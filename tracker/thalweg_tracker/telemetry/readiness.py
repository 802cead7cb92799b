"""Whether this process should be given work: its database answers, and it is not about to stop."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Final

from thalweg_tracker.telemetry.probe import Probe, ProbeError

log = logging.getLogger(__name__)

OK: Final = "ok"
_HOLDS_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`checks`: by name "ok", or what is wrong."""

    checks: dict[str, str]

    @property
    def is_ready(self) -> bool:
        """Whether all is well."""
        return all(word == OK for word in self.checks.values())


class Readiness:
    """May be asked from any thread."""

    def __init__(self, probe: Probe | None) -> None:
        """`probe` None: there is no database to ask."""
        self._probe = probe
        self._lock = threading.Lock()
        self._draining = threading.Event()
        self._engine = OK
        self._asked_at_s = float("-inf")

    def drain(self) -> None:
        """From now on not ready, whatever the database says."""
        self._draining.set()

    def look(self) -> Verdict:
        """The verdict now. The database is asked once a second at most, however many look."""
        if self._draining.is_set():
            return Verdict({"engine": self._engine, "draining": "the server is stopping"})
        with self._lock:
            if time.monotonic() - self._asked_at_s > _HOLDS_S:
                self._ask()
        return Verdict({"engine": self._engine, "draining": OK})

    def _ask(self) -> None:
        before, self._engine = self._engine, OK
        try:
            if self._probe is not None:
                self._probe.rows("SELECT 1 AS one")
        except ProbeError as error:
            self._engine = str(error)
            if before == OK:
                log.warning("not ready: %s", error.__cause__ or error)
        else:
            if before != OK:
                log.info("ready again: the database answers")
        self._asked_at_s = time.monotonic()
