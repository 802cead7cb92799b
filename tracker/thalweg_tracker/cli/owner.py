"""Asks the server that owns a data folder for what only it can do. On the standard library: the command is no SDK.

An address alone does not say whose folder a server has: THALWEG_URL may lead to another one, and so may an address of
another host that shares the folder. So a server is asked for its instance, which the owner's note in the folder names,
before it is asked for anything else.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from thalweg_tracker.errors import RejectedError, TrackerError

_ANSWER_TIMEOUT_S: Final = 60.0


class OwnerError(TrackerError):
    """The server that owns the folder refused, or cannot be reached, or another one answers."""


class Owner:
    """The HTTP API of the server that owns a folder. Single-threaded."""

    def __init__(self, url: str, instance: str | None, environ: Mapping[str, str]) -> None:
        """`url` and `instance`: from the note in the folder. `environ`: THALWEG_TOKEN is sent, THALWEG_CA_FILE trusted.

        With TLS the server is asked by the name that is on its certificate: THALWEG_URL, if that is set. Raises
        OwnerError where a file that is named there cannot be used.
        """
        named = environ.get("THALWEG_URL", "").rstrip("/") if url.startswith("https:") else ""
        self._url = named or url
        self._is_named = bool(named)
        self._noted_url, self._instance = url, instance
        self._is_known = False
        self._token = environ.get("THALWEG_TOKEN", "").strip()
        tls = [HTTPSHandler(context=_context(environ))] if self._url.startswith("https:") else []
        self._opener = build_opener(ProxyHandler({}), *tls)  # it is on this host

    def __str__(self) -> str:
        return self._url

    def ask(self, method: str, path: str, body: object | None = None) -> Any:
        """The JSON answer. Raises RejectedError for what the server refuses, OwnerError.

        Before the first request the server has shown that it owns the folder; one that does not is asked for nothing.
        """
        if not self._is_known:
            self._check_instance()
            self._is_known = True
        return self._request(method, path, body)

    def _check_instance(self) -> None:
        """Raises OwnerError where another server answers, or it cannot be told whose."""
        if not self._instance:
            raise OwnerError(
                f"cannot ask the server that owns the folder, at {self._noted_url}: it is of an older version, and left"
                " nothing to know it by. Start it again with this one, or use the command of its version."
            )
        try:
            told = self._request("GET", "/token")
        except RejectedError as error:
            if error.code != "not_found":
                hint = f" {error.hint}" if error.hint else ""
                raise OwnerError(f"cannot ask the server at {self._url}: {error.message}.{hint}") from error
            told = None  # older than the question, so not the one that left the note
        if not isinstance(told, dict) or told.get("instance") != self._instance:
            raise OwnerError(
                f"the server at {self._url} is not the one that owns the folder, which serves {self._noted_url}; it was"
                f" asked for nothing. {self._next_step()}"
            )

    def _next_step(self) -> str:
        if self._is_named:
            return "Set THALWEG_URL to the owner's address, with the name that is on its certificate."
        return "Run the command on the host of the server that owns the folder."

    def _request(self, method: str, path: str, body: object | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        try:
            request = Request(f"{self._url}/api/v1{path}", data, headers, method=method)  # noqa: S310  # told by the owner
            if self._token:
                request.add_unredirected_header("Authorization", f"Bearer {self._token}")
            with self._opener.open(request, timeout=_ANSWER_TIMEOUT_S) as answer:
                return json.load(answer)
        except HTTPError as error:
            raise _refusal(error, self._url) from error
        except (URLError, HTTPException, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            then = ". THALWEG_URL takes the name on its certificate, THALWEG_CA_FILE who signed it"
            raise OwnerError(
                f"cannot reach the server that owns the folder at {self._url}: {reason}"
                + (then if isinstance(reason, ssl.SSLError) else "")
            ) from error


def _context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Whom to believe, and how to show who asks. Raises OwnerError."""
    try:
        trusted = ssl.create_default_context(cafile=environ.get("THALWEG_CA_FILE") or None)
        if certificate := environ.get("THALWEG_CLIENT_CERT"):
            trusted.load_cert_chain(certificate, environ.get("THALWEG_CLIENT_KEY") or None)
    except OSError as error:
        files = "THALWEG_CA_FILE, THALWEG_CLIENT_CERT, THALWEG_CLIENT_KEY"
        raise OwnerError(f"cannot use the files of TLS: {error}. Correct {files}.") from error
    return trusted


def _refusal(error: HTTPError, url: str) -> TrackerError:
    try:
        told = json.loads(error.read())["error"]
        return RejectedError(str(told["code"]), str(told["message"]), str(told["hint"]))
    except (ValueError, KeyError, TypeError, OSError):
        return OwnerError(f"the server at {url} answered {error.code} {error.reason}")
