"""Tokens, and what they are good for. Pure but for the clock, and the randomness of a new token."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

PREFIX: Final = "thalweg_"
"""Scanners for leaked secrets find tokens by it."""
TOKEN_BYTES: Final = 32
TOKEN_MAX_CHARS: Final = 512
"""Longer texts are no tokens, and are not hashed."""


class Role(IntEnum):
    """What a token may do; each may what those before it may."""

    READ = 1
    """Query."""
    WRITE = 2
    """Log, fork, save checkpoints, define custom metrics."""
    ADMIN = 3
    """Delete, and make tokens."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What the bearer of a token may do."""

    id: str
    """Names the token where it is listed, logged or revoked; no secret."""
    role: Role
    project: str | None
    """None: all of them, and what belongs to the server as a whole."""
    expires_us: int | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    """Limits of its own, by their names in `LimitSettings`, instead of the server's."""
    name: str = ""
    """What it is for, for people."""

    @property
    def is_current(self) -> bool:
        """Whether it has not expired."""
        return self.expires_us is None or time.time_ns() // 1000 < self.expires_us

    def allows(self, role: Role, project: str | None) -> bool:
        """Whether that may be done there. `project` None: on the server as a whole."""
        return self.role >= role and self.sees(project)

    def sees(self, project: str | None) -> bool:
        """Whether the project is none of the others' for it."""
        return self.project is None or self.project == project


ANYBODY: Final = Grant("anybody", Role.ADMIN, None)
"""Where no token is asked for: on this machine."""


def new_token() -> str:
    """A token that nobody can guess."""
    return PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def hash_of(token: str) -> str:
    """What is stored of a token: 64 hexadecimal digits. Of 256 random bits a plain SHA-256 cannot be turned back."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def bearer(header: str | None) -> str | None:
    """The token of an `Authorization` header; None if it has none."""
    scheme, _, token = (header or "").partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and 0 < len(token) <= TOKEN_MAX_CHARS else None
