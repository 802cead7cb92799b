"""Asks the server that owns a data folder for what only it can do. On the standard library: the command is no SDK."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from thalweg_tracker.errors import RejectedError, TrackerError

_ANSWER_TIMEOUT_S: Final = 60.0


class OwnerError(TrackerError):
    """The server that owns the folder refused, or cannot be reached."""


class Owner:
    """The HTTP API of the server on this host that owns a folder."""

    def __init__(self, url: str, environ: Mapping[str, str]) -> None:
        """`environ`: THALWEG_TOKEN is sent, THALWEG_CA_FILE is trusted.

        With TLS the server is asked by the name that is on its certificate: THALWEG_URL, if that is set.
        """
        self._url = (environ.get("THALWEG_URL") or url) if url.startswith("https:") else url
        self._token = environ.get("THALWEG_TOKEN", "").strip()
        trusted = ssl.create_default_context(cafile=environ.get("THALWEG_CA_FILE") or None)
        if certificate := environ.get("THALWEG_CLIENT_CERT"):
            trusted.load_cert_chain(certificate, environ.get("THALWEG_CLIENT_KEY"))
        self._opener = build_opener(ProxyHandler({}), HTTPSHandler(context=trusted))  # it is on this host

    def __str__(self) -> str:
        return self._url

    def ask(self, method: str, path: str, body: object | None = None) -> Any:
        """The JSON answer. Raises RejectedError for what the server refuses, OwnerError."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = Request(f"{self._url}/api/v1{path}", data, headers, method=method)  # noqa: S310  # told by the owner
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            with self._opener.open(request, timeout=_ANSWER_TIMEOUT_S) as answer:
                return json.load(answer)
        except HTTPError as error:
            raise _refusal(error, self._url) from error
        except (URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise OwnerError(f"cannot reach the server at {self._url}, which owns the folder: {reason}") from error


def _refusal(error: HTTPError, url: str) -> TrackerError:
    try:
        told = json.loads(error.read())["error"]
        return RejectedError(str(told["code"]), str(told["message"]), str(told["hint"]))
    except (ValueError, KeyError, TypeError, OSError):
        return OwnerError(f"the server at {url} answered {error.code} {error.reason}")
