"""Which answers are compressed: whole ones in JSON of some size, for clients that take gzip; no stream is held up."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message

from thalweg_tracker.api.compression import Compression
from thalweg_tracker.model import limits

LONG = {"x": ["0.5"] * limits.COMPRESS_FROM_BYTES}
HUGE = {"x": ["0.5"] * limits.COMPRESS_FROM_BYTES * 20}
ARROW = "application/vnd.apache.arrow.stream"


def answer(request: Request) -> Response:
    """The answers that the path names."""
    return {
        "/long": JSONResponse(LONG),
        "/huge": JSONResponse(HUGE, 503),
        "/short": JSONResponse({"x": 1}),
        "/arrow": Response(b"0" * 100_000, media_type=ARROW),
        "/encoded": Response(b"0" * 100_000, media_type="application/json", headers={"Content-Encoding": "br"}),
        "/stream": StreamingResponse(iter([b"0" * 100_000]), media_type="application/json"),
        "/nothing": Response(status_code=304),
    }[request.url.path]


async def ask(path: str, accepted: str) -> tuple[httpx.Headers, bytes]:
    """Headers and body of the answer to a client that takes these encodings, as they are sent."""
    app = Starlette(routes=[Route("/{name}", answer)])
    app.add_middleware(Compression)
    headers = {"Accept-Encoding": accepted}
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client,
        client.stream("GET", path, headers=headers) as got,
    ):
        return got.headers, b"".join([piece async for piece in got.aiter_raw()])


@pytest.mark.parametrize(("path", "document"), [("/long", LONG), ("/huge", HUGE)])
def test_compressed(path: str, document: dict[str, Any]) -> None:
    """The content comes back; the length is that of what is sent; caches learn on what it depends."""
    headers, body = asyncio.run(ask(path, "br, gzip;q=0.5"))
    assert headers["content-encoding"] == "gzip"
    assert int(headers["content-length"]) == len(body) < len(json.dumps(document)) / 5
    assert "Accept-Encoding" in headers["vary"]
    assert json.loads(gzip.decompress(body)) == document


@pytest.mark.parametrize("path", ["/short", "/arrow", "/stream", "/nothing"])
def test_not_compressed(path: str) -> None:
    """Short answers, other types and streams pass as they are."""
    headers, _ = asyncio.run(ask(path, "gzip"))
    assert "content-encoding" not in headers


def test_what_is_encoded_already() -> None:
    """It is not encoded again."""
    headers, body = asyncio.run(ask("/encoded", "gzip"))
    assert (headers["content-encoding"], body) == ("br", b"0" * 100_000)


@pytest.mark.parametrize("accepted", ["", "identity", "br", "gzip;q=0", "gzip; q=0.0, br"])
def test_clients_that_do_not_take_it(accepted: str) -> None:
    """A client that does not ask for gzip, or rules it out, gets the plain answer."""
    headers, body = asyncio.run(ask("/long", accepted))
    assert "content-encoding" not in headers
    assert json.loads(body) == LONG


def test_a_stream_is_not_held_up() -> None:
    """Each piece of a stream is passed on before the next one is made."""
    sent: list[Message] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for number in range(3):
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
            assert sent[-1]["body"] == b"%d" % number

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(b"accept-encoding", b"gzip")]}
    asyncio.run(Compression(app)(scope, None, send))  # type: ignore[arg-type]  # nothing is received
    assert len(sent) == 4
