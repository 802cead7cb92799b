"""How far an upload or download is: told to the user's function, or said on a line from time to time. Thread-safe."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from thalweg.console import say

Progress = Callable[[int, int], object]
"""Is called with the bytes that are there, and all bytes. From one thread at a time, not always the caller's."""

SAY_EVERY_S: Final = 10.0


class Reporter:
    """Counts the bytes of one transfer."""

    def __init__(self, what: str, total_bytes: int, progress: Progress | None, monotonic: Callable[[], float]) -> None:
        """`what`: "uploading ckpt", for the lines that are said without `progress`."""
        self._what = what
        self._total_bytes = total_bytes
        self._done_bytes = 0
        self._of_file: dict[str, int] = {}
        self._progress = progress or self._say
        self._monotonic = monotonic
        self._due_s = monotonic() + SAY_EVERY_S  # a short transfer says nothing
        self._lock = threading.Lock()

    def add(self, path: str, size_bytes: int) -> None:
        """Takes note of bytes of a file that are there now."""
        with self._lock:
            self._of_file[path] = self._of_file.get(path, 0) + size_bytes
            self._done_bytes += size_bytes
            self._progress(self._done_bytes, self._total_bytes)

    def take_back(self, path: str) -> None:
        """A file begins anew."""
        with self._lock:
            self._done_bytes -= self._of_file.pop(path, 0)

    def _say(self, done_bytes: int, total_bytes: int) -> None:
        if self._monotonic() >= self._due_s:
            self._due_s = self._monotonic() + SAY_EVERY_S
            percent = 100 * done_bytes // max(total_bytes, done_bytes, 1)
            say(f"{self._what}: {percent} % of {format_bytes(total_bytes)}")


def format_bytes(size_bytes: int) -> str:
    """A size as people read it: 1.5 GB."""
    size, units = float(size_bytes), ["kB", "MB", "GB", "TB"]
    unit = "bytes"
    while size >= 999.95 and units:
        size, unit = size / 1000, units.pop(0)
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
