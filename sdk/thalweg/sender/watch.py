"""How a process that is not our child ended. Linux: a pidfd; elsewhere: whether the pid is still there.

The exit code is only known for certain where the kernel tells it to strangers (PIDFD_GET_INFO, Linux
6.15 and later) or where the process stays a zombie long enough to read /proc/<pid>/stat.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from thalweg.spool import process

# struct pidfd_info of <linux/pidfd.h>: mask u64, cgroup u64, 11 ids u32, exit_code i32: 64 bytes.
_PIDFD_INFO: Final = struct.Struct("<QQ11Ii")
_PIDFD_INFO_EXIT: Final = 1 << 3
_PIDFD_GET_INFO: Final = (3 << 30) | (_PIDFD_INFO.size << 16) | (0xFF << 8) | 11
_POLL_S: Final = 0.01
_SAME_S: Final = 0.5
_POLLS_FOR_STATUS: Final = 100


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended. Both None: nobody could tell."""

    exit_code: int | None
    signal: int | None

    def confirms(self, word: Mapping[str, Any]) -> bool:
        """Whether it adds nothing to a writer's own last word, said before the process was gone."""
        if self.signal is None and self.exit_code is None:
            return True
        return (self.signal, self.exit_code or 0) == (word.get("signal"), word.get("exit_code") or 0)

    def as_event(self, time_us: int) -> dict[str, Any]:
        """The spool event that says so."""
        if self.signal is not None:
            outcome = "killed"
        elif self.exit_code is None:
            outcome = "lost"
        else:
            outcome = "finished" if self.exit_code == 0 else "failed"
        return {
            "time_us": time_us,
            "kind": "ended",
            "outcome": outcome,
            "exit_code": self.exit_code,
            "signal": self.signal,
            "exception": f"killed by {signal.Signals(self.signal).name}" if self.signal in _SIGNALS else "",
        }


_SIGNALS: Final = frozenset(int(number) for number in signal.Signals)
UNKNOWN: Final = Ending(None, None)


class ProcessWatch:
    """Watches one process, told apart from a later one with the same pid by its start time."""

    def __init__(self, pid: int, started_s: float, pidfd: int = -1) -> None:
        """Takes over `pidfd`, if it is not negative: one that the process opened of itself."""
        self._pid = pid
        self._started_s = started_s
        self._pidfd = pidfd if pidfd >= 0 else self._open()

    def _open(self) -> int | None:
        try:
            pidfd = os.pidfd_open(self._pid)
        except (OSError, AttributeError):
            return None
        if self._is_same():
            return pidfd
        os.close(pidfd)
        return None

    def _is_same(self) -> bool:
        return is_running(self._pid, self._started_s)

    async def ended(self) -> Ending:
        """Waits until the process is gone and tells how. At once if it was gone from the start."""
        if self._pidfd is None:
            while self._is_same():
                await asyncio.sleep(0.2)
            return UNKNOWN
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        loop.add_reader(self._pidfd, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(self._pidfd)
        return await self._status(self._pidfd)

    async def _status(self, pidfd: int) -> Ending:
        """The wait status. A stranger may read it while the process is a zombie, or from the pidfd afterwards."""
        for _ in range(_POLLS_FOR_STATUS):
            status = _status_from_proc(self._pid)
            if status is None:
                status = _status_from_pidfd(pidfd)
            if status is not None:
                return _as_ending(status)
            if not _is_zombie(self._pid) and not psutil.pid_exists(self._pid):
                break
            await asyncio.sleep(_POLL_S)
        status = _status_from_pidfd(pidfd)
        return UNKNOWN if status is None else _as_ending(status)

    def close(self) -> None:
        """Gives the pidfd back."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def is_running(pid: int, started_s: float) -> bool:
    """Whether the very process with this start time is still there, zombies excepted."""
    return abs(process.started_s(pid) - started_s) < _SAME_S and psutil.pid_exists(pid) and not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _status_from_proc(pid: int) -> int | None:
    """Field 52 of /proc/<pid>/stat of a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[49]) if fields[0] == "Z" else None


def _status_from_pidfd(pidfd: int) -> int | None:
    request = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *([0] * 13)))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, request)
    except OSError:
        return None
    fields = _PIDFD_INFO.unpack(request)
    return int(fields[-1]) if fields[0] & _PIDFD_INFO_EXIT else None


def _as_ending(status: int) -> Ending:
    if os.WIFSIGNALED(status):
        return Ending(None, os.WTERMSIG(status))
    return Ending(os.waitstatus_to_exitcode(status), None)
