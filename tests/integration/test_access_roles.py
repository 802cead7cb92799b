"""Tokens where each role is a process of its own: `thalweg ingest` heeds what `thalweg api` was told to revoke."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.support import training, wire
from tests.support.clickhouse_server import RunningServer
from tests.support.roles import migrated, role
from tests.support.waiting import wait_until
from thalweg.api_client import ApiClient
from thalweg.wire.v1 import records_pb2 as pb

ADMIN = "an-administrator-of-this-test-0123456789"


@dataclass(frozen=True, slots=True)
class Roles:
    """Both roles over one database, and their administrator."""

    grpc: str
    admin: ApiClient

    def token(self) -> dict[str, str]:
        """A new one to write with, made at the API, and known at the ingest: that may take a moment, too."""
        made: dict[str, str] = self.admin.post("/tokens", {"role": "write", "project": wire.PROJECT})
        wait_until(lambda: not is_refused(self, made))
        return made

    def revoke(self, made: dict[str, str]) -> None:
        """Returns when the API has answered the order."""
        self.admin.delete(f"/tokens/{made['id']}")


@pytest.fixture(scope="module")
def roles(clickhouse: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roles]:
    """Each a process, as an operator starts them where tokens are asked for."""
    folder: Path = tmp_path_factory.mktemp("roles")
    store = migrated(f"clickhouse://default@127.0.0.1:{clickhouse.ports[0]}/access_roles")
    admin = {"THALWEG_ADMIN_TOKEN": ADMIN}
    with (
        role(folder / "ingest.log", "ingest", "--grpc=127.0.0.1:0", "--auth=tokens", store=store, **admin) as ingest,
        role(folder / "api.log", "api", "--http=127.0.0.1:0", "--auth=tokens", store=store, **admin) as api,
    ):
        yield Roles(ingest.ready["grpc"], ApiClient(api.ready["http"], ADMIN))


def batch(number: int) -> pb.Batch:
    """One point, at that step."""
    return wire.batch(number, ["loss"] if number == 1 else [], [float(number)], [[float(number)]])


def is_over(stream: wire.WriterStream) -> bool:
    """Whether the server has ended a stream, which it may do for one reason alone."""
    if stream.call.is_active():
        return False
    assert stream.call.code() is grpc.StatusCode.UNAUTHENTICATED, stream.call.details()
    return True


def is_refused(roles: Roles, made: dict[str, str]) -> bool:
    """Whether a new stream is."""
    with wire.writing(roles.grpc, wire.hello("new", writer=9), made["token"]) as stream:
        stream.send(batch(1))
        try:
            stream.answer()
        except grpc.RpcError:
            return is_over(stream)
    return False


def test_a_writer_is_stopped_by_another_process(roles: Roles) -> None:
    """One that goes on sending. What was acknowledged is there, and nothing besides."""
    made, other = roles.token(), roles.token()
    with (
        wire.writing(roles.grpc, wire.hello("other", writer=2), other["token"]) as stays,
        wire.writing(roles.grpc, wire.hello("sends"), made["token"]) as stream,
    ):
        stays.commit(batch(1))
        acknowledged = 3
        stream.commit(*map(batch, range(1, acknowledged + 1)))
        roles.revoke(made)

        def is_stopped() -> bool:
            nonlocal acknowledged
            try:
                stream.commit(batch(acknowledged + 1))
            except grpc.RpcError:
                return is_over(stream)
            acknowledged += 1
            return False

        wait_until(is_stopped)
        stays.commit(batch(2))
    found = training.exact(roles.admin, "sends", "loss", project=wire.PROJECT)
    assert found == {float(step): float(step) for step in range(1, acknowledged + 1)}


def test_a_writer_that_says_nothing_is_stopped_by_another_process(roles: Roles) -> None:
    """Its stream is ended though no batch comes."""
    made = roles.token()
    with wire.writing(roles.grpc, wire.hello("silent", writer=3), made["token"]) as stream:
        stream.commit(batch(1))
        roles.revoke(made)
        wait_until(lambda: is_over(stream))


def test_a_new_writer_is_refused_by_another_process(roles: Roles) -> None:
    """A token that was let in at the ingest before, and is not any more."""
    made = roles.token()
    roles.revoke(made)
    wait_until(lambda: is_refused(roles, made))
