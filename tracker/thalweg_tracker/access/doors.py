"""What both ways into a server, HTTP and gRPC, ask before they take anything in."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from thalweg_tracker.access.gate import Gate, OpenGate, TokenGate
from thalweg_tracker.access.grants import Role
from thalweg_tracker.access.rates import Limiter
from thalweg_tracker.access.store import create_token, write_secret
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import AccessError, SettingError
from thalweg_tracker.model.access import AccessSettings
from thalweg_tracker.model.settings import EmbeddedStore, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Doors:
    """Who may come in, how much of it at a time, and how the connections are made."""

    gate: Gate
    limiter: Limiter
    settings: AccessSettings

    async def admits(self, header: str | None) -> bool:
        """Whether the bearer of an `Authorization` header may see what concerns the server. Raises EngineError."""
        try:
            return (await self.gate.admit(header)).allows(Role.READ, None)
        except AccessError:
            return False


def open_doors() -> Doors:
    """Those of a server that asks for nothing."""
    settings = AccessSettings()
    return Doors(OpenGate(), Limiter(settings.limits), settings)


def make_doors(engine: Engine, settings: AccessSettings, store: Store) -> Doors:
    """Those that settings ask for. Raises SettingError, EngineError, OSError.

    Where nobody can make tokens yet, an embedded database gets a first administrator's in a file of its folder.
    """
    limiter = Limiter(settings.limits)
    if not settings.tokens:
        return Doors(OpenGate(), limiter, settings)
    gate = TokenGate(engine, is_shared=not isinstance(store, EmbeddedStore), initial=settings.initial)
    if not gate.has_administrator:
        if not isinstance(store, EmbeddedStore):
            gate.close()
            wanted = "a first administrator's token in THALWEG_ADMIN_TOKEN_FILE, with which others are made"
            raise SettingError("--auth", "tokens", wanted)
        token, _ = create_token(engine, Role.ADMIN, None, name="made at the first start")
        path = store.data_dir / "admin-token"
        write_secret(path, token)
        log.warning("a first administrator's token is in %s; make others with `thalweg token create`", path)
        gate.refresh()
    return Doors(gate, limiter, settings)
