"""How much memory a process takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil


class Peak:
    """The most memory that a process was seen to hold."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.bytes = self._process.memory_info().rss

    @contextmanager
    def watched(self) -> Iterator[Peak]:
        """Looks again and again meanwhile."""
        stop = threading.Event()

        def look() -> None:
            while not stop.wait(0.02):
                self.bytes = max(self.bytes, self._process.memory_info().rss)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()
