"""Compresses answers in JSON for clients that take gzip. Streams pass as they are: nothing waits here for more.

Not Starlette's middleware: that compresses on the event loop, which others wait for, and Arrow and checkpoints too.
"""

from __future__ import annotations

import asyncio
import gzip
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thalweg_tracker.model import limits

_LEVEL: Final = 1
_HERE_BYTES: Final = 64 << 10
"""Larger answers are compressed in a thread."""


class Compression:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on; compresses its answer if that is whole, JSON, and not small."""
        if scope["type"] != "http" or not _takes_gzip(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        start: Message | None = None

        async def compressed(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is None:
                await send(message)
                return
            begin, start = start, None
            headers = MutableHeaders(raw=begin["headers"])
            body = message.get("body", b"")
            if (
                not message.get("more_body", False)
                and len(body) >= limits.COMPRESS_FROM_BYTES
                and headers.get("content-type", "").startswith("application/json")
                and "content-encoding" not in headers
            ):
                short = _gzip(body) if len(body) < _HERE_BYTES else await asyncio.to_thread(_gzip, body)
                headers["Content-Encoding"] = "gzip"
                headers["Content-Length"] = str(len(short))
                headers.add_vary_header("Accept-Encoding")
                message = {**message, "body": short}
            await send(begin)
            await send(message)

        await self._app(scope, receive, compressed)


def _gzip(body: bytes) -> bytes:
    return gzip.compress(body, _LEVEL, mtime=0)


def _takes_gzip(headers: Headers) -> bool:
    """Whether `gzip` is among the encodings, and not ruled out."""
    for part in headers.get("accept-encoding", "").split(","):
        name, _, weight = part.partition(";")
        if name.strip().lower() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
