"""The demo's folder, .demo/: the only place that it writes to. Owns its making, emptying, and the logs in it."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import Final

from rich.console import Console

from examples.demo.errors import FolderError

FOLDER: Final = Path(".demo")
MARKER: Final = FOLDER / "made-by-thalweg-demo"  # only a folder with this file is ever removed
DATA: Final = FOLDER / "data"
SPOOL: Final = FOLDER / "spool"
CHECKPOINTS: Final = FOLDER / "checkpoints"
SERVER_LOG: Final = FOLDER / "server.log"

LOG_TAIL_LINES: Final = 30


def prepare_folder() -> None:
    """Makes an empty folder. Raises FolderError where the one that is there is not ours, or in use."""
    if FOLDER.exists():
        if not MARKER.is_file():
            raise FolderError(f"cannot empty {FOLDER}: it lacks {MARKER.name}, so no demo made it. Remove it yourself.")
        if (DATA / "owner.json").exists():
            with (DATA / "owner.json").open("rb") as owner:
                try:
                    fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise FolderError(f"cannot empty {FOLDER}: a server serves {DATA}. Stop it first.") from None
        shutil.rmtree(FOLDER)
    FOLDER.mkdir()
    MARKER.touch()


def spool_is_empty() -> bool:
    """Whether the server has acknowledged everything: only then a sender removes its folder of the spool."""
    return not any(SPOOL.glob("*/writer.json"))


def show_log_tails(console: Console) -> None:
    """Prints the end of the server's log, and of the log of each sender that has not delivered everything."""
    for log in (SERVER_LOG, *SPOOL.glob("*/sender.log")):
        if log.exists():
            console.print(f"the end of {log}:")
            for line in log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]:
                console.print("  " + line, markup=False, soft_wrap=True)
