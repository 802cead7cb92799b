"""Runs without a server, and scripts as real processes, whose spool is read back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.spools import Content, read_all, the_folder
from tests.support.waiting import wait_until
from thalweg.beginning import Beginning
from thalweg.recorder import Recorder
from thalweg.run import Run
from thalweg.settings import Settings
from thalweg.spool import layout
from thalweg.spool.state import State

NOBODY = "http://127.0.0.1:9"
"""The discard port: connections are refused."""
ROOT = Path(__file__).parents[2]


def no_fork(parent: Run, step: float, **more: Any) -> Run:
    """These runs were not made by `init`, which knows how."""
    raise AssertionError((parent, step, more))


def settings_for(spool_dir: Path, **environment: str) -> Settings:
    """Offline settings with a spool of their own; variables of this process do not count."""
    variables = {"THALWEG_URL": NOBODY, "THALWEG_MODE": "offline", **environment}
    return Settings.read(variables, spool_dir=spool_dir, system_interval_s=0, project="p")


@contextmanager
def recorded_run(spool_dir: Path, *, strict: bool = False, **environment: str) -> Iterator[Run]:
    """A run as `init()` makes it, without the capture of the environment; finished at the end."""
    settings = settings_for(spool_dir, **environment)
    recorder = Recorder(settings, "r", next_step=0.0, strict=strict)
    run = Run(Beginning("r"), settings, recorder, on_finish=lambda run: None, on_fork=no_fork)
    try:
        yield run
    finally:
        run.finish()


def logged(spool_dir: Path) -> Content:
    """What the one writer of a spool wrote."""
    return read_all(the_folder(spool_dir), writer_ended=False)


def counters(spool_dir: Path) -> dict[str, int]:
    """Counters of the one writer of a spool."""
    state = State(the_folder(spool_dir))
    try:
        return state.counters()
    finally:
        state.close()


def run_script(
    spool_dir: Path, script: str, *, before_reaping: Callable[[], object] = lambda: None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs a script without a `__main__` guard, offline by default.

    Until `before_reaping` returns the process stays a zombie, whose end any kernel tells to strangers.
    """
    spool_dir.mkdir(parents=True, exist_ok=True)
    path = spool_dir.parent / "train.py"
    path.write_text(script)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("THALWEG_")},
        "THALWEG_URL": NOBODY,
        "THALWEG_MODE": "offline",
        "THALWEG_SPOOL_DIR": str(spool_dir),
        "THALWEG_SYSTEM_INTERVAL_S": "0",
        "PYTHONPATH": str(ROOT),
        **variables,
    }
    command = [sys.executable, str(path)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        before_reaping()
        stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def sealed_word(folder: Path, **fields: Any) -> dict[str, Any]:
    """The last word of a folder, once its sender has let go of it and the word has these fields."""

    def word() -> dict[str, Any]:
        found = read_all(folder, writer_ended=False).last_word
        return found if found and all(found.get(key) == value for key, value in fields.items()) else {}

    return wait_until(word)


def other_folders(spool_dir: Path, known: Path) -> list[Path]:
    """Folders of a spool but one."""
    return [folder for folder in layout.writer_folders(spool_dir) if folder != known]
