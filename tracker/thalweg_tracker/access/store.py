"""The tables `tokens` and `audit`."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from thalweg_tracker.access.grants import Grant, Role, hash_of, new_token
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import NotFoundError
from thalweg_tracker.sql import load

_MOMENT: Final = pa.timestamp("us", "UTC")
_NEVER: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_TOKENS: Final = pa.schema(
    [
        ("id", pa.string()),
        ("hash", pa.string()),
        ("project", pa.string()),
        ("role", pa.string()),
        ("name", pa.string()),
        ("limits", pa.string()),
        ("created_at", _MOMENT),
        ("created_by", pa.string()),
        ("expires_at", _MOMENT),
        ("revoked_at", _MOMENT),
        ("version", pa.uint64()),
    ]
)
_AUDIT: Final = pa.schema(
    [
        ("time", _MOMENT),
        ("actor", pa.string()),
        ("address", pa.string()),
        ("project", pa.string()),
        ("action", pa.string()),
        ("path", pa.string()),
        ("status", pa.uint16()),
    ]
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is stored: without itself."""

    grant: Grant
    hash: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Audited:
    """Something that was asked of the server."""

    actor: str
    address: str
    project: str
    action: str
    path: str
    status: int


def create_token(
    engine: Engine,
    role: Role,
    project: str | None,
    *,
    name: str = "",
    created_by: str = "",
    expires_s: float | None = None,
    limits: Mapping[str, float] | None = None,
) -> tuple[str, Token]:
    """A new token, which is told here and never again, and what is stored of it."""
    token, now_us = new_token(), time.time_ns() // 1000
    now = datetime.fromtimestamp(now_us / 1e6, timezone.utc)
    expires_us = None if expires_s is None else now_us + round(expires_s * 1e6)
    grant = Grant(f"tk-{secrets.token_hex(6)}", role, project, expires_us, dict(limits or {}), name)
    made = Token(grant, hash_of(token), now, created_by, _moment(expires_us), None)
    _write(engine, made)
    return token, made


def revoke_token(engine: Engine, token_id: str) -> Token:
    """Ends a token, which may be one that is revoked already. Raises NotFoundError."""
    found = next((one for one in read_tokens(engine) if one.grant.id == token_id), None)
    if found is None:
        raise no_token(token_id)
    if found.revoked_at is None:
        now = datetime.now(timezone.utc)
        found = Token(found.grant, found.hash, found.created_at, found.created_by, found.expires_at, now)
        _write(engine, found)
    return found


def no_token(token_id: str) -> NotFoundError:
    """The answer about a token that is not there, or that is not one of the asker's."""
    return NotFoundError("token_not_found", f"no token {token_id!r}", "`thalweg token list` shows them.")


def read_tokens(engine: Engine) -> list[Token]:
    """All tokens, the newest first, with those that have expired or were revoked."""
    return [_token(row) for row in engine.query(load("tokens")).to_pylist()]


def write_audit(engine: Engine, entry: Audited) -> None:
    """Keeps an entry for good."""
    row = {
        "time": datetime.now(timezone.utc),
        "actor": entry.actor,
        "address": entry.address,
        "project": entry.project,
        "action": entry.action,
        "path": entry.path,
        "status": entry.status,
    }
    engine.insert("audit", pa.Table.from_pylist([row], schema=_AUDIT))


def read_audit(engine: Engine, limit: int) -> Sequence[Mapping[str, Any]]:
    """The newest entries first."""
    rows: list[dict[str, Any]] = engine.query(load("audit"), {"limit": limit}).to_pylist()
    return rows


def write_secret(path: Path, secret: str) -> None:
    """A file that only its owner may read, in place of one that is there. Raises OSError."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{secret}\n")


def _write(engine: Engine, token: Token) -> None:
    row = {
        "id": token.grant.id,
        "hash": token.hash,
        "project": token.grant.project or "",
        "role": token.grant.role.name.lower(),
        "name": token.grant.name,
        "limits": json.dumps(dict(token.grant.limits)),
        "created_at": token.created_at,
        "created_by": token.created_by,
        "expires_at": token.expires_at or _NEVER,
        "revoked_at": token.revoked_at or _NEVER,
        "version": int(token.revoked_at is not None),
    }
    engine.insert("tokens", pa.Table.from_pylist([row], schema=_TOKENS))


def _token(row: Mapping[str, Any]) -> Token:
    expires_at = None if row["expires_at"] == _NEVER else row["expires_at"]
    expires_us = None if expires_at is None else round(expires_at.timestamp() * 1e6)
    role, project, limits = Role[row["role"].upper()], row["project"] or None, json.loads(row["limits"])
    grant = Grant(row["id"], role, project, expires_us, limits, row["name"])
    return Token(
        grant,
        row["hash"],
        row["created_at"],
        row["created_by"],
        expires_at,
        None if row["revoked_at"] == _NEVER else row["revoked_at"],
    )


def _moment(time_us: int | None) -> datetime | None:
    return None if time_us is None else datetime.fromtimestamp(time_us / 1e6, timezone.utc)
