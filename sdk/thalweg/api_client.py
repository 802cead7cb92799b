"""A small client of the HTTP API on the standard library. Owns requests and their errors; no retries.

Thread-safe: it holds no connection.
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

from thalweg.errors import NotFoundError, ServerError

ARROW_STREAM: Final = "application/vnd.apache.arrow.stream"


class ApiClient:
    """Requests to one server's `/api/v1`."""

    def __init__(self, url: str, token: str | None = None, timeout_s: float = 60.0) -> None:
        """`url`: the server's HTTP address, without the path."""
        self.url = url
        self._token = token
        self._timeout_s = timeout_s

    def get(self, path: str, **query: object) -> Any:
        """The JSON answer to GET; queries that are None are left out. Raises ServerError, NotFoundError."""
        given = {key: value for key, value in query.items() if value is not None}
        return json.loads(self._answer(path + ("?" + urlencode(given, doseq=True) if given else ""), None, "application/json"))

    def post(self, path: str, body: object) -> Any:
        """The JSON answer to POST. Raises ServerError, NotFoundError."""
        return json.loads(self._answer(path, body, "application/json"))

    def post_for_arrow(self, path: str, body: object) -> bytes:
        """The answer to POST as an Arrow IPC stream. Raises ServerError, NotFoundError."""
        return self._answer(path, body, ARROW_STREAM)

    def _answer(self, path: str, body: object | None, accept: str) -> bytes:
        request = Request(  # noqa: S310  # the scheme was checked by settings
            f"{self.url}/api/v1{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Accept": accept, "Content-Type": "application/json"},
        )
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with urlopen(request, timeout=self._timeout_s) as response:  # noqa: S310
                return bytes(response.read())
        except HTTPError as error:
            raise _as_server_error(error) from error
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise ServerError(f"cannot reach {self.url}: {reason}. Is the server running? (`thalweg up`)") from error


def segment(text: str) -> str:
    """One segment of a path, quoted."""
    return quote(text, safe="")


def _as_server_error(error: HTTPError) -> ServerError:
    try:
        told = json.loads(error.read())["error"]
        message = told["message"] + (f" {told['hint']}" if told.get("hint") else "")
    except (ValueError, KeyError, TypeError):
        message = f"{error.code} {error.reason}"
    kind = NotFoundError if error.code == 404 else ServerError
    return kind(f"{message}")
