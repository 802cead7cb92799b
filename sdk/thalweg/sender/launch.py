"""Starts the sender from the training process. The only module of this package that it imports.

The sender is a fresh interpreter in a session of its own, not a `multiprocessing` child: it needs no
`__main__` guard, inherits no lock and no descriptor, and outlives the training process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from thalweg.spool import layout

_ROOT: Final = Path(__file__).parents[2]
# `-m` would put the working directory, with whatever modules lie there, before everything else.
_ENTRY: Final = "import sys; sys.path[0] = sys.argv.pop(1); from thalweg.sender.main import main; main()"


_started: list[SenderProcess] = []


class SenderProcess:
    """A started sender, as far as its parent has to do with it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._is_gone = False

    def is_running(self) -> bool:
        """Whether it still runs. Reaps it if it does not."""
        if not self._is_gone:
            try:
                self._is_gone = os.waitpid(self.pid, os.WNOHANG)[0] == self.pid
            except ChildProcessError:  # somebody else has reaped it
                self._is_gone = True
        return not self._is_gone

    def terminate(self) -> None:
        """Asks it to come to its end."""
        if self.is_running():
            os.kill(self.pid, signal.SIGTERM)


def start_sender(folder: Path, token: str | None, system_interval_s: float) -> SenderProcess:
    """Starts the process that delivers `folder`, with its output in sender.log. Raises OSError.

    It is handed a pidfd of this process: even if this process is gone before the sender has started, the
    sender can tell how it ended.
    """
    environment = dict(os.environ)
    if token:
        environment["THALWEG_TOKEN"] = token
    pidfd = _own_pidfd()
    try:
        with (folder / layout.LOG_FILE).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  # our own interpreter and arguments
                [sys.executable, "-c", _ENTRY, str(_ROOT), str(folder), str(system_interval_s), str(pidfd)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                pass_fds=() if pidfd < 0 else (pidfd,),
            )
    finally:
        if pidfd >= 0:
            os.close(pidfd)
    process.returncode = 0  # it outlives us on purpose: without this, Popen warns of that when it is collected
    _started[:] = [earlier for earlier in _started if earlier.is_running()]  # reaps those of runs that are over
    _started.append(SenderProcess(process.pid))
    return _started[-1]


def _own_pidfd() -> int:
    """A pidfd of this process; -1 where the system has none."""
    try:
        return os.pidfd_open(os.getpid())
    except (OSError, AttributeError):
        return -1
