"""The server over HTTP: is it there, which version, does its clock agree. Of the token, token.py tells."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import urlsplit

from thalweg.api_client import ApiClient
from thalweg.cli import formats
from thalweg.cli.checks.finding import FAIL, OK, WARN, Finding
from thalweg.cli.checks.token import check_token, refused
from thalweg.errors import ServerError, UnreachableError
from thalweg.settings import Settings
from thalweg.version import __version__
from thalweg.wire import policy

HTTP: Final = "http"
VERSION: Final = "version"
CLOCK: Final = "clock"
_CLOCK_S: Final = 5.0
"""A Date header is up to one second old by itself."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What the server said of itself; `health` None: it was not reached, or is none."""

    findings: list[Finding]
    health: Mapping[str, Any] | None = None


def check_server(settings: Settings) -> Answered:
    """Findings on the server of these settings."""
    client = ApiClient(settings.url, settings.token, timeout_s=policy.DISCOVERY_TIMEOUT_S)
    place = urlsplit(settings.url).netloc.rpartition("@")[2]
    begun_s = time.time()
    try:
        health, headers = client.get_with_headers("/health")
    except UnreachableError as error:
        return Answered([_unreached(place, urlsplit(settings.url).scheme, error)])
    except ServerError as error:
        told = f"{place} answers, but not as a Thalweg server: {error}"
        return Answered([refused(error, settings) or Finding(HTTP, FAIL, told, "Correct THALWEG_URL.")])
    ended_s = time.time()
    if not isinstance(health, dict) or "version" not in health:
        told = f"{place} answers, but not as a Thalweg server"
        return Answered([Finding(HTTP, FAIL, told, "Correct THALWEG_URL.")])
    reached = Finding(HTTP, OK, f"{place} answered after {1e3 * (ended_s - begun_s):.0f} ms")
    findings = [reached, _version(str(health["version"])), _clock(headers, begun_s, ended_s)]
    return Answered(findings + check_token(client, settings, datetime.now(timezone.utc)), health)


def _unreached(place: str, scheme: str, error: UnreachableError) -> Finding:
    """What kept us from the server, plainly."""
    cause = error.__cause__
    if isinstance(cause, URLError) and isinstance(cause.reason, Exception):
        cause = cause.reason
    told, then = _why(cause, place, scheme)
    return Finding(HTTP, FAIL, told, then)


def _why(cause: BaseException | None, place: str, scheme: str) -> tuple[str, str]:
    if isinstance(cause, socket.gaierror):
        return f"no address is known for {place}", "Correct the name in THALWEG_URL, or the DNS of this host."
    if isinstance(cause, ssl.SSLCertVerificationError):
        told = f"the certificate of {place} is not trusted: {cause.verify_message}"
        return told, "Trust the CA that signed it, with THALWEG_CA_FILE, or correct the name in THALWEG_URL."
    if isinstance(cause, ssl.SSLError):
        return f"no TLS with {place}: {cause.reason or cause}", "Try http:// in THALWEG_URL, if it has no TLS."
    if isinstance(cause, ConnectionRefusedError):
        return f"nothing listens on {place}", "Start the server (`thalweg up`), or correct the port in THALWEG_URL."
    if isinstance(cause, TimeoutError):
        told = f"{place} did not answer within {policy.DISCOVERY_TIMEOUT_S:g} s"
        return told, "Look at the firewall, and the route to that host."
    if scheme == "http" and not isinstance(cause, OSError):
        return f"{place} speaks no HTTP: {cause}", "Try https:// in THALWEG_URL; or another program has the port."
    return f"cannot reach {place}: {cause}", "Look at the network between this host and that one."


def _version(theirs: str) -> Finding:
    if theirs == __version__:
        return Finding(VERSION, OK, f"this is thalweg {__version__}, and so is the server")
    told = f"this is thalweg {__version__}, the server {theirs}"
    if theirs.split(".")[:2] == __version__.split(".")[:2]:
        return Finding(VERSION, OK, told)
    return Finding(VERSION, WARN, told, "Upgrade the older one, servers first.")


def _clock(headers: Message, begun_s: float, ended_s: float) -> Finding:
    try:
        told_s = parsedate_to_datetime(headers["Date"]).timestamp()
    except (TypeError, ValueError):
        return Finding(CLOCK, OK, "the server tells no time")
    # The second that the server named lasts until told_s + 1, and it named it between begin and end.
    ahead_s = max(begun_s - (told_s + 1), told_s - ended_s, 0.0)
    if ahead_s <= _CLOCK_S:
        return Finding(CLOCK, OK, f"it agrees with the server's within {_CLOCK_S:g} s")
    which = "behind" if told_s > ended_s else "ahead of"
    told = f"this host's clock is {formats.seconds(ahead_s)} {which} the server's"
    return Finding(CLOCK, WARN, told, "Set both with NTP: of a step logged twice, the later time wins.")
