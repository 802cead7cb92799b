"""What a server's process takes: memory and CPU, as the system counts them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from thalweg.testing import ServerProcess

_EVERY_S: Final = 1.0


@contextmanager
def resident_each_second(server: ServerProcess) -> Iterator[list[float]]:
    """The MiB that are resident, once a second, as long as the block lasts."""
    found: list[float] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_EVERY_S):
            found.append(resident_mib(server))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def resident_mib(server: ServerProcess) -> float:
    """Resident now."""
    return _status_mib(server, "VmRSS")


def peak_mib(server: ServerProcess) -> float:
    """The most that was resident since the server began."""
    return _status_mib(server, "VmHWM")


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has taken so far, in user code and in the system."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _status_mib(server: ServerProcess, key: str) -> float:
    found = re.search(rf"^{key}:\s+(\d+) kB$", Path(f"/proc/{server.process.pid}/status").read_text(), re.MULTILINE)
    assert found, key
    return int(found[1]) / 1024
