"""A server of uploads, and a pace without waiting."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import pytest

from tests.support.upload_server import UploadServer, serve
from thalweg.checkpoints.transfer import Pace


@pytest.fixture
def server() -> Iterator[UploadServer]:
    """A fresh server."""
    with serve() as running:
        yield running


@dataclass
class Clock:
    """Time moves only where somebody waits, or the test says so."""

    now_s: float = 0.0
    waits_s: list[float] = field(default_factory=list)

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Waits not at all."""
        self.waits_s.append(seconds)
        self.now_s += seconds

    def pace(self) -> Pace:
        """For uploads and downloads."""
        return Pace(self.wait, lambda: self.now_s, Random(7))


@pytest.fixture
def clock() -> Clock:
    """A clock of the test's own."""
    return Clock()


def content(size_bytes: int, seed: int = 1) -> bytes:
    """Bytes of which no two parts are alike."""
    return b"".join(hashlib.sha256(b"%d %d" % (seed, block)).digest() for block in range(size_bytes // 32 + 1))[
        :size_bytes
    ]
