"""Who may ask what over HTTP: tokens, their roles and projects, limits. Nothing of a request is read before that.

What a token may not have is answered before anything is looked up, so the answer tells nothing of what there is.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thalweg_tracker.access.doors import Doors
from thalweg_tracker.access.gate import OpenGate
from thalweg_tracker.access.grants import Grant, Role
from thalweg_tracker.access.store import Audited, write_audit
from thalweg_tracker.api.errors import busy_answer, error_answer
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import AccessError, EngineError, ForbiddenError, LimitedError, UnauthenticatedError
from thalweg_tracker.model.settings import is_loopback
from thalweg_tracker.objects.files import ROUTES as OBJECT_ROUTES

log = logging.getLogger(__name__)

_PUBLIC: Final = frozenset({"/api/v1/health", "/api/v1/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"})
_PROJECT: Final = "/api/v1/projects/{project}"
_READING: Final = frozenset({f"{_PROJECT}/series", f"{_PROJECT}/runs/query", f"{_PROJECT}/expressions/check"})
"""What is asked with POST because it does not fit into a URL."""
_RUN: Final = f"{_PROJECT}/runs/{{run_id}}"
_ADMINISTERED: Final = frozenset({("DELETE", _PROJECT), ("DELETE", _RUN), ("POST", f"{_RUN}/undelete")})
"""What only administrators of a project may."""
_OF_ANY_PROJECT: Final = frozenset({"/api/v1/projects", "/api/v1/token", "/api/v1/tokens", "/api/v1/tokens/{token_id}"})
"""Each token gets its own part of these."""
_EVENTS: Final = b"text/event-stream"
_PATH_MAX_CHARS: Final = 2000


def needed_role(method: str, route: str) -> Role | None:
    """The role that a route asks for; None: it asks for no token. What is not known asks for the most."""
    if route in _PUBLIC or route.startswith(f"{OBJECT_ROUTES}/"):  # the URLs of objects are permissions themselves
        return None
    if route.startswith("/api/v1/tokens"):
        return Role.ADMIN
    if route in ("/api/v1/projects", "/api/v1/token") or route in _READING:
        return Role.READ
    if route.startswith(f"{_PROJECT}/") and method in ("GET", "HEAD"):
        return Role.READ
    if route.startswith(f"{_PROJECT}/") and (method, route) not in _ADMINISTERED:
        return Role.WRITE
    return Role.ADMIN


def note(request: Request, word: str) -> None:
    """Has what a request made be written down with it."""
    request.scope["audit"]["made"] = word


def grant_of(request: Request) -> Grant:
    """What the sender of a request may do."""
    found: Grant = request.scope["grant"]
    return found


class Guard:
    """ASGI middleware: lets a request through, or answers it. Writes down what only administrators may do."""

    def __init__(self, app: ASGIApp, *, routes: Sequence[BaseRoute], doors: Doors, engine: Engine) -> None:
        self._app = app
        self._routes = routes
        self._gate, self._limiter = doors.gate, doors.limiter
        self._origins = doors.settings.origins
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, if it may."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route, project = self._find(scope)
        role = needed_role(scope["method"], route)
        headers = Headers(scope=scope)
        grant: Grant | None = None
        try:
            if isinstance(self._gate, OpenGate):
                _check_from_here(scope["method"], headers, self._origins)
            if role is not None:
                grant = await self._gate.admit(headers.get("authorization"))
                _check_grant(grant, role, route, project)
                self._limiter.request(grant, project)
        except (AccessError, EngineError) as error:
            answer = _refusal(error)
            if grant is not None and _is_audited(role, scope["method"]):
                await self._audit(scope, grant, project, answer.status_code)
            await answer(scope, receive, send)
            return
        if grant is None:
            await self._app(scope, receive, send)
            return
        scope["grant"], scope["audit"] = grant, {}
        await self._pass(scope, receive, send, grant, project, audited=_is_audited(role, scope["method"]))

    def _find(self, scope: Scope) -> tuple[str, str | None]:
        """The route that will answer, empty if there is none, and the project that it is about."""
        for route in self._routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                return getattr(route, "path", ""), child.get("path_params", {}).get("project")
        return "", None

    async def _pass(
        self, scope: Scope, receive: Receive, send: Send, grant: Grant, project: str | None, *, audited: bool
    ) -> None:
        began_s, status, took_s, has_begun = time.monotonic(), 500, None, False

        async def watched(message: Message) -> None:
            nonlocal status, took_s, has_begun
            if message["type"] == "http.response.start":
                status = message["status"]
                if any(name == b"content-type" and value.startswith(_EVENTS) for name, value in message["headers"]):
                    took_s = time.monotonic() - began_s  # events come as long as somebody listens: no cost to speak of
            else:
                # An answer that is whole was made while the token was good: that to its own revocation, for one.
                if (has_begun or message.get("more_body")) and not self._gate.is_good(grant):
                    raise _RevokedError
                has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except (_RevokedError, ClientDisconnect):
            if self._gate.is_good(grant):
                raise
            log.info(
                "cut off an answer to token %s, which is good no longer", grant.id
            )  # and never as if it were whole
        finally:
            self._limiter.answered(grant, project, time.monotonic() - began_s if took_s is None else took_s)
            if audited:
                await self._audit(scope, grant, project, status)

    async def _audit(self, scope: Scope, grant: Grant, project: str | None, status: int) -> None:
        address = (scope.get("client") or ("",))[0]
        asked = scope["path"] + f"?{scope['query_string'].decode('ascii', 'replace')}".rstrip("?")
        made = "".join(f" -> {word}" for word in scope.get("audit", {}).values())
        entry = Audited(grant.id, address, project or "", scope["method"], (asked + made)[:_PATH_MAX_CHARS], status)
        log.info("audit: %s %s by %s from %s: %d", entry.action, entry.path, entry.actor, entry.address, entry.status)
        try:
            await asyncio.to_thread(write_audit, self._engine, entry)
        except EngineError as error:
            log.error("cannot write down what %s did: %s", grant.id, error)


class SafetyHeaders:
    """ASGI middleware: headers that keep browsers from making anything else of an answer than what it is."""

    def __init__(self, app: ASGIApp, *, is_secure: bool) -> None:
        self._app = app
        self._headers = {
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
        }
        if is_secure:
            self._headers["Strict-Transport-Security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                if headers.get("content-type", "").startswith("application/json"):
                    headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


class _NotSeenError(AccessError):
    """The token is of another project."""


class _FromElsewhereError(AccessError):
    """A page of another site had a browser on this machine ask, where no token is asked for."""


class _RevokedError(OSError):
    """The token was revoked while it was answered. An OSError: so Starlette ends the answer."""


def _is_audited(role: Role | None, method: str) -> bool:
    return role is Role.ADMIN and method not in ("GET", "HEAD")


def _check_grant(grant: Grant, role: Role, route: str, project: str | None) -> None:
    """Raises AccessError. What is no route is answered as that, to whoever has a token."""
    if not route:
        return
    if route not in _OF_ANY_PROJECT and not grant.sees(project):
        raise (
            _NotSeenError(project or "")
            if project is not None
            else ForbiddenError("this is for tokens of all projects")
        )
    if grant.role < role:
        raise ForbiddenError(f"this takes a token with the role {role.name.lower()}")


def _check_from_here(method: str, headers: Headers, origins: Sequence[str]) -> None:
    """Without tokens, a web page must not reach the server through the browser of somebody on its machine.

    Neither by a name of its own that leads to this machine, nor by a form. Raises AccessError.
    """
    host = _host_of(f"//{headers.get('host', '')}")
    if not is_loopback(host):
        raise _FromElsewhereError(f"without tokens this server answers to names of this machine, not to {host[:100]!r}")
    origin = headers.get("origin")
    is_asking = method in ("GET", "HEAD") or origin is None or origin in origins
    if not is_asking and not is_loopback(_host_of(origin or "")):
        raise _FromElsewhereError("without tokens this server takes nothing from pages of other sites")


def _host_of(url: str) -> str:
    """The host in a URL; empty where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _refusal(error: AccessError | EngineError) -> JSONResponse:
    if isinstance(error, UnauthenticatedError):
        answer = error_answer(401, "unauthenticated", str(error), "THALWEG_TOKEN; `thalweg token create` makes one.")
        answer.headers["WWW-Authenticate"] = 'Bearer realm="thalweg"'
        return answer
    if isinstance(error, LimitedError):
        answer = error_answer(429, "limited", str(error), "Ask again later: Retry-After tells when.")
        answer.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
        return answer
    if isinstance(error, _NotSeenError):
        message = f"there is no project {str(error)!r}, or the token is not good for it"
        return error_answer(404, "not_found", message, "`thalweg doctor` tells what a token is good for.")
    if isinstance(error, _FromElsewhereError):
        return error_answer(403, "from_elsewhere", str(error), "Start the server with --auth tokens.")
    if isinstance(error, AccessError):
        return error_answer(403, "forbidden", str(error), "Use a token with that role.")
    log.warning("cannot check a token: %s", error)
    return busy_answer("database_busy", "the tokens cannot be read from the database for now", "Try again.")
