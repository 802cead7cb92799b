"""Stores of objects for tests: opened, with what their URLs lead to, and a client that knows only HTTP."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI

from tests.support.clickhouse_server import LOOPBACK
from thalweg_tracker.api.bodies import BodyLimit
from thalweg_tracker.api.errors import add_handlers
from thalweg_tracker.api.objects import make_object_router
from thalweg_tracker.model.settings import FileObjects, ObjectSettings
from thalweg_tracker.objects.contract import ObjectInfo, ObjectStore
from thalweg_tracker.objects.files import FileStore
from thalweg_tracker.objects.s3 import S3Store


@dataclass(frozen=True, slots=True)
class Answer:
    """To a request; header names in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def etag(self) -> str:
        """As it came, with its quotes."""
        return self.headers["etag"]


@dataclass(frozen=True, slots=True)
class Opened:
    """A store, and the server that its relative URLs are for."""

    store: ObjectStore
    server: str = ""

    async def put(self, url: str, body: bytes, md5_of: bytes | None = None) -> Answer:
        """PUT, with the Content-MD5 of what is told, else of the body."""
        digest = hashlib.md5(body if md5_of is None else md5_of).digest()
        return await self.ask("PUT", url, body, {"Content-MD5": base64.b64encode(digest).decode()})

    async def get(self, url: str, byte_range: str | None = None) -> Answer:
        """GET, of a range such as "0-99"."""
        return await self.ask("GET", url, None, {"Range": f"bytes={byte_range}"} if byte_range else {})

    async def ask(self, method: str, url: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        """One request on a connection of its own."""
        return await asyncio.to_thread(request, method, self.server + url, body, headers)

    async def upload(self, uri: str, bodies: Sequence[bytes]) -> ObjectInfo:
        """A whole upload of these parts."""
        upload_id = await self.store.begin_upload(uri)
        etags = []
        for number, body in enumerate(bodies, 1):
            answer = await self.put(await self.store.presign_part(uri, upload_id, number), body)
            assert answer.status == 200, answer
            etags.append((number, answer.etag))
        return await self.store.complete_upload(uri, upload_id, etags)


def request(method: str, url: str, body: bytes | None, headers: dict[str, str]) -> Answer:
    """By http.client: what any training host has."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body, headers)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


@dataclass
class Clock:
    """A time that goes on when told."""

    now_s: float = field(default=1_700_000_000.0)

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def opened_store(settings: ObjectSettings, clock: Clock | None = None) -> AsyncIterator[Opened]:
    """The store of these settings. Failures of S3 are tried once: who waits for another try opens it themselves."""
    if isinstance(settings, FileObjects):
        async with FileStore(settings, clock) if clock else FileStore(settings) as files, serving(files) as server:
            yield Opened(files, server)
    else:
        async with S3Store(settings, attempts=1) as store:
            yield Opened(store)


@asynccontextmanager
async def serving(store: FileStore) -> AsyncIterator[str]:
    """The address of an HTTP server of a store of files, in this event loop."""
    app = FastAPI()
    app.include_router(make_object_router(store))
    add_handlers(app)
    app.add_middleware(BodyLimit)
    config = uvicorn.Config(app, host=LOOPBACK, port=0, log_config=None, access_log=False)
    socket = config.bind_socket()
    socket.listen(64)  # from here on clients may connect, and wait for uvicorn
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve([socket]))  # `serve` would take the signals of the test process
    try:
        yield f"http://{LOOPBACK}:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        socket.close()
