"""What a token is good for, as its bearer is told: by the route, and by `thalweg doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support.access import Guarded, guarded
from thalweg.cli.checks.finding import Finding
from thalweg.cli.checks.server import check_server
from thalweg.settings import Settings
from thalweg.testing import running_server

NO_LIMITS = dict.fromkeys(("points_per_s", "streams", "metrics_per_run", "requests_per_s", "query_seconds_per_s"), 0)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server with a run in project p, and a limit for everybody."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("THALWEG_LIMIT_STREAMS", "9")
        with guarded(tmp_path_factory.mktemp("own") / "data") as running:
            environment.undo()
            running.log("p", "run", {1: 0.5})
            yield running


def on_token(url: str, token: str, project: str = "p") -> list[Finding]:
    """What the doctor finds on a token."""
    settings = Settings.read({"THALWEG_URL": url, "THALWEG_TOKEN": token, "THALWEG_PROJECT": project})
    findings = check_server(settings).findings
    assert len(token) < 2 or token not in str(findings), "a secret"
    return [one for one in findings if one.check == "token"]


def states(findings: list[Finding]) -> list[str]:
    """And each that is not well says what to do."""
    assert all(bool(one.then) == (one.state != "ok") for one in findings)
    return [one.state for one in findings]


def test_each_token_is_told_of_itself(running: Guarded) -> None:
    """Whatever its role and project; limits of its own stand in place of the server's."""
    made = running.make("read", "p", name="for the wall", expires_s=86_400, limits={"requests_per_s": 50})
    told = running.ask("GET", "/token", made["token"]).json()
    assert len(told.pop("instance")) == 32
    assert told == {
        "required": True,
        "id": made["id"],
        "role": "read",
        "project": "p",
        "name": "for the wall",
        "expires_at": made["expires_at"],
        "limits": {**NO_LIMITS, "streams": 9, "requests_per_s": 50},
    }
    for role, project in (("write", "p"), ("admin", "q"), ("read", None), ("admin", None)):
        made = running.make(role, project)
        told = running.ask("GET", "/token", made["token"]).json()
        assert (told["id"], told["role"], told["project"], told["expires_at"]) == (made["id"], role, project, None)


def test_the_first_administrators_token_is_told_of_itself(running: Guarded) -> None:
    """It is in no table."""
    told = running.ask("GET", "/token", running.admin).json()
    assert (told["id"], told["role"], told["project"], told["name"]) == ("initial", "admin", None, "")


def test_a_token_that_is_good_no_longer_is_told_what_none_is_told(running: Guarded) -> None:
    """Expired, revoked, made up or missing: one answer."""
    expired = running.token("read", "p", expires_s=0.001)
    revoked = running.make("write", "p")
    running.ask("DELETE", f"/tokens/{revoked['id']}", running.admin).raise_for_status()
    answers = [running.ask("GET", "/token", token) for token in (expired, revoked["token"], "x" * 43, None)]
    assert {one.status_code for one in answers} == {401}
    assert len({one.text for one in answers}) == 1
    for token in (expired, revoked["token"]):
        (finding,) = on_token(running.server.url, token)
        assert (finding.state, "revoked, or has expired" in finding.told) == ("fail", True)
    (finding,) = on_token(running.server.url, "")
    assert (finding.state, "THALWEG_TOKEN is not set" in finding.told) == ("fail", True)


def test_the_doctor_on_a_token_that_is_right(running: Guarded) -> None:
    """Of the project or of all: what it is good for, and that it reads."""
    made = running.make("write", "p", name="cluster", expires_s=30 * 86_400)
    ends = datetime.fromisoformat(made["expires_at"].replace("Z", "+00:00")).astimezone()
    findings = on_token(running.server.url, made["token"])
    assert [(one.state, one.told) for one in findings] == [
        ("ok", f"{made['id']} (cluster) has the role write for project 'p', until {ends:%Y-%m-%d %H:%M:%S}"),
        ("ok", "the token reads project 'p'"),
    ]
    of_all = on_token(running.server.url, running.token("admin"))
    assert states(of_all) == ["ok", "ok"]
    assert "has the role admin for all projects, without an end" in of_all[0].told


def test_the_doctor_on_a_token_of_another_project(running: Guarded) -> None:
    """It fails, and names both ways out."""
    good_for, elsewhere = on_token(running.server.url, running.token("write", "p"), project="q")
    assert states([good_for, elsewhere]) == ["ok", "fail"]
    assert elsewhere.told == "the token is for project 'p', and THALWEG_PROJECT is 'q'"
    assert elsewhere.then == "Set THALWEG_PROJECT to 'p', or ask for a token of 'q'."


def test_the_doctor_on_a_token_that_only_reads(running: Guarded) -> None:
    findings = on_token(running.server.url, running.token("read", "p"))
    assert states(findings) == ["ok", "warn", "ok"]
    assert "training cannot log with it" in findings[1].told


@pytest.mark.parametrize(("left", "state"), [(timedelta(days=2, hours=23), "warn"), (timedelta(days=4), "ok")])
def test_the_doctor_on_a_token_that_expires(running: Guarded, left: timedelta, state: str) -> None:
    """Three days before the end there is time to ask for another."""
    findings = on_token(running.server.url, running.token("write", "p", expires_s=left.total_seconds()))
    assert states(findings)[1] == state
    assert ("expires in 2d 2" in findings[1].told) == (state == "warn")


def test_a_server_that_asks_for_none(tmp_path: Path) -> None:
    """It says so; a token that is sent all the same is not looked at."""
    with running_server(tmp_path / "data") as server:
        told = server.client.get("/token")
        assert (told["required"], told["role"], told["project"], told["expires_at"]) == (False, "admin", None, None)
        assert told["limits"] == NO_LIMITS
        for token, words in (("", "asks for no token"), ("x", "asks for no token, and does not look at THALWEG_TOKEN")):
            findings = on_token(server.url, token)
            assert states(findings) == ["ok", "ok"]
            assert findings[0].told == f"the server {words}"
