"""Who comes in, on the real engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.engines import opened
from thalweg_tracker.access import gate as gates
from thalweg_tracker.access.gate import TokenGate
from thalweg_tracker.access.grants import PREFIX, Grant, Role, bearer, hash_of, new_token
from thalweg_tracker.access.store import Token, create_token, read_tokens, revoke_token
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.errors import NotFoundError, UnauthenticatedError
from thalweg_tracker.model.settings import EmbeddedStore


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A database for all tests."""
    with opened(EmbeddedStore(tmp_path_factory.mktemp("tokens") / "data")) as engine:
        migrate(engine)
        yield engine


def admitted(gate: TokenGate, token: str | None) -> Grant:
    """What the gate says of a token."""
    return asyncio.run(gate.admit(f"Bearer {token}" if token else None))


def test_a_token_is_random_and_is_not_stored(engine: Engine) -> None:
    """256 bits, with a prefix for scanners; what is stored is its hash, and what it is good for."""
    token, made = create_token(engine, Role.WRITE, "p", name="training", created_by="tk-x", limits={"streams": 3})
    assert token.startswith(PREFIX)
    assert len(token) == len(PREFIX) + 43
    assert new_token() != new_token()
    stored = next(one for one in read_tokens(engine) if one.grant.id == made.grant.id)
    assert stored == made
    assert stored.hash == hash_of(token)
    assert token not in repr(read_tokens(engine))
    assert stored.grant.limits == {"streams": 3}


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        (None, None),
        ("", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic abc", None),
        ("Bearer " + "x" * 513, None),
    ],
)
def test_a_header_is_read(header: str | None, token: str | None) -> None:
    """What is no bearer token is none."""
    assert bearer(header) == token


def test_roles_and_projects() -> None:
    """Each role may what those before it may; a token of a project nothing elsewhere, nor on the server."""
    writer = Grant("a", Role.WRITE, "p")
    assert writer.allows(Role.READ, "p")
    assert writer.allows(Role.WRITE, "p")
    assert not writer.allows(Role.ADMIN, "p")
    assert not writer.allows(Role.READ, "q")
    assert not writer.allows(Role.READ, None)
    assert Grant("b", Role.READ, None).allows(Role.READ, "q")
    assert Grant("b", Role.READ, None).allows(Role.READ, None)


def test_what_is_made_or_revoked_is_known_after_a_refresh(engine: Engine) -> None:
    """And nothing but that: a wrong, empty or expired token stays out, with one and the same word."""
    gate = TokenGate(engine, is_shared=False)
    token, made = create_token(engine, Role.READ, "p")
    expired, _ = create_token(engine, Role.READ, "p", expires_s=-1)
    gate.refresh()
    assert admitted(gate, token) == made.grant
    assert gate.is_good(made.grant)
    words = set()
    for bad in (None, "x", token[:-1], token + "x", made.hash, expired):
        with pytest.raises(UnauthenticatedError) as caught:
            admitted(gate, bad)
        words.add(str(caught.value))
    assert len(words) == 1
    revoke_token(engine, made.grant.id)
    gate.refresh()
    assert not gate.is_good(made.grant)
    with pytest.raises(UnauthenticatedError):
        admitted(gate, token)
    with pytest.raises(UnauthenticatedError):
        asyncio.run(gate.check(made.grant))


def test_revoked_twice_is_revoked_once(engine: Engine) -> None:
    """The first time stands; what is not there is told."""
    _, made = create_token(engine, Role.READ, "p")
    first = revoke_token(engine, made.grant.id)
    assert revoke_token(engine, made.grant.id).revoked_at == first.revoked_at
    with pytest.raises(NotFoundError):
        revoke_token(engine, "tk-none")


def test_another_process_knows_within_the_bound(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new token is looked for when it comes; of what is too old to be relied on, nothing is used."""
    monkeypatch.setattr(gates, "REFRESH_S", 3600)  # so that only what is asked brings news
    monkeypatch.setattr(gates, "_ASK_AGAIN_S", 0)
    gate = TokenGate(engine, is_shared=True)
    try:
        token, made = create_token(engine, Role.READ, "p")
        assert admitted(gate, token) == made.grant
        revoke_token(engine, made.grant.id)
        assert gate.is_good(made.grant)  # it has not been told yet
        monkeypatch.setattr(gates, "STALE_S", 0)
        with pytest.raises(UnauthenticatedError):
            asyncio.run(gate.check(made.grant))
    finally:
        gate.close()


def test_the_first_administrator_is_in_no_table(engine: Engine) -> None:
    """It comes in with what the environment says, and can make others."""
    initial = "i" * 40
    gate = TokenGate(engine, is_shared=False, initial=initial)
    assert gate.has_administrator
    assert admitted(gate, initial).allows(Role.ADMIN, None)
    assert hash_of(initial) not in {one.hash for one in read_tokens(engine)}


def test_wrong_tokens_cost_the_database_next_to_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come: it is asked again a while after the last look, and by one of them."""
    looks: list[int] = []

    def counted(asked: Engine) -> list[Token]:
        looks.append(1)
        return read_tokens(asked)

    monkeypatch.setattr(gates, "read_tokens", counted)
    monkeypatch.setattr(gates, "REFRESH_S", 3600)
    monkeypatch.setattr(gates, "_ASK_AGAIN_S", 3600)
    gate = TokenGate(engine, is_shared=True)

    async def knock() -> list[object]:
        return await asyncio.gather(*(gate.admit(f"Bearer wrong{n}") for n in range(100)), return_exceptions=True)

    try:
        refused = asyncio.run(knock())
    finally:
        gate.close()
    assert {type(one) for one in refused} == {UnauthenticatedError}
    assert len(looks) == 1
