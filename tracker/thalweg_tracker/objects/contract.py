"""What the rest of the server may ask of a store of checkpoints.

Bytes do not pass through the callers: training hosts PUT parts to, and GET objects from, presigned URLs.

Guarantees of every store:
 * an object is there whole or not at all: what readers see changes only in `complete_upload`, atomically;
 * after `complete_upload` the object survives the end of this process and a loss of power;
 * an upload survives a restart of the server: its parts are listed, its URLs stay good until they expire;
 * parts may come in any order, several at a time, and again: of the same number, the last one counts;
 * etags are without quotes, and are taken with or without; the etag of a part is in the ETag of the answer to
   its PUT; a PUT with Content-MD5 is refused if its bytes are others;
 * nothing outside the store's own place is ever written or deleted: those methods raise RejectedError "not_covered";
 * errors are RejectedError and NotFoundError for the caller's fault, ObjectStoreError for the operator's; no
   message has a secret in it.

A store is open within `async with`, and is used by the event loop that opened it. `open` asks nothing of a
network; `check` does. What is no coroutine is pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

URL_LIFETIME_S: Final = 3600
"""Presigned URLs are good for this long. Credentials of AWS that end sooner end theirs."""
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as its store describes it."""

    uri: str
    size_bytes: int
    etag: str
    """Changes whenever the content does. Without quotes."""
    version: str
    """Empty where the store keeps no versions, and in lists."""
    modified_at: datetime
    """In UTC."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part that has arrived. Numbers begin with 1."""

    number: int
    etag: str
    size_bytes: int


class ObjectStore(Protocol):
    """A place for objects, named by URIs. A URI that ends with "/" is a folder: a common begin of URIs."""

    @property
    def max_parts(self) -> int:
        """The greatest number of a part."""

    def describe(self) -> str:
        """One line for people: what and where."""

    def covers(self, uri: str) -> bool:
        """Whether objects may be written, listed and deleted there: below the store's bucket and prefix, or its folder.

        Of the spellings of a file:// URI only that of `uri_for` is covered.
        """

    def readable(self, uri: str) -> bool:
        """Whether `head` may be asked: the whole bucket; any absolute file:// path."""

    def downloadable(self, uri: str) -> bool:
        """Whether `presign_get` may be asked: objects that the store covers."""

    def uri_for(self, *parts: str) -> str:
        """The URI of these parts, one level each, below the store's prefix. An empty last part: of a folder.

        Any text is one level: what could leave it or is no plain letter is quoted as =XX, and a level too long for
        a file system is cut and ends in its hash. Different parts have different URIs. Raises RejectedError
        "bad_key" for an empty part, "key_too_long".
        """

    def part_bytes(self, size_bytes: int) -> int:
        """The size of each part but the last, for an object of this size. Raises RejectedError "too_large"."""

    async def check(self) -> None:
        """Looks whether the place is there and may be used. Raises ObjectStoreError."""

    async def begin_upload(self, uri: str) -> str:
        """The id of a new upload to this place. What is there stays until the upload is complete."""

    async def list_parts(self, uri: str, upload_id: str) -> list[Part]:
        """The parts that have arrived, by number. Raises NotFoundError "upload_not_found"."""

    async def presign_part(self, uri: str, upload_id: str, number: int) -> str:
        """The URL to PUT a part to: absolute, or a path of this server. Does not look whether the upload is there."""

    async def complete_upload(self, uri: str, upload_id: str, parts: Sequence[tuple[int, str]]) -> ObjectInfo:
        """Makes the object of these parts, given as (number, etag); returns it as the store shows it afterwards.

        Asked again after its answer was lost, it answers again. Raises NotFoundError "upload_not_found",
        RejectedError "bad_parts" (the upload goes on, missing parts may still come), ObjectStoreError.
        """

    async def abort_upload(self, uri: str, upload_id: str) -> None:
        """Throws an upload and its parts away. An upload that is gone is no error."""

    async def head(self, uri: str) -> ObjectInfo | None:
        """The object; None if there is none. Raises RejectedError "not_readable"."""

    async def list_objects(self, uri: str, limit: int) -> list[ObjectInfo]:
        """The first objects by URI, at most `limit`, on all levels below a folder that is covered.

        Raises RejectedError "not_readable".
        """

    async def presign_get(self, uri: str) -> str:
        """The URL to GET the object from, with Range: absolute, or a path of this server. Asks nothing of the store."""

    async def delete(self, uris: Sequence[str]) -> dict[str, str]:
        """Deletes objects. Returns why for those that could not be; one that is not there counts as deleted."""

    async def __aenter__(self) -> ObjectStore: ...

    async def __aexit__(self, *exc_info: object) -> None: ...
