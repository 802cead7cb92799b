"""A small client of the HTTP API on the standard library. Owns requests and their errors; no retries.

Thread-safe: it holds no connection.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import BaseHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from thalweg.carets import underlined
from thalweg.errors import NotFoundError, ServerError, UnreachableError
from thalweg.tls import https_context

ARROW_STREAM: Final = "application/vnd.apache.arrow.stream"
PAGE_MAX: Final = 1000
"""Most entries of a list that a server gives at once."""
_STREAM_BUFFER_BYTES: Final = 1 << 20


class ApiClient:
    """Requests to one server's `/api/v1`."""

    def __init__(self, url: str, token: str | None = None, timeout_s: float = 60.0) -> None:
        """`url`: the server's HTTP address, without the path. `timeout_s`: of each wait for the network.

        Raises SettingError where a file of TLS that the environment names cannot be used.
        """
        self.url = url
        self._token = token
        self._timeout_s = timeout_s
        handlers: list[BaseHandler] = [ProxyHandler({})] if _is_loopback(url) else []
        if url.startswith("https:"):
            handlers.append(HTTPSHandler(context=https_context()))
        self._opener = build_opener(*handlers)

    def get(self, path: str, **query: object) -> Any:
        """The JSON answer to GET; queries that are None are left out. Raises ServerError, NotFoundError."""
        given = {key: value for key, value in query.items() if value is not None}
        asked = path + ("?" + urlencode(given, doseq=True) if given else "")
        return self._json(asked, None)

    def pages(self, path: str, field: str, *, limit: int | None = None, **query: object) -> Iterator[dict[str, Any]]:
        """The entries `field` of a list, page after page, at most `limit`. Raises ServerError, NotFoundError."""
        left = limit
        cursor = None
        while left is None or left > 0:
            size = PAGE_MAX if left is None else min(left, PAGE_MAX)
            page = self.get(path, limit=size, cursor=cursor, **query)
            yield from page[field][:size]
            left = None if left is None else left - len(page[field])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def post(self, path: str, body: object, *, timeout_s: float | None = None) -> Any:
        """The JSON answer to POST. `timeout_s`: of each wait of this one. Raises ServerError, NotFoundError."""
        return self._json(path, body, timeout_s)

    def put(self, path: str, body: object) -> Any:
        """The JSON answer to PUT. Raises ServerError, NotFoundError."""
        return self._json(path, body, method="PUT")

    def delete(self, path: str, **query: object) -> Any:
        """The JSON answer to DELETE; None where it says nothing. Raises ServerError, NotFoundError."""
        given = {key: value for key, value in query.items() if value is not None}
        return self._json(path + ("?" + urlencode(given) if given else ""), None, method="DELETE")

    def post_for_arrow(self, path: str, body: object) -> bytes:
        """The whole answer to POST as an Arrow IPC stream. Raises ServerError, NotFoundError."""
        with self.stream_arrow(path, body) as stream:
            return stream.read()

    @contextmanager
    def stream_arrow(self, path: str, body: object) -> Iterator[io.BufferedReader]:
        """The answer to POST as an Arrow IPC stream to read from while it comes.

        Raises ServerError, NotFoundError; reading raises ServerError where the answer breaks off.
        """
        with self._open(path, body, ARROW_STREAM) as response:
            yield io.BufferedReader(_Body(response, self.url), _STREAM_BUFFER_BYTES)

    def get_with_headers(self, path: str) -> tuple[Any, Message]:
        """The JSON answer to GET, and its headers. Raises ServerError, NotFoundError."""
        with self._open(path, None, "application/json") as response:
            return self._read(response, path), response.headers

    def _json(self, path: str, body: object | None, timeout_s: float | None = None, method: str | None = None) -> Any:
        with self._open(path, body, "application/json", timeout_s, method) as response:
            return self._read(response, path)

    def _read(self, response: HTTPResponse, path: str) -> Any:
        text = io.BufferedReader(_Body(response, self.url)).read()
        try:
            return json.loads(text) if text or response.status != HTTPStatus.NO_CONTENT else None
        except ValueError as error:
            raise ServerError(
                f"cannot read the answer of {self.url}{path}: it is not JSON. Is this address a Thalweg server?"
            ) from error

    def _open(
        self, path: str, body: object | None, accept: str, timeout_s: float | None = None, method: str | None = None
    ) -> HTTPResponse:
        """The answer; `method` None: POST where there is a body, else GET."""
        request = Request(  # noqa: S310  # the scheme was checked by settings
            f"{self.url}/api/v1{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Accept": accept, "Content-Type": "application/json"},
            method=method,
        )
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            response: HTTPResponse = self._opener.open(request, timeout=timeout_s or self._timeout_s)
            return response
        except HTTPError as error:
            with error:
                raise _as_server_error(error) from error
        except (URLError, OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error or type(error).__name__
            raise UnreachableError(
                f"cannot reach {self.url}: {reason}. Is the server running? (`thalweg up`)"
            ) from error


class _Body(io.RawIOBase):
    """The body of an answer as a file whose early end is a ServerError, not an end of file."""

    def __init__(self, response: HTTPResponse, url: str) -> None:
        self._response = response
        self._url = url

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        try:
            size = self._response.readinto(buffer)
        except (OSError, HTTPException) as error:
            raise ServerError(f"the answer of {self._url} broke off: {error!r}") from error
        if not size and len(buffer) and self._response.length:  # http.client says no more than "end of file"
            raise ServerError(f"the answer of {self._url} broke off: {self._response.length} bytes are missing")
        return size


def _is_loopback(url: str) -> bool:
    """Whether the server is on this host: no proxy can reach it, though http_proxy may be set."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def segment(text: str) -> str:
    """One segment of a path, quoted."""
    return quote(text, safe="")


def run_path(project: str, run_id: str) -> str:
    """Path of a run."""
    return f"/projects/{segment(project)}/runs/{segment(run_id)}"


def retry_after_s(status: int, headers: Message) -> float:
    """After how long the server says that what a limit refused may go; 0: it says nothing, or none refused it."""
    text = headers.get("Retry-After", "")
    return float(text) if status == HTTPStatus.TOO_MANY_REQUESTS and re.fullmatch("[0-9]{1,9}", text) else 0.0


def _as_server_error(error: HTTPError) -> ServerError:
    kind = NotFoundError if error.code == 404 else ServerError
    after_s = retry_after_s(error.code, error.headers)
    wait = f"Ask again in {after_s:.0f} s." if after_s else ""
    try:
        told = json.loads(error.read())["error"]
        message = _sentences(told["message"], wait or told.get("hint"))
    except (ValueError, KeyError, TypeError, AttributeError, OSError, HTTPException):
        return kind(_sentences(f"{error.url}: {error.code} {error.reason}", wait), retry_after_s=after_s)
    span, expression = _span(told), str(told.get("expression") or "")
    if span and expression:
        message += "\n" + underlined(expression, span)
    code = str(told.get("code", ""))
    return kind(message, code=code, span=span, expression=expression, retry_after_s=after_s)


def _sentences(message: str, hint: str | None) -> str:
    if not hint:
        return message
    return f"{message} {hint}" if message.endswith((".", "?", "!")) else f"{message}. {hint}"


def _span(told: dict[str, Any]) -> tuple[int, int] | None:
    """The part of an expression that an error is about, if it is about one."""
    match told.get("span"):
        case [int(start), int(end)]:
            return start, end
    return None
