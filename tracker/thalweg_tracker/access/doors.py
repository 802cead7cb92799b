"""What both ways into a server, HTTP and gRPC, ask before they take anything in."""

from __future__ import annotations

from dataclasses import dataclass

from thalweg_tracker.access.gate import Gate, OpenGate
from thalweg_tracker.access.grants import Role
from thalweg_tracker.access.rates import Limiter
from thalweg_tracker.errors import AccessError, EngineError
from thalweg_tracker.model.settings import AccessSettings


@dataclass(frozen=True, slots=True)
class Doors:
    """Who may come in, how much of it at a time, and how the connections are made."""

    gate: Gate
    limiter: Limiter
    settings: AccessSettings

    async def admits(self, header: str | None) -> bool:
        """Whether the bearer of an `Authorization` header may see what concerns the server as a whole."""
        try:
            return (await self.gate.admit(header)).allows(Role.READ, None)
        except (AccessError, EngineError):
            return False


def open_doors() -> Doors:
    """Those of a server that asks for nothing."""
    settings = AccessSettings()
    return Doors(OpenGate(), Limiter(settings.limits), settings)
