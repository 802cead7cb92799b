"""Settings of who may come in to a server: tokens, TLS, limits."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from thalweg_tracker.errors import SettingError


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files with which the server shows who it is, and of whom it wants to know the same."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    """Clients have to show a certificate that one of these has signed; None: they need not."""


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What each token and each project may use of the server; 0: as much as it takes."""

    points_per_s: float = 0
    streams: float = 0
    """Writers at a time."""
    metrics_per_run: float = 0
    requests_per_s: float = 0
    query_seconds_per_s: float = 0
    """Seconds that answers over HTTP may take, per second: 2 keeps two busy all the time."""


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may come in."""

    tokens: bool = False
    """Whether a token is asked for."""
    initial: str | None = field(default=None, repr=False)
    """A token of an administrator with which others can be made."""
    tls: TlsFiles | None = None
    limits: LimitSettings = LimitSettings()
    origins: tuple[str, ...] = ()
    """Origins of web pages, such as https://tracker.example, whose scripts may ask the API."""
    checkpoint_places: tuple[str, ...] = ()
    """URIs of folders outside the projects' own uploads at which pointers may lead the server; with tokens only."""


EVERYBODY_HERE: Final = AccessSettings()
"""Those of a server that is only for its own machine."""
LIMIT_VARIABLES: Final = {
    "points_per_s": "THALWEG_LIMIT_POINTS_PER_S",
    "streams": "THALWEG_LIMIT_STREAMS",
    "metrics_per_run": "THALWEG_LIMIT_METRICS_PER_RUN",
    "requests_per_s": "THALWEG_LIMIT_REQUESTS_PER_S",
    "query_seconds_per_s": "THALWEG_LIMIT_QUERY_SECONDS_PER_S",
}
"""Where each of LimitSettings comes from."""
INITIAL_TOKEN_MIN_CHARS: Final = 32
_ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?")


def parse_access(
    environ: Mapping[str, str],
    *,
    auth: str,
    certificate: str | None = None,
    key: str | None = None,
    client_ca: str | None = None,
    origins: str = "",
) -> AccessSettings:
    """From options, THALWEG_ADMIN_TOKEN or THALWEG_ADMIN_TOKEN_FILE, and THALWEG_LIMIT_*. Raises SettingError."""
    pages = tuple(one.strip().rstrip("/") for one in origins.split(",") if one.strip())
    for page in pages:
        if not _ORIGIN.fullmatch(page):
            raise SettingError("--cors-origins", page, "origins such as https://tracker.example, separated by commas")
    return AccessSettings(
        tokens=auth == "tokens",
        initial=_initial_token(environ),
        tls=_tls_files(certificate, key, client_ca),
        limits=LimitSettings(**{name: _limit(environ, key) for name, key in LIMIT_VARIABLES.items()}),
        origins=pages,
        checkpoint_places=_places(environ),
    )


def _places(environ: Mapping[str, str]) -> tuple[str, ...]:
    name = "THALWEG_CHECKPOINT_PLACES"
    places = tuple(one.strip() for one in environ.get(name, "").split(",") if one.strip())
    for one in places:
        if not one.startswith(("s3://", "file:///")) or not one.endswith("/") or "/../" in one:
            raise SettingError(name, one, "folders such as s3://bucket/prefix/ or file:///shared/, separated by commas")
    return places


def _initial_token(environ: Mapping[str, str]) -> str | None:
    token, name = environ.get("THALWEG_ADMIN_TOKEN", ""), "THALWEG_ADMIN_TOKEN"
    if path := environ.get("THALWEG_ADMIN_TOKEN_FILE", ""):
        name = "THALWEG_ADMIN_TOKEN_FILE"
        try:
            token = Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError(name, path, f"a file that can be read ({error})") from error
    if token and (len(token) < INITIAL_TOKEN_MIN_CHARS or not token.isascii() or not token.isprintable()):
        wanted = f"at least {INITIAL_TOKEN_MIN_CHARS} random letters and digits: `openssl rand -hex 32` makes some"
        raise SettingError(name, "***", wanted)
    return token or None


def _tls_files(certificate: str | None, key: str | None, client_ca: str | None) -> TlsFiles | None:
    if certificate and key:
        found = TlsFiles(Path(certificate), Path(key), Path(client_ca) if client_ca else None)
        for option, path in (
            ("--tls-cert", found.certificate),
            ("--tls-key", found.key),
            ("--tls-client-ca", client_ca),
        ):
            if path is not None and not os.access(path, os.R_OK):
                raise SettingError(option, str(path), "a PEM file that this user can read")
        return found
    if certificate or key or client_ca:
        missing = "--tls-key" if certificate else "--tls-cert"
        raise SettingError(missing, "", "both --tls-cert and --tls-key")
    return None


def _limit(environ: Mapping[str, str], key: str) -> float:
    text = environ.get(key, "")
    try:
        value = float(text) if text else 0.0
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise SettingError(key, text, "a number, 0 or more; 0 means no limit")
    return value
