"""Tells whose token a request carries. Holds all tokens in memory, so that asking costs a hash and a look-up.

Within the process that makes and revokes tokens they are good, and no longer good, at once. Where other processes do
so too, the tokens are read again every REFRESH_S; what is older than STALE_S is not relied on: asking waits until they
could be read. So a revoked token is refused everywhere after STALE_S at most, whatever happens to the database.

Threads and event loops: any.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, Protocol

from thalweg_tracker.access.grants import ANYBODY, Grant, Role, bearer, hash_of
from thalweg_tracker.access.store import read_tokens
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import EngineError, UnauthenticatedError

log = logging.getLogger(__name__)

REFRESH_S: Final = 2.0
STALE_S: Final = 5.0
_ASK_AGAIN_S: Final = 0.25
"""A token that is not known may have been made elsewhere just now: it is looked for, so long after the last look at the
earliest, by whomever and however that ended. So wrong tokens cost the database next to nothing."""
_REFUSAL: Final = "a token is needed that is known, and neither expired nor revoked: Authorization: Bearer TOKEN"


class Gate(Protocol):
    """Who may come in."""

    async def admit(self, header: str | None) -> Grant:
        """What the bearer of an `Authorization` header may do. Raises UnauthenticatedError, EngineError."""

    async def check(self, grant: Grant) -> None:
        """That a token which was admitted is still good. Raises UnauthenticatedError, EngineError."""

    def is_good(self, grant: Grant) -> bool:
        """Whether a token which was admitted is still good, as far as is known."""

    def refresh(self) -> None:
        """Reads the tokens again: one was made or revoked. Raises EngineError."""

    def close(self) -> None:
        """Lets go of everything."""


class OpenGate:
    """The gate of a server that asks for no token: on this machine, anybody is its administrator."""

    async def admit(self, header: str | None) -> Grant:
        """See Gate."""
        return ANYBODY

    async def check(self, grant: Grant) -> None:
        """See Gate."""

    def is_good(self, grant: Grant) -> bool:
        """See Gate."""
        return True

    def refresh(self) -> None:
        """See Gate."""

    def close(self) -> None:
        """See Gate."""


class TokenGate:
    """The gate of a server that asks for tokens."""

    def __init__(self, engine: Engine, *, is_shared: bool, initial: str | None = None) -> None:
        """`is_shared`: other processes make and revoke tokens too. `initial`: a token of an administrator that is in no
        table. Raises EngineError.
        """
        self._engine = engine
        self._is_shared = is_shared
        self._initial = {hash_of(initial): Grant("initial", Role.ADMIN, None)} if initial else {}
        self._reading = threading.Lock()
        self._grants: Mapping[str, Grant] = {}
        """By the hashes of their tokens."""
        self._ids: frozenset[str] = frozenset()
        self._read_s = 0.0
        """When the last look that succeeded began."""
        self._looked_s = 0.0
        """When the last look ended."""
        self._threads = ThreadPoolExecutor(1, "token-look")  # one look at a time, which holds up nothing else
        self._stop = threading.Event()
        self.refresh()
        self._thread = threading.Thread(target=self._keep_fresh, name="tokens", daemon=True) if is_shared else None
        if self._thread:
            self._thread.start()

    def close(self) -> None:
        """See Gate."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        self._threads.shutdown()

    def refresh(self) -> None:
        """See Gate."""
        with self._reading:
            began_s = time.monotonic()
            try:
                tokens = read_tokens(self._engine)
            finally:
                self._looked_s = time.monotonic()
            known = {token.hash: token.grant for token in tokens if token.revoked_at is None}
            self._grants = {**known, **self._initial}
            self._ids = frozenset(grant.id for grant in self._grants.values())
            self._read_s = began_s

    @property
    def has_administrator(self) -> bool:
        """Whether there is a token with which others can be made."""
        return any(grant.allows(Role.ADMIN, None) and grant.is_current for grant in self._grants.values())

    def _keep_fresh(self) -> None:
        while not self._stop.wait(REFRESH_S):
            try:
                self.refresh()
            except EngineError as error:
                log.warning("cannot read the tokens: %s", error)

    async def admit(self, header: str | None) -> Grant:
        """See Gate."""
        token = bearer(header)
        if token is None:
            raise UnauthenticatedError(_REFUSAL)
        hashed = hash_of(token)
        await self._wait_for_fresh()
        grant = self._find(hashed)
        if grant is None and self._is_shared and time.monotonic() - self._looked_s > _ASK_AGAIN_S:
            with suppress(EngineError):  # what is known of the tokens is recent enough to refuse this one
                await self._look(lambda: time.monotonic() - self._looked_s > _ASK_AGAIN_S)
            grant = self._find(hashed)
        if grant is None or not grant.is_current:
            raise UnauthenticatedError(_REFUSAL)
        return grant

    async def check(self, grant: Grant) -> None:
        """See Gate."""
        await self._wait_for_fresh()
        if not self.is_good(grant):
            raise UnauthenticatedError(_REFUSAL)

    def is_good(self, grant: Grant) -> bool:
        """See Gate."""
        return grant.is_current and grant.id in self._ids

    def _find(self, hashed: str) -> Grant | None:
        """The grant of a hash: nobody can choose the hash of a token, so how long the look-up takes tells nothing.

        See docs/decisions/0018.
        """
        return self._grants.get(hashed)

    async def _wait_for_fresh(self) -> None:
        if self._is_shared and time.monotonic() - self._read_s > STALE_S:
            await self._look(lambda: time.monotonic() - self._read_s > STALE_S)

    async def _look(self, is_due: Callable[[], bool]) -> None:
        """Reads the tokens, unless somebody has while this one waited for its turn. Raises EngineError."""

        def look() -> None:
            if is_due():
                self.refresh()

        await asyncio.get_running_loop().run_in_executor(self._threads, look)
