"""The server's roles as processes, on a database of a ClickHouse server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "thalweg.cli.main"]


@dataclass(frozen=True)
class Role:
    """A process of one role, and what it said when it was ready."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]
    log: Path


@contextmanager
def role(log: Path, *arguments: str, store: str = "", **variables: str) -> Iterator[Role]:
    """A server command for the time of the block; it must end with exit status 0."""
    environment = {**os.environ, **({"THALWEG_STORE": store} if store else {}), **variables}
    with (
        log.open("ab") as stderr,
        subprocess.Popen(
            [*COMMAND, *arguments, "--json"], env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        try:
            yield Role(process, json.loads(line), log)
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(60)
    assert status == 0, log.read_text()


def migrated(store: str) -> str:
    """The same store, after `thalweg migrate`."""
    environment = {**os.environ, "THALWEG_STORE": store}
    subprocess.run([*COMMAND, "migrate"], env=environment, check=True, capture_output=True, timeout=60)
    return store
