"""A canned server, and a way to call commands in this process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sdk.cli.canned_server import CannedServer, serve
from thalweg.cli.main import run_command


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.out)


Command = Callable[..., Outcome]


@pytest.fixture
def canned() -> Iterator[CannedServer]:
    with serve() as server:
        yield server


@pytest.fixture
def thalweg(
    canned: CannedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Runs a command against the canned server, with an environment and working directory of its own."""
    for name in [name for name in os.environ if name.startswith("THALWEG_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("THALWEG_URL", canned.url)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Outcome:
        status = run_command(list(arguments))
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run
