"""Pointers of checkpoints, which anybody with a token may log: they lead the server to nothing of others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import wire
from tests.support.access import Guarded, guarded
from tests.support.checkpoints import saved
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.upkeep.reach import OUTSIDE

OURS, THEIRS = "ours", "theirs"


@dataclass(frozen=True, slots=True)
class World:
    """A server with two projects, its folder of objects, and tokens of one of them."""

    guarded: Guarded
    objects: Path
    read: str
    write: str

    def ask(self, method: str, path: str, token: str | None, **more: Any) -> httpx.Response:
        """See Guarded."""
        return self.guarded.ask(method, path, token, **more)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """With nothing in it."""
    data = tmp_path_factory.mktemp("pointers") / "data"
    with guarded(data) as running:
        yield World(running, data / "objects", *(running.token(role, OURS) for role in ("read", "write")))


def point_at(world: World, run_id: str, uri: str, *, writer: int) -> None:
    """Logs a checkpoint of our project that lies there, as it says."""
    event = pb.Event(time_us=wire.START_US, checkpoint=saved(1, uri=uri))
    greeting = wire.hello(run_id, writer=writer, project=OURS)
    with wire.writing(world.guarded.server.grpc, greeting, world.write) as stream:
        assert stream.commit(wire.batch(1, events=[event])) == []


def told_of(world: World, run_id: str) -> tuple[list[tuple[str, str, int]], list[str | None], str]:
    """States with their reasons and sizes, URLs, and all words, after the server was asked to look."""
    looked = world.ask("POST", f"/projects/{OURS}/runs/{run_id}/checkpoints/verify", world.write, json={})
    found = world.ask("GET", f"/projects/{OURS}/runs/{run_id}/checkpoints/resolve?verify=false", world.read)
    assert (looked.status_code, found.status_code) == (200, 200), (looked.text, found.text)
    kinds = [kind for one in looked.json()["checkpoints"] for kind in one["kinds"]]
    urls = [file["url"] for file in found.json()["files"]]
    return [(kind["state"], kind["detail"], kind["size_bytes"]) for kind in kinds], urls, looked.text + found.text


def test_pointers_lead_to_nothing_of_others(world: World, tmp_path: Path) -> None:
    """Of uploads of another project, and of any file here, nothing is told and nothing handed out: as if not there."""
    theirs = world.objects / THEIRS / "run" / "branch-0" / "step-1" / "full" / "shard-0" / "u"
    theirs.mkdir(parents=True)
    (theirs / "weights").write_bytes(b"secret")
    (tmp_path / "here").write_bytes(b"secret")
    ours = world.objects / OURS
    places = [
        (theirs / "weights").as_uri(),
        (theirs / "none").as_uri(),
        f"{theirs.as_uri()}/",
        f"{theirs.parent.as_uri()}/none/",
        (tmp_path / "here").as_uri(),
        (tmp_path / "none").as_uri(),
        f"{tmp_path.as_uri()}/",
        "file:///etc/passwd",
        f"{ours.as_uri()}/../{THEIRS}/run/branch-0/step-1/full/shard-0/u/weights",
        f"{ours.as_uri()}/%2e%2e/{THEIRS}/run/branch-0/step-1/full/shard-0/u/weights",
        "s3://someone-elses-bucket/key",
        "s3://169.254.169.254/latest/meta-data",
    ]
    answers = set()
    for number, uri in enumerate(places):
        point_at(world, f"pointer-{number}", uri, writer=100 + number)
        states, urls, words = told_of(world, f"pointer-{number}")
        ((state, detail, size_bytes),) = states
        assert (state, size_bytes) == ("complete", 0), (uri, states)  # as it was told: nobody looked
        assert urls in ([None], []), uri
        assert "secret" not in words
        answers.add(detail)
    assert answers == {OUTSIDE}


def test_pointers_lead_to_uploads_of_their_own(world: World) -> None:
    """The check takes nothing away that belongs to the project."""
    own = world.objects / OURS / "run" / "branch-0" / "step-1" / "full" / "shard-0" / "u"
    own.mkdir(parents=True)
    (own / "weights").write_bytes(b"mine")
    point_at(world, "own", (own / "weights").as_uri(), writer=99)
    states, urls, _ = told_of(world, "own")
    assert states == [("verified", "", 4)]
    (url,) = urls
    assert url is not None
    assert httpx.get(f"{world.guarded.server.url}{url}").content == b"mine"
    another = f"{url[:-1]}{'1' if url.endswith('0') else '0'}"
    assert httpx.get(f"{world.guarded.server.url}{another}").status_code == 403
