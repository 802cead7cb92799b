"""Uploads that a limit holds up: they wait as long as the server says, within bounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.upload_server import Fault, UploadServer
from tests.unit.sdk.checkpoints.conftest import Clock, content
from thalweg.api_client import ApiClient
from thalweg.checkpoints.transfer import ASKED_MOST_S, PATIENCE_S
from thalweg.checkpoints.upload import Uploaded, upload
from thalweg.checkpoints.upload_state import Target
from thalweg.errors import CheckpointError

TARGET = Target("digits", "run", None, 7.0, "full")
LIMITED = json.dumps(
    {"error": {"code": "limited", "message": "project p is past its limit", "hint": "Later."}}
).encode()


def limited(after_s: int) -> Fault:
    """A limit is reached for so long."""
    return Fault(429, LIMITED, headers=(("Retry-After", str(after_s)),))


def send(server: UploadServer, folder: Path, clock: Clock, *, hurries: bool = False) -> Uploaded:
    """One upload without waiting."""
    (folder / "x").write_bytes(content(1500))
    state = folder / "state.json"
    return upload(ApiClient(server.url), folder / "x", TARGET, state_path=state, pace=clock.pace(), hurries=hurries)


@pytest.mark.parametrize("kind", ["begin", "put", "complete"])
@pytest.mark.parametrize("hurries", [False, True])
def test_it_waits_as_long_as_it_is_told(
    server: UploadServer, tmp_path: Path, clock: Clock, kind: str, hurries: bool
) -> None:
    """Also longer than what fails is tried, and where the server was thought to be away: it has answered."""
    server.on(kind, limited(50), times=3)
    done = send(server, tmp_path, clock, hurries=hurries)
    assert server.objects[done.uri] == content(1500)
    assert len(clock.waits_s) == 3
    assert all(50 <= wait_s < 51 for wait_s in clock.waits_s)


def test_what_is_too_late_is_not_waited_for(server: UploadServer, tmp_path: Path, clock: Clock) -> None:
    """It fails at once, and tells the delay."""
    server.on("begin", limited(1000), times=1000)
    with pytest.raises(CheckpointError, match=r"past its limit. Ask again in 1000 s. Tried once"):
        send(server, tmp_path, clock)
    assert clock.waits_s == []


def test_patience_with_a_limit_ends(server: UploadServer, tmp_path: Path, clock: Clock) -> None:
    """However often the server puts it off."""
    server.on("begin", limited(9), times=1000)
    with pytest.raises(CheckpointError, match="past its limit"):
        send(server, tmp_path, clock)
    assert ASKED_MOST_S < clock.now_s <= ASKED_MOST_S + PATIENCE_S
