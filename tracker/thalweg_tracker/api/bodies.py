"""Refuses a body past the limit while it comes in: FastAPI holds bodies in memory, whole."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thalweg_tracker.model import limits


class BodyLimit:
    """ASGI middleware. What reads a body that is too large gets HTTPException 413."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on; counts what it reads."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = Headers(scope=scope).get("content-length", "")
        size = int(told) if told.isdecimal() else 0
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            if size <= limits.BODY_MAX_BYTES:
                message = await receive()
                seen += len(message.get("body", b""))
            if max(size, seen) > limits.BODY_MAX_BYTES:
                raise HTTPException(413, f"the body has more than {limits.BODY_MAX_BYTES} bytes")
            return message

        await self._app(scope, counted, send)
