"""Processes that trackers start: their CPU, and their end. Exact on Linux; elsewhere to a hundredth of a second."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import sys
import time
from collections.abc import Collection

import psutil

_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Makes this process the parent of those below it that lose theirs, so that none is overlooked."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def cpu_s(server_pid: int | None) -> float:
    """CPU so far of this process and all below it, living or ended, and of a server with all below it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = time.process_time() + used.ru_utime + used.ru_stime
    others = _below(os.getpid())
    if server_pid is not None:
        others += [psutil.Process(server_pid), *_below(server_pid)]
    return own + sum(map(_cpu_of, others))


def let_end(kept: Collection[int], wait_s: float) -> int:
    """Waits for the processes below this one but for `kept`; kills those that are there still, and says how many."""
    left = [one for one in _below(os.getpid()) if one.pid not in kept]
    _, alive = psutil.wait_procs(left, timeout=wait_s)
    for one in alive:
        one.kill()
    psutil.wait_procs(alive, timeout=10)
    return len(alive)


def family(pid: int) -> set[int]:
    """A process and all below it."""
    return {pid, *(one.pid for one in _below(pid))}


def last_line(text: str) -> str:
    """What a process said last, without places on this machine."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return re.sub(r"\S*/\S*", "...", lines[-1]).rstrip(".")[:200] if lines else "it said nothing"


def _below(pid: int) -> list[psutil.Process]:
    return list(psutil.Process(pid).children(recursive=True))


def _cpu_of(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
        ended_s = float(times.children_user + times.children_system)
        if sys.platform == "linux":
            try:
                return ended_s + time.clock_gettime(
                    (~process.pid << 3) | 2
                )  # its own clock, see clock_getcpuclockid(3)
            except OSError:  # it has ended and was not waited for
                pass
        return ended_s + float(times.user + times.system)
    except psutil.NoSuchProcess:  # it has ended just now
        return 0.0
