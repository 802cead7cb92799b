"""A server process as an operator runs it: with any options, its log on a file, and asked over HTTP."""

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


@dataclass(frozen=True)
class Running:
    """A server command, what it said when it was ready, and where its log is."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]
    log: Path

    def terminate(self) -> None:
        """Tells it to stop; does not wait."""
        self.process.send_signal(signal.SIGTERM)

    def lines(self) -> list[dict[str, Any]]:
        """Its log so far, of a server that logs in JSON: every whole line must be an object."""
        return [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]


@contextmanager
def serving(log: Path, *arguments: str, **variables: str) -> Iterator[Running]:
    """`thalweg ARGUMENTS --json` for the time of the block; it must end with exit status 0."""
    command = [sys.executable, "-m", "thalweg.cli.main", *arguments, "--json"]
    environment = {**os.environ, **variables}
    with (
        log.open("ab") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        try:
            yield Running(process, json.loads(line), log)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            status = process.wait(60)
    assert status == 0, log.read_text()
