"""A file while it arrives: its bytes, their digest, and the etag of what they are a part of.

One thread. The bytes survive a crash of this process; the next one goes on after them.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from thalweg.checkpoints.manifest import DIGEST_PREFIX

_BLOCK_BYTES: Final = 1 << 20


class Sink:
    """Use as a context manager. Raises OSError."""

    def __init__(self, path: Path) -> None:
        """Goes on with what lies at `path`."""
        self._path = path
        self._etag_path = path.with_name(f"{path.name}.etag")
        self._stream = path.open("a+b")
        self._digest = hashlib.sha256()
        self.size_bytes = 0
        self.etag: str | None = None
        """Of the object of which the bytes are the begin; None where there are none, empty if it has none."""
        with suppress(FileNotFoundError):
            self.etag = self._etag_path.read_text()
        self._stream.seek(0)
        while block := self._stream.read(_BLOCK_BYTES):
            self._digest.update(block)
            self.size_bytes += len(block)
        if self.etag is None:
            self.restart()

    def restart(self) -> None:
        """Throws the bytes away."""
        self._stream.truncate(0)
        self._etag_path.unlink(missing_ok=True)
        self._digest = hashlib.sha256()
        self.size_bytes = 0
        self.etag = None

    def begin(self, etag: str) -> None:
        """Before the first byte: of what they will be."""
        assert not self.size_bytes, self.size_bytes
        self._etag_path.write_text(etag)
        self.etag = etag

    def write(self, block: bytes) -> None:
        """Appends."""
        self._stream.write(block)
        self._digest.update(block)
        self.size_bytes += len(block)

    @property
    def digest(self) -> str:
        """Of all bytes."""
        return f"{DIGEST_PREFIX}{self._digest.hexdigest()}"

    def move_to(self, place: Path) -> None:
        """Gives the whole file its name."""
        self._stream.close()
        self._path.replace(place)
        self._etag_path.unlink(missing_ok=True)

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
