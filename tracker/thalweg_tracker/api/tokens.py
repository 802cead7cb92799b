"""Routes of tokens, and of what administrators did. A token of one project administrates the tokens of that one.

Any good token may ask what it is good for itself.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from thalweg.wire import limits as wire_limits
from thalweg_tracker.access.doors import Doors
from thalweg_tracker.access.grants import Grant, Role
from thalweg_tracker.access.store import Token, create_token, no_token, read_audit, read_tokens, revoke_token
from thalweg_tracker.api.errors import RESPONSES
from thalweg_tracker.api.guard import grant_of, note
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.model import limits
from thalweg_tracker.model.checks import check_label

RoleName = Literal["read", "write", "admin"]
_TEN_YEARS_S = 10 * 366 * 86_400


Limit = Annotated[float | None, Field(ge=0, allow_inf_nan=False)]


class TokenLimits(BaseModel):
    """Limits of a token instead of the server's; 0 means none."""

    points_per_s: Limit = None
    streams: Limit = None
    metrics_per_run: Limit = None
    requests_per_s: Limit = None
    query_seconds_per_s: Limit = None


class TokenOrder(BaseModel):
    """A token that is to be made."""

    role: RoleName
    project: str | None = Field(None, description="the one project that it is good for; null: all, and the server")
    name: str = Field("", max_length=200, description="what it is for, for people")
    expires_s: float | None = Field(None, gt=0, le=_TEN_YEARS_S, description="seconds from now; null: never")
    limits: TokenLimits = TokenLimits()


class TokenLine(BaseModel):
    """A token, without itself."""

    id: str
    role: RoleName
    project: str | None
    name: str
    state: Literal["good", "expired", "revoked"]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    limits: dict[str, float]


class NewToken(TokenLine):
    """A token that was made. It is told here, and never again."""

    token: str


class TokenList(BaseModel):
    """The tokens that one's own may administrate, the newest first."""

    tokens: list[TokenLine]


class OwnToken(BaseModel):
    """What the token that asks is good for, and at which server."""

    required: bool = Field(description="whether the server asks for tokens; false: it looks at none")
    id: str
    role: RoleName
    project: str | None = Field(description="the one project that it is good for; null: all, and the server")
    name: str = Field(description="what it is for, for people")
    expires_at: datetime | None = Field(description="null: never")
    limits: dict[str, float] = Field(
        description="its own, or else the server's, which hold for each project besides; 0: there is none"
    )
    instance: str = Field(description="random, of the server process; `owner.json` in its data folder has it too")


class AuditLine(BaseModel):
    """What was asked of the server that only administrators may."""

    time: datetime
    actor: str = Field(description="id of the token")
    address: str
    project: str
    action: str = Field(description="the HTTP method")
    path: str
    status: int = Field(description="of the answer")


class AuditPage(BaseModel):
    """The newest entries first."""

    entries: list[AuditLine]


def make_token_router(engine: Engine, doors: Doors, instance: str) -> APIRouter:
    """The routes over one engine. What is made or revoked is known to the gate of `doors` at once.

    `instance`: a word for this server alone.
    """
    router = APIRouter(prefix="/api/v1", responses=RESPONSES)
    gate = doors.gate

    @router.get("/token")
    async def own(request: Request) -> OwnToken:
        """Tells what the token of the request is good for. No query is made for it."""
        grant = grant_of(request)
        return OwnToken(
            required=doors.settings.tokens,
            id=grant.id,
            role=_role(grant),
            project=grant.project,
            name=grant.name,
            expires_at=None if grant.expires_us is None else _moment(grant.expires_us),
            limits=doors.limiter.limits(grant),
            instance=instance,
        )

    @router.post("/tokens", status_code=201)
    def create(order: TokenOrder, request: Request) -> NewToken:
        """Makes a token."""
        grant = grant_of(request)
        if order.project is not None:
            check_label("project", order.project, wire_limits.PROJECT_MAX_BYTES)
        if not grant.allows(Role.ADMIN, order.project):
            raise RejectedError("not_yours", "this token makes tokens for its own project only", "Name its project.")
        token, made = create_token(
            engine,
            Role[order.role.upper()],
            order.project,
            name=order.name,
            created_by=grant.id,
            expires_s=order.expires_s,
            limits=order.limits.model_dump(exclude_none=True),
        )
        gate.refresh()
        note(request, f"{made.grant.id} {order.role} {order.project or '*'}")
        return NewToken(token=token, **_line(made).model_dump())

    @router.get("/tokens")
    def tokens(request: Request) -> TokenList:
        """Lists tokens."""
        grant = grant_of(request)
        return TokenList(tokens=[_line(one) for one in read_tokens(engine) if _is_of(one, grant)])

    @router.delete("/tokens/{token_id}")
    def revoke(token_id: str, request: Request) -> TokenLine:
        """Ends a token: this process refuses it from now on, others after 5 seconds at most."""
        grant = grant_of(request)
        if not any(one.grant.id == token_id and _is_of(one, grant) for one in read_tokens(engine)):
            raise no_token(token_id)
        revoked = revoke_token(engine, token_id)
        gate.refresh()
        return _line(revoked)

    @router.get("/audit")
    def audit(limit: Annotated[int, Query(ge=1, le=limits.PAGE_MAX)] = limits.PAGE_DEFAULT) -> AuditPage:
        """Tells what administrators did."""
        return AuditPage(entries=[AuditLine(**row) for row in read_audit(engine, limit)])

    return router


def _is_of(token: Token, grant: Grant) -> bool:
    """Whether a grant administrates a token."""
    return grant.project is None or token.grant.project == grant.project


def _role(grant: Grant) -> RoleName:
    return grant.role.name.lower()  # type: ignore[return-value]  # one of the three


def _moment(time_us: int) -> datetime:
    return datetime.fromtimestamp(time_us / 1e6, timezone.utc)


def _line(token: Token) -> TokenLine:
    grant = token.grant
    return TokenLine(
        id=grant.id,
        role=_role(grant),
        project=grant.project,
        name=grant.name,
        state="revoked" if token.revoked_at else "good" if grant.is_current else "expired",
        created_at=token.created_at,
        created_by=token.created_by,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
        limits=dict(grant.limits),
    )
