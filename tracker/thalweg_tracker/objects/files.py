"""The store of the embedded default: a folder on the server's disk, reached through our own signed URLs.

    FOLDER/…                    the objects: see `tree`
    FOLDER/.thalweg/url.key     the key of the URLs
    FOLDER/.thalweg/uploads/    uploads under way, and for a while those that are complete: see `drafts`

The routes that the URLs lead to are in `thalweg_tracker.api.objects`. Disk work runs in the store's own threads;
an upload is touched by one of them at a time. One process has the folder.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
import re
import secrets
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, ParamSpec, TypeVar
from urllib.parse import quote, urlencode
from weakref import WeakValueDictionary

from thalweg_tracker.errors import NotFoundError, RejectedError
from thalweg_tracker.model.settings import FileObjects
from thalweg_tracker.objects import keys
from thalweg_tracker.objects.contract import MIB, URL_LIFETIME_S, ObjectInfo, Part
from thalweg_tracker.objects.drafts import MAX_PARTS, PART_BYTES, Draft, checked_size, upload_not_found
from thalweg_tracker.objects.signing import check_signature, load_key, signature
from thalweg_tracker.objects.tree import Tree

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

ROUTES: Final = "/api/v1/objects"
UPLOAD_KEPT_S: Final = 7 * 24 * 3600
"""An upload to which nothing happened for this long is removed."""
SWEEP_EVERY_S: Final = 3600
PARTS_AT_ONCE: Final = 16
"""Parts held in memory; further ones wait unread."""
PARTS_PER_PROJECT: Final = PARTS_AT_ONCE // 2
"""Of these, what one project may take, however slowly its parts come. There are as many threads to write them."""
PART_TIMEOUT_S: Final = 300
"""A part that takes longer to arrive gives its place up."""
THREADS: Final = 8

_UPLOAD_ID: Final = re.compile(r"[0-9a-f]{32}")


class FileStore:
    """Objects in a folder. See contract."""

    def __init__(self, settings: FileObjects, clock: Callable[[], float] = time.time) -> None:
        self._tree = Tree(settings.folder)
        self._uploads = self._tree.own / "uploads"
        self._clock = clock
        self._key = b""
        self._swept_s = 0.0
        self._locks = [threading.Lock() for _ in range(64)]  # of uploads, by their ids
        self._places = asyncio.Semaphore(PARTS_AT_ONCE)
        self._of_project: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()  # that have parts
        self._threads = ThreadPoolExecutor(THREADS, "objects")  # a slow disk delays nothing else

    @property
    def max_parts(self) -> int:
        """See contract."""
        return MAX_PARTS

    def describe(self) -> str:
        """See contract."""
        return f"folder {self._tree.root}"

    def covers(self, uri: str) -> bool:
        """See contract."""
        return self._tree.covers(uri)

    def readable(self, uri: str) -> bool:
        """See contract."""
        return self._tree.readable(uri)

    def downloadable(self, uri: str) -> bool:
        """See contract. Else anyone who may log a checkpoint could fetch any file that the server may read."""
        return self.covers(uri) and not uri.endswith("/")

    def uri_for(self, *parts: str) -> str:
        """See contract."""
        return keys.file_uri(f"{self._tree.root}/{keys.join_key(parts)}")

    def part_bytes(self, size_bytes: int) -> int:
        """See contract."""
        if size_bytes > MAX_PARTS * PART_BYTES:
            most = MAX_PARTS * PART_BYTES
            raise RejectedError("too_large", f"cannot store {size_bytes} bytes in one object: at most {most}")
        return PART_BYTES

    async def __aenter__(self) -> FileStore:
        """Makes the folder and its key. Raises ObjectStoreError."""
        await self._in_thread(self._open)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Lets what is under way end. The store cannot be opened again."""
        await asyncio.to_thread(self._threads.shutdown)

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._threads.submit(function, *args, **kwargs))

    def _open(self) -> None:
        with self._tree.failures("open"):
            self._uploads.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._tree.own.chmod(0o700)
            self._sweep()
        self._key = load_key(self._tree.own / "url.key")

    async def check(self) -> None:
        """See contract."""
        await self._in_thread(self._check)

    def _check(self) -> None:
        with self._tree.failures("write to"), tempfile.TemporaryFile(dir=self._tree.own) as file:
            file.write(b"\0")

    async def begin_upload(self, uri: str) -> str:
        """See contract."""
        self._tree.object_path(uri)
        upload_id = secrets.token_hex(16)
        await self._in_thread(self._begin, upload_id, uri)
        return upload_id

    def _begin(self, upload_id: str, uri: str) -> None:
        with self._tree.failures("begin an upload in"):
            if self._clock() - self._swept_s > SWEEP_EVERY_S:
                self._sweep()
            Draft.begin(self._uploads / upload_id, uri)

    async def list_parts(self, uri: str, upload_id: str) -> list[Part]:
        """See contract."""
        return await self._in_thread(self._list_parts, uri, upload_id)

    def _list_parts(self, uri: str, upload_id: str) -> list[Part]:
        with self._upload(upload_id, uri) as draft:
            if not draft.is_open():
                raise upload_not_found(upload_id)
            return draft.parts()

    async def presign_part(self, uri: str, upload_id: str, number: int) -> str:
        """See contract."""
        if not 1 <= number <= MAX_PARTS or not _UPLOAD_ID.fullmatch(upload_id):
            raise RejectedError("bad_parts", f"there is no part {number} of an upload {upload_id[:64]!r}")
        query = self._signed("PUT", (uri, upload_id, str(number)))
        return f"{ROUTES}/uploads/{upload_id}/{number}?{query}"

    async def presign_get(self, uri: str) -> str:
        """See contract."""
        self._tree.object_path(uri)
        return f"{ROUTES}/content?{urlencode({'uri': uri}, quote_via=quote, safe='/')}&{self._signed('GET', (uri,))}"

    def _signed(self, method: str, subject: tuple[str, ...]) -> str:
        expires_s = int(self._clock()) + URL_LIFETIME_S
        return f"expires={expires_s}&signature={signature(self._key, method, subject, expires_s)}"

    async def receive_part(
        self, upload_id: str, number: int, expires_s: int, given: str, md5: str | None, body: AsyncIterator[bytes]
    ) -> str:
        """What a PUT to a presigned URL does; `md5` is its Content-MD5. Returns the etag.

        Raises RejectedError "bad_signature", "url_expired", "part_too_large", "part_too_slow", "bad_digest",
        NotFoundError "upload_not_found", ObjectStoreFullError, ObjectStoreError.
        """
        uri = await self._in_thread(self._uri_of, upload_id)
        check_signature(self._key, "PUT", (uri, upload_id, str(number)), expires_s, given, self._clock())
        async with self._places_of(self._tree.first_level(uri)), self._places:
            try:
                content = await asyncio.wait_for(_read(body, number), PART_TIMEOUT_S)
            except asyncio.TimeoutError as error:
                slow = f"part {number} did not arrive within {PART_TIMEOUT_S} s"
                raise RejectedError("part_too_slow", slow, "Send it again.") from error
            return await self._in_thread(self._put, uri, upload_id, number, md5, content)

    def _places_of(self, project: str) -> asyncio.Semaphore:
        """Its own places. A part waits for one of these first, so that no more of a project wait for the store's."""
        return self._of_project.setdefault(project, asyncio.Semaphore(PARTS_PER_PROJECT))

    def _uri_of(self, upload_id: str) -> str:
        with self._upload(upload_id) as draft:
            return draft.uri()

    def _put(self, uri: str, upload_id: str, number: int, md5: str | None, content: bytes) -> str:
        digest = hashlib.md5(content, usedforsecurity=False).digest()
        if md5 is not None and _decoded(md5) != digest:
            wrong = f"the bytes of part {number} are not those of Content-MD5"
            raise RejectedError("bad_digest", wrong, "Send it again.")
        with self._upload(upload_id, uri) as draft:
            draft.put(number, content, digest)
        return digest.hex()

    async def complete_upload(self, uri: str, upload_id: str, parts: Sequence[tuple[int, str]]) -> ObjectInfo:
        """See contract."""
        return await self._in_thread(self._complete, uri, upload_id, parts)

    def _complete(self, uri: str, upload_id: str, parts: Sequence[tuple[int, str]]) -> ObjectInfo:
        self._tree.object_path(uri)
        with self._upload(upload_id, uri) as draft:
            size_bytes = checked_size(parts, draft.parts())
            if draft.is_open():
                draft.finish(size_bytes)
                self._tree.move_in(draft.file, uri)
            found = self._tree.head(uri)
        if found is None or found.size_bytes != size_bytes:  # completed before, and deleted or replaced since
            raise upload_not_found(upload_id)
        return found

    async def abort_upload(self, uri: str, upload_id: str) -> None:
        """See contract."""
        await self._in_thread(self._abort, uri, upload_id)

    def _abort(self, uri: str, upload_id: str) -> None:
        try:
            with self._upload(upload_id, uri) as draft:
                draft.remove()
        except NotFoundError:
            return

    async def head(self, uri: str) -> ObjectInfo | None:
        """See contract."""
        return await self._in_thread(self._tree.head, uri)

    async def list_objects(self, uri: str, limit: int) -> list[ObjectInfo]:
        """See contract."""
        return await self._in_thread(self._tree.list_objects, uri, limit)

    async def content(self, uri: str, expires_s: int, given: str) -> tuple[str, ObjectInfo]:
        """What a GET of a presigned URL reads: a path and what is there.

        Raises RejectedError "bad_signature", "url_expired", NotFoundError "object_not_found", ObjectStoreError.
        """
        check_signature(self._key, "GET", (uri,), expires_s, given, self._clock())
        path = self._tree.object_path(uri)
        found = await self._in_thread(self._tree.head, uri)
        if found is None:
            raise NotFoundError("object_not_found", f"there is no object {uri}")
        return path, found

    async def delete(self, uris: Sequence[str]) -> dict[str, str]:
        """See contract."""
        for uri in uris:
            self._tree.object_path(uri)  # all or none
        return await self._in_thread(self._delete, uris)

    def _delete(self, uris: Sequence[str]) -> dict[str, str]:
        failed = {}
        for uri in uris:
            try:
                why = self._tree.delete(uri)
            except RejectedError as error:  # a symbolic link is on the way
                why = error.message
            if why:
                failed[uri] = why
        return failed

    @contextmanager
    def _upload(self, upload_id: str, uri: str | None = None) -> Iterator[Draft]:
        """An upload, for this thread alone. Raises NotFoundError if it is not there, or not that of `uri`."""
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise upload_not_found(upload_id)
        with self._locks[int(upload_id[:8], 16) % len(self._locks)], self._tree.failures("use the upload", upload_id):
            draft = Draft(self._uploads / upload_id)
            if uri is not None and draft.uri() != uri:
                raise upload_not_found(upload_id)
            yield draft

    def _sweep(self) -> None:
        """Removes uploads that nobody goes on with."""
        self._swept_s = self._clock()
        for folder in [one for one in self._uploads.iterdir() if _UPLOAD_ID.fullmatch(one.name)]:
            with self._upload(folder.name) as draft:
                if self._swept_s - draft.touched_s() > UPLOAD_KEPT_S:
                    log.info("removing the upload %s: nothing happened to it for %d s", folder.name, UPLOAD_KEPT_S)
                    draft.remove()


async def _read(body: AsyncIterator[bytes], number: int) -> bytes:
    content = bytearray()
    async for piece in body:
        content += piece
        if len(content) > PART_BYTES:
            raise RejectedError("part_too_large", f"part {number} has more than {PART_BYTES // MIB} MiB")
    return bytes(content)


def _decoded(md5: str) -> bytes | None:
    try:
        return base64.b64decode(md5, validate=True)
    except (binascii.Error, ValueError):  # the latter for what is not ASCII
        return None
