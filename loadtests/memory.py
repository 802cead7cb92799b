"""How much memory a server's process holds, as the system counts it."""

from __future__ import annotations

import re
from pathlib import Path

from thalweg.testing import ServerProcess


def resident_mib(server: ServerProcess) -> float:
    """Resident now."""
    return _status_mib(server, "VmRSS")


def peak_mib(server: ServerProcess) -> float:
    """The most that was resident since the server began."""
    return _status_mib(server, "VmHWM")


def _status_mib(server: ServerProcess, key: str) -> float:
    found = re.search(rf"^{key}:\s+(\d+) kB$", Path(f"/proc/{server.process.pid}/status").read_text(), re.MULTILINE)
    assert found, key
    return int(found[1]) / 1024
