"""An upload on its way into a folder: the draft of the object, and which of its parts are in it.

    FOLDER/upload.json   the uri
    FOLDER/draft         the parts, each at its offset; moved away when the upload is complete
    FOLDER/parts         for each part a record of 32 bytes at its place: size, MD5, CRC-32; zeros: not here

A part is on the disk before its record is written, and its record is gone before it is overwritten: what is
listed is there, also after a loss of power. Callers see to it that an upload is touched by one thread at a time.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from thalweg_tracker.errors import NotFoundError, RejectedError
from thalweg_tracker.objects.contract import Part

PART_BYTES: Final = 8 << 20
"""Of each part but the last. Below BODY_MAX_BYTES of the API."""
MAX_PARTS: Final = 1_000_000

_RECORD: Final = struct.Struct("<I16sI8x")
_NO_RECORD: Final = bytes(_RECORD.size)


class Draft:
    """One upload."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "draft"
        self._parts = folder / "parts"

    @classmethod
    def begin(cls, folder: Path, uri: str) -> Draft:
        """Makes an upload. Raises OSError."""
        folder.mkdir(mode=0o700)
        draft = cls(folder)
        try:
            for path in (draft.file, draft._parts):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            (folder / "upload.json").write_text(json.dumps({"uri": uri}))
        except OSError:
            draft.remove()
            raise
        return draft

    def uri(self) -> str:
        """Where the object will be. Raises NotFoundError "upload_not_found", OSError."""
        with self._found():
            return str(json.loads((self.folder / "upload.json").read_text())["uri"])

    def is_open(self) -> bool:
        """Whether it takes parts: it is there, and not complete."""
        return self.file.exists()

    def put(self, number: int, body: bytes, digest: bytes) -> None:
        """Writes a part with its MD5, through to the disk. Raises NotFoundError, OSError."""
        with self._opened(self.file) as draft, self._opened(self._parts) as parts:
            if self._record(parts, number) != _NO_RECORD:
                os.pwrite(parts, _NO_RECORD, (number - 1) * _RECORD.size)
                os.fdatasync(parts)
            _pwrite(draft, body, (number - 1) * PART_BYTES)
            os.fdatasync(draft)
            record = _RECORD.pack(len(body), digest, _checksum(number, len(body), digest))
            _pwrite(parts, record, (number - 1) * _RECORD.size)

    def parts(self) -> list[Part]:
        """What has arrived, by number; also after completion. Raises NotFoundError, OSError."""
        with self._found():
            content = self._parts.read_bytes()
        found = []
        for number in range(1, len(content) // _RECORD.size + 1):
            size_bytes, digest, checksum = _RECORD.unpack_from(content, (number - 1) * _RECORD.size)
            if checksum and checksum == _checksum(number, size_bytes, digest):
                found.append(Part(number, digest.hex(), size_bytes))
        return found

    def finish(self, size_bytes: int) -> None:
        """Cuts the draft to its size and brings it to the disk. Raises NotFoundError, OSError."""
        with self._opened(self.file) as draft:
            os.ftruncate(draft, size_bytes)
            os.fsync(draft)

    def touched_s(self) -> float:
        """When something last happened to it, since the epoch. Raises OSError."""
        paths = (self.folder, self.file, self._parts)
        return max(path.stat().st_mtime for path in paths if path.exists())

    def remove(self) -> None:
        """Removes all of it. Raises OSError; what is not there is no error."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    @contextmanager
    def _opened(self, path: Path) -> Iterator[int]:
        with self._found():
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _found(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise upload_not_found(self.folder.name) from error

    @staticmethod
    def _record(parts: int, number: int) -> bytes:
        return os.pread(parts, _RECORD.size, (number - 1) * _RECORD.size).ljust(_RECORD.size, b"\0")


def upload_not_found(upload_id: str) -> NotFoundError:
    """The one error for uploads that are not there, or no more."""
    return NotFoundError(
        "upload_not_found",
        f"there is no upload {upload_id[:64]!r}: it was completed, aborted or removed",
        "Begin again.",
    )


def checked_size(asked: Sequence[tuple[int, str]], arrived: Sequence[Part]) -> int:
    """The size of the object that the asked parts (number, etag) make. Raises RejectedError "bad_parts". Pure."""
    by_number = {part.number: part for part in arrived}
    if [number for number, _ in asked] != list(range(1, len(asked) + 1)) or not asked:
        raise RejectedError("bad_parts", f"the parts are to be 1, 2 .. in order, all of them; {len(asked)} were named")
    size_bytes = 0
    for number, etag in asked:
        part = by_number.get(number)
        if part is None or part.etag != etag.strip('"'):
            why = "has not arrived" if part is None else f"arrived with the etag {part.etag}, not {etag[:64]}"
            raise RejectedError(
                "bad_parts", f"cannot complete the upload: part {number} {why}", "Send that part again."
            )
        if part.size_bytes != PART_BYTES and number < len(asked):
            raise RejectedError(
                "bad_parts",
                f"cannot complete the upload: part {number} has {part.size_bytes} bytes; all but the last are to have"
                f" {PART_BYTES}",
                "Send that part again.",
            )
        size_bytes += part.size_bytes
    return size_bytes


def _pwrite(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)  # may write less, where the disk is nearly full
        view, offset = view[written:], offset + written


def _checksum(number: int, size_bytes: int, digest: bytes) -> int:
    return zlib.crc32(struct.pack("<QI16s", number, size_bytes, digest)) or 1  # 0 is a part that is not here
