"""Spool folders as training processes leave them behind."""

from __future__ import annotations

import json
import os
import socket
from array import array
from pathlib import Path
from typing import Any

from thalweg.spool import layout, process
from thalweg.spool.writer import SpoolWriter

GONE_PID = 2**22 + 1  # above the greatest pid of Linux
FINISHED = {"outcome": "finished", "exit_code": 0}
AT_EXIT = {"outcome": "finished", "exit_code": None, "at_exit": True}


def make_folder(
    spool: Path, run_id: str = "r1", *, frames: int = 3, alive: bool = False, last_word: Any = None, **identity: Any
) -> Path:
    """The folder of a writer that logged so many frames, and whose process is this one or gone."""
    usual = {
        "project": "p",
        "run_id": run_id,
        "rank": 0,
        "writer": layout.new_writer_id(),
        "url": "http://127.0.0.1:1",  # refuses connections
        "host": socket.gethostname(),
        "pid": os.getpid() if alive else GONE_PID,
        "process_started": process.started_s(os.getpid()),
        "primary": True,
        "mode": "offline",
    }
    folder = layout.create_folder(spool, layout.Identity(**{**usual, **identity}))
    writer = SpoolWriter(folder, limit_bytes=1 << 30, segment_bytes=1 << 16)
    for step in range(frames):
        schema = writer.declare(("loss",), 1)
        writer.append_frame(schema, float(step), 1_700_000_000_000_000 + step, array("d", [1.0]))
    if last_word is not None:
        event = {"time_us": 1_700_000_000_000_000, "kind": "ended", **last_word}
        writer.append_event(json.dumps(event).encode())
    writer.close()
    return folder
