"""Tells a process from a later one with the same pid, by its start time."""

from __future__ import annotations

import os
from pathlib import Path


def started_s(pid: int) -> float:
    """Start time of a process; 0.0 if it is gone. Linux: seconds since boot; elsewhere: since the epoch.

    Since boot, because a clock that is set while a training runs must not make another process of it.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return _created_s(pid)
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _created_s(pid: int) -> float:
    import psutil  # late: a training process on Linux does without it

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0
