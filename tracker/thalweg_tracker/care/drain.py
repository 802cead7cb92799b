"""The end of a server process: it drains until a deadline, and ends then, whatever still goes on.

Ending at once loses nothing: what was acknowledged is in the database, the rest is sent again. Draining only spares
clients that. The first SIGTERM or SIGINT begins it, a second one ends the process at once. One event loop; the deadline
has a thread, as the loop may be what hangs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from typing import Final

log = logging.getLogger(__name__)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_RESERVE_S: Final = 2.0
_RESERVE_PART: Final = 0.25
CUT_OFF: Final = 1
"""Exit status of a process that was ended at its deadline; at a second signal it is 128 and its number."""


class Drain:
    """Of one process."""

    def __init__(self, drain_s: float) -> None:
        """`drain_s`: from the first signal to the end of the process, at most."""
        self.begun = asyncio.Event()
        self._drain_s = drain_s
        self._begun_s = 0.0
        self._ended = threading.Event()

    @property
    def streams_s(self) -> float:
        """How long streams and answers may go on from now. The rest of the time is for the last commits."""
        reserve_s = min(_RESERVE_S, _RESERVE_PART * self._drain_s)
        return max(0.0, self._begun_s + self._drain_s - reserve_s - time.monotonic())

    def watch_signals(self) -> None:
        """From here on they begin the drain."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)

    def end(self) -> None:
        """The process has drained: it may end by itself, however long that takes."""
        self._ended.set()

    def _on_signal(self, number: int) -> None:
        if self.begun.is_set():
            log.warning("ended by a second signal, before all was drained")
            os._exit(128 + number)
        self._begun_s = time.monotonic()
        threading.Thread(target=self._watch, name="drain", daemon=True).start()
        log.info("stopping: taking in what is under way, for %g s at most", self._drain_s)
        self.begun.set()

    def _watch(self) -> None:
        if not self._ended.wait(self._drain_s):
            log.warning("ended after %g s, before all was drained: it is sent again", self._drain_s)
            os._exit(CUT_OFF)
