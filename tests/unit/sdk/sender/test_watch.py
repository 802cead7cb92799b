"""How real processes end, as a stranger sees it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from thalweg.sender.watch import UNKNOWN, Ending, ProcessWatch, is_running
from thalweg.spool import process

GONE_PID = 2**22 + 1
"""Above the greatest pid of Linux."""

WAITING = "import sys; print('ready', flush=True); code = sys.stdin.read(); import os; code and os._exit(int(code))"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the exit status written to its stdin."""
    command = [sys.executable, "-c", WAITING]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    yield started
    started.kill()
    started.wait()
    for pipe in (started.stdin, started.stdout):
        if pipe is not None:
            pipe.close()


def end_with(child: subprocess.Popen[str], status: str) -> None:
    """Lets the child end itself."""
    assert child.stdin is not None
    child.stdin.write(status)
    child.stdin.close()


def watch_while(child: subprocess.Popen[str], act: Callable[[], Any], *, reap: bool) -> Ending:
    """What a watch sees of a process that `act` ends; with `reap`, its parent takes the status at once."""

    async def run() -> Ending:
        watch = ProcessWatch(child.pid, process.started_s(child.pid))
        ended = asyncio.create_task(watch.ended())
        await asyncio.sleep(0)
        assert not ended.done()
        act()
        if reap:
            await asyncio.to_thread(child.wait)
        seen = await asyncio.wait_for(ended, 30)
        watch.close()
        return seen

    return asyncio.run(run())


@pytest.mark.parametrize("status", [0, 3, 255])
def test_exit_code_of_a_zombie(child: subprocess.Popen[str], status: int) -> None:
    """While nobody has reaped it, its exit code is read."""
    assert watch_while(child, lambda: end_with(child, str(status)), reap=False) == Ending(status, None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_signal_of_a_zombie(child: subprocess.Popen[str], number: signal.Signals) -> None:
    """A process that a signal ended has a signal and no exit code."""
    assert watch_while(child, lambda: child.send_signal(number), reap=False) == Ending(None, int(number))


def test_reaped_at_once_is_known_or_unknown_never_wrong(child: subprocess.Popen[str]) -> None:
    """Where the parent is quicker, the answer is the truth or, on older kernels, nothing."""
    assert watch_while(child, lambda: end_with(child, "3"), reap=True) in (Ending(3, None), UNKNOWN)


def test_process_that_is_gone_is_told_at_once() -> None:
    """No such pid: nobody can tell how it ended."""
    assert asyncio.run(asyncio.wait_for(ProcessWatch(GONE_PID, 1.0).ended(), 5)) == UNKNOWN


def test_later_process_with_the_same_pid_is_another(child: subprocess.Popen[str]) -> None:
    """A pid that was used again does not keep a dead writer alive."""
    started_s = process.started_s(child.pid)
    assert is_running(child.pid, started_s)
    assert not is_running(child.pid, started_s - 5)
    watch = ProcessWatch(child.pid, started_s - 5)
    assert asyncio.run(asyncio.wait_for(watch.ended(), 5)) == UNKNOWN
    assert child.poll() is None
    watch.close()


def test_zombie_is_not_running(child: subprocess.Popen[str]) -> None:
    """A process that has ended and was not reaped writes nothing more."""
    started_s = process.started_s(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_running(child.pid, started_s)


def test_pidfd_of_a_process_that_ended_before_the_watch(child: subprocess.Popen[str]) -> None:
    """With a pidfd that was handed over, the end is told even if it came first."""
    started_s, pidfd = process.started_s(child.pid), os.pidfd_open(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    watch = ProcessWatch(child.pid, started_s, pidfd)
    assert asyncio.run(asyncio.wait_for(watch.ended(), 5)) == Ending(None, signal.SIGKILL)
    watch.close()


def test_start_time_does_not_depend_on_the_clock() -> None:
    """The start time counts from boot: a clock that is set makes no other process of a training."""
    with Path("/proc/uptime").open() as file:
        uptime_s = float(file.read().split()[0])
    assert 0 < process.started_s(os.getpid()) <= uptime_s
    assert process.started_s(GONE_PID) == 0.0


@pytest.mark.parametrize(
    ("ending", "outcome", "exception"),
    [
        (Ending(0, None), "finished", ""),
        (Ending(3, None), "failed", ""),
        (Ending(None, 9), "killed", "killed by SIGKILL"),
        (Ending(None, 64), "killed", "killed by SIGRTMAX"),
        (Ending(None, 50), "killed", ""),
        (UNKNOWN, "lost", ""),
    ],
)
def test_ending_as_event(ending: Ending, outcome: str, exception: str) -> None:
    """Each way to end has its outcome."""
    event = ending.as_event(7)
    assert (event["outcome"], event["exception"], event["time_us"]) == (outcome, exception, 7)
    assert (event["exit_code"], event["signal"]) == (ending.exit_code, ending.signal)


@pytest.mark.parametrize(
    ("ending", "word", "confirmed"),
    [
        (UNKNOWN, {"exit_code": 3}, True),
        (Ending(0, None), {"exit_code": 0}, True),
        (Ending(0, None), {"exit_code": None}, True),
        (Ending(0, None), {"exit_code": 3}, False),
        (Ending(3, None), {"exit_code": 3}, True),
        (Ending(1, None), {"exit_code": 0}, False),
        (Ending(None, 9), {"exit_code": 0}, False),
        (Ending(None, 2), {"exit_code": None, "signal": 2}, True),
        (Ending(1, None), {"exit_code": None, "signal": 2}, False),
    ],
)
def test_ending_confirms_a_word(ending: Ending, word: dict[str, Any], confirmed: bool) -> None:
    """An ending adds nothing where nobody could tell it, or where it says the same."""
    assert ending.confirms(word) is confirmed
