"""What the parts of an upload under way need: their URLs, and memory. Thread-safe; no request of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from thalweg.checkpoints.transfer import RefusedError, RetryLaterError, Transfer

PARTS_AT_ONCE: Final = 4
PARTS_IN_MEMORY: Final = PARTS_AT_ONCE + 2
MEMORY_BYTES: Final = 256 << 20

_USE_OF_LIFETIME: Final = 0.8


@dataclass(frozen=True, slots=True)
class UploadAnswer:
    """The server's answer to the begin of an upload."""

    uri: str
    folder_uri: str
    upload_id: str
    part_bytes: int
    done: dict[int, tuple[str, int]]  # by number: etag and size
    urls: dict[int, str]
    expires_s: float

    @classmethod
    def read(cls, document: Any) -> UploadAnswer:
        """Raises RefusedError."""
        try:
            return cls(
                uri=str(document["uri"]),
                folder_uri=str(document["folder_uri"]),
                upload_id=str(document["upload_id"]),
                part_bytes=max(int(document["part_bytes"]), 1),
                done={int(one["number"]): (str(one["etag"]), int(one["size_bytes"])) for one in document["done"]},
                urls={int(one["number"]): str(one["url"]) for one in document["parts"]},
                expires_s=float(document["expires_s"]),
            )
        except (KeyError, TypeError, ValueError) as error:  # something else answers there
            raise RefusedError(
                f"its answer is not understood ({error!r}). Is the server older than this SDK?"
            ) from error

    def parts(self, size_bytes: int) -> Iterator[tuple[int, int]]:
        """Number and size of each part of a file. An empty file is one empty part."""
        for number in range(1, max(1, -(-size_bytes // self.part_bytes)) + 1):
            yield number, min(self.part_bytes, size_bytes - (number - 1) * self.part_bytes)


class PartUrls:
    """The URLs of one file's parts, fresh ones where they are missing or old. Thread-safe."""

    def __init__(self, answer: UploadAnswer, again: Callable[[], UploadAnswer], monotonic: Callable[[], float]) -> None:
        self._again = again
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self.is_forgotten = False
        self._take_over(answer)

    def _take_over(self, answer: UploadAnswer) -> None:
        self._urls = dict(answer.urls)
        self._done = answer.done
        self._good_until_s = self._monotonic() + _USE_OF_LIFETIME * answer.expires_s

    def find(self, number: int, size_bytes: int) -> tuple[str, str]:
        """URL of a part, or its etag where it has arrived after all. Raises RetryLaterError, ForgottenError."""
        with self._lock:
            if number not in self._urls or self._monotonic() >= self._good_until_s:
                self._take_over(self._again())
            url = self._urls.get(number, "")
            etag, arrived_bytes = self._done.get(number, ("", -1))
        if url:
            return url, ""
        if arrived_bytes != size_bytes:
            raise RetryLaterError("the server names no URL for it")
        return "", etag

    def drop(self, number: int, url: str) -> None:
        """This URL did not work."""
        with self._lock:
            if self._urls.get(number) == url:
                del self._urls[number]


class Room:
    """Memory for the parts under way: PARTS_IN_MEMORY of them, and MEMORY_BYTES, but one in any case. Thread-safe."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self._parts = 0
        self._used_bytes = 0
        self._changed = threading.Condition()

    def take(self, size_bytes: int) -> None:
        """Waits for room. Raises StoppedError."""
        with self._changed:
            while self._parts and (self._parts >= PARTS_IN_MEMORY or self._used_bytes + size_bytes > MEMORY_BYTES):
                self._transfer.check()
                self._changed.wait()
            self._parts += 1
            self._used_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """A part is away."""
        with self._changed:
            self._parts -= 1
            self._used_bytes -= size_bytes
            self._changed.notify_all()
