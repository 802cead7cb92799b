"""A server that asks for tokens, with some of them, and what a test says with each."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tests.support import wire
from thalweg.testing import ServerProcess, running_server

OURS: Final = "ours"
THEIRS: Final = "theirs"
NOBODYS: Final = "nobodys"


@dataclass(frozen=True, slots=True)
class Guarded:
    """A running server and the token of its first administrator."""

    server: ServerProcess
    admin: str

    def token(self, role: str, project: str | None = None, **more: Any) -> str:
        """A new token."""
        return str(self.make(role, project, **more)["token"])

    def make(self, role: str, project: str | None = None, **more: Any) -> dict[str, Any]:
        """A new token, and what is told of it."""
        answer = self.ask("POST", "/tokens", self.admin, json={"role": role, "project": project, **more})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def ask(self, method: str, path: str, token: str | None, **more: Any) -> httpx.Response:
        """An answer of the API to the bearer of a token."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        headers |= more.pop("headers", {})
        url = path if path.startswith("http") else f"{self.server.url}/api/v1{path}"
        return httpx.request(method, url, headers=headers, timeout=60, **more)

    def log(self, project: str, run_id: str, values: dict[float, float], *, writer: int = 1) -> None:
        """Points of the metric `loss`."""
        greeting = wire.hello(run_id, writer=writer, project=project)
        with wire.writing(self.server.grpc, greeting, self.admin) as stream:
            refused = stream.commit(wire.batch(1, ["loss"], list(values), [[one] for one in values.values()]))
        assert refused == []


@dataclass(frozen=True, slots=True)
class World:
    """A server with two projects, and tokens of one of them."""

    guarded: Guarded
    read: str
    write: str
    project_admin: str

    def ask(self, method: str, path: str, token: str | None, **more: Any) -> httpx.Response:
        """See Guarded."""
        return self.guarded.ask(method, path, token, **more)


@contextmanager
def two_projects(data_dir: Path, *options: str) -> Iterator[World]:
    """With runs of equal names in both projects, and a secret value in theirs."""
    with guarded(data_dir, *options) as running:
        running.log(OURS, "run", {1: 0.5, 2: 0.25})
        running.log(THEIRS, "run", {1: 4711.0}, writer=2)
        running.log(THEIRS, "hidden", {1: 4711.0}, writer=3)
        yield World(running, *(running.token(role, OURS) for role in ("read", "write", "admin")))


def series(run: str = "run", expression: str = "loss") -> dict[str, Any]:
    """A body that asks for a series."""
    return {"runs": [run], "metrics": [], "expressions": [expression], "points": None}


@contextmanager
def guarded(data_dir: Path, *options: str) -> Iterator[Guarded]:
    """A server with `--auth tokens`."""
    admin = secrets.token_urlsafe(32)
    with running_server(data_dir, "--auth", "tokens", *options, token=admin) as server:
        yield Guarded(server, admin)
