"""Which hosts of a store answer, and in which order connections try them. Knows no protocol.

Each place in a pool begins at another host, so that connections spread evenly. A host that went away comes last until a
thread, which runs only while there is such a host, finds that it answers again; then its connections go back to it.
Threads: any.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

log = logging.getLogger(__name__)

Host = tuple[str, int]

LOOK_EVERY_S: Final = 1.0


class Hosts:
    """The hosts of a store."""

    def __init__(self, hosts: Sequence[Host], answers: Callable[[Host], bool]) -> None:
        """`answers`: whether a host takes statements, asked of those that went away."""
        self._hosts = tuple(hosts)
        self._answers = answers
        self._lock = threading.Lock()
        self._away: set[Host] = set()
        self._looking: threading.Thread | None = None
        self._is_closed = threading.Event()

    def order(self, place: int) -> list[Host]:
        """All hosts, the one to use first."""
        first = place % len(self._hosts)
        turned = self._hosts[first:] + self._hosts[:first]
        return sorted(turned, key=self._away.__contains__)  # stable

    @property
    def away(self) -> list[Host]:
        """Those that went away and do not answer yet."""
        return sorted(self._away)

    def went_away(self, host: Host) -> None:
        """Notes that a call failed with this host. Of a lone host nothing is noted: there is no choice."""
        with self._lock:
            if len(self._hosts) == 1 or host in self._away or self._is_closed.is_set():
                return
            self._away = self._away | {host}
            log.warning("ClickHouse at %s:%d went away; the other hosts are used", *host)
            if self._looking is None:
                self._looking = threading.Thread(target=self._look, name="hosts")
                self._looking.start()

    def _look(self) -> None:
        while not self._is_closed.wait(LOOK_EVERY_S):
            for host in self._away:
                if not self._is_closed.is_set() and self._answers(host):
                    log.warning("ClickHouse at %s:%d answers again", *host)
                    with self._lock:
                        self._away = self._away - {host}
            with self._lock:
                if not self._away:
                    self._looking = None
                    return

    def close(self) -> None:
        """Stops looking; waits for a look that is under way."""
        with self._lock:
            self._is_closed.set()
            looking = self._looking
        if looking is not None:
            looking.join()
