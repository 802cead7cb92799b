"""`make demo`: the sequence, and how it ends.

Run it from the root of the repository with `pip install '.[server,examples]'`: `python -m examples.demo`. It writes to
`.demo/` only, ends no process but those that it started, asks nothing, and needs no terminal. Exit status: 0 if every
check held, 1 if not, 130 after Ctrl-C.
"""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final

from rich.console import Console

from examples.demo.afterwards import check_f1, define_f1, show_f1
from examples.demo.comparison import report
from examples.demo.errors import DemoError, FolderError
from examples.demo.folder import DATA, prepare_folder, show_log_tails, spool_is_empty
from examples.demo.history import FORK, RUN, check_history, make_history, show_history
from examples.demo.server import START_TIMEOUT_S, Server, health, wait_for
from examples.demo.training import train
from examples.reading import Project
from thalweg.errors import ThalwegError

PROJECT: Final = "digits"
TRAININGS: Final = {
    "fast": ["--epochs", "60", "--lr", "0.05", "--hidden", "128"],
    "slow": ["--epochs", "60", "--lr", "0.002", "--hidden", "32"],
}
DELIVERY_TIMEOUT_S: Final = 30.0


def main() -> int:
    """Runs the demo and gives its exit status."""
    console = Console(highlight=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # the tables have lines
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)  # so that these end the server too
    started_s = time.monotonic()
    try:
        prepare_folder()
        with Server() as server:
            tell(console, server)
            status = server.stop()
        if status != 0:
            raise DemoError(f"the server ended with exit status {status} instead of 0")
    except KeyboardInterrupt:
        console.print("interrupted; the server is stopped")
        return 130
    except (DemoError, ThalwegError, OSError, subprocess.CalledProcessError) as error:
        console.print(f"the demo failed: {error}", style="bold red", markup=False, soft_wrap=True)
        if not isinstance(error, FolderError):
            show_log_tails(console)
        return 1
    console.rule("7. Go on", align="left")
    show_next_steps(console)
    console.print(f"all checks passed, in {time.monotonic() - started_s:.0f} s", style="bold green")
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def tell(console: Console, server: Server) -> None:
    """The story, part by part. Raises DemoError."""
    console.rule("1. Start a server", align="left")
    client = server.wait_for_client()
    version = wait_for("the server's health", lambda: health(client), START_TIMEOUT_S)["version"]
    console.print(f"thalweg {version} serves {client.url}, data in {DATA}\n")

    console.rule("2. Train twice", align="left")
    trained = [train(console, run_id, options, client.url) for run_id, options in TRAININGS.items()]
    server.expect_alive()

    console.rule("3. Read back, check, show", align="left")
    project = Project(client, PROJECT)
    wait_for("the delivery of all records", spool_is_empty, DELIVERY_TIMEOUT_S)
    report(console, project, trained)

    console.rule("4. Crash, go on from the last checkpoint, fork at an earlier one", align="left")
    make_history(console, client.url)
    server.expect_alive()

    console.rule("5. One history", align="left")
    wait_for("the delivery of all records", spool_is_empty, DELIVERY_TIMEOUT_S)
    check_history(project, "fast")
    show_history(console, project)

    console.rule("6. A metric that nobody logged", align="left")
    define_f1(project)
    check_f1(project, [*TRAININGS, RUN, FORK])
    show_f1(console, project)


def show_next_steps(console: Console) -> None:
    """Prints commands that work from here."""
    folder = Path(sys.executable).parent
    on_path = shutil.which("thalweg") == str(folder / "thalweg")
    prefix = "" if on_path else f"{folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder}/"
    steps = {
        f"{prefix}thalweg up --data {DATA}": "serve these runs again; Ctrl-C stops it",
        f"{prefix}thalweg show {PROJECT}/base": "in another terminal: show one",
        f"{prefix}thalweg checkpoints {PROJECT}/base": "its checkpoints",
        f"{prefix}thalweg query f1 --project {PROJECT} --filter 'last(f1) > 0.9' --plot": "curves of f1",
        f"{prefix}python -m examples.digits --lr 0.1": "record one more",
        f"{prefix}python -m examples.population": "16 runs that copy the best of them",
    }
    for command, effect in steps.items():
        console.print(f"  {command:{max(map(len, steps))}}  # {effect}", markup=False, soft_wrap=True)
    console.print()


if __name__ == "__main__":
    sys.exit(main())
