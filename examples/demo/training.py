"""Runs of the example training, each in a process of its own as a user would start it, with its output shown."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console

from examples.demo.errors import DemoError
from examples.demo.folder import CHECKPOINTS, SPOOL
from examples.demo.server import STOP_TIMEOUT_S

_FRAME = ("  File ", "    ")  # how the lines of a traceback begin that lie between its first and its last


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training printed at its end: the truth that the recorded run is held against."""

    run_id: str
    steps: int
    scores: dict[str, str]  # metric -> its last value, as printed


def train(console: Console, run_id: str, options: Sequence[str], url: str) -> Trained:
    """Trains. Raises DemoError where that does not end well."""
    status, result = _run(console, run_id, options, url)
    if status != 0 or not result:
        raise DemoError(f"the training {run_id} ended without a result, with exit status {status}")
    numbers = dict(re.findall(r"(\S+) (\S+)", result.removeprefix("result:")))
    return Trained(run_id, int(numbers.pop("step")), numbers)


def crash(console: Console, run_id: str, options: Sequence[str], url: str) -> None:
    """Trains, which has to fail. Raises DemoError where it does not."""
    status, _ = _run(console, run_id, options, url)
    if status == 0:
        raise DemoError(f"the training {run_id} was to fail, and did not")


def _run(console: Console, run_id: str, options: Sequence[str], url: str) -> tuple[int, str]:
    """Exit status, and the line with the result."""
    arguments = ["-m", "examples.digits", "--run-id", run_id, *options]
    console.print(f"$ {shlex.join(['python', *arguments])}", style="bold", markup=False, soft_wrap=True)
    result = ""
    with _running([sys.executable, *arguments, "--checkpoints", str(CHECKPOINTS)], url) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.startswith(_FRAME):
                console.print("  " + line.rstrip(), markup=False, soft_wrap=True)
            result = line if line.startswith("result:") else result
    console.print()
    return process.returncode, result


@contextmanager
def _running(command: Sequence[str], url: str) -> Iterator[subprocess.Popen[str]]:
    """A training whose output can be read. Leaving the block waits for its end, or brings it about after an error."""
    settings = {
        "THALWEG_URL": url,
        "THALWEG_SPOOL_DIR": str(SPOOL),
        "THALWEG_SYSTEM_INTERVAL_S": "1",
        "PYTHONUNBUFFERED": "1",
    }
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("THALWEG_")}
    process = subprocess.Popen(
        command,
        env=inherited | settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # one Ctrl-C, from here: a second would disturb its last word to the server
    )
    with process:
        try:
            yield process
        except BaseException:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=STOP_TIMEOUT_S)
            finally:
                process.kill()  # nothing happens to one that has ended
            raise
