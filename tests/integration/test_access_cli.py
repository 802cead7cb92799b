"""`thalweg token` against a server that asks for tokens, and what other commands say without one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.access import Guarded, guarded
from thalweg.cli.main import thalweg


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server with a run in project p."""
    with guarded(tmp_path_factory.mktemp("tokens") / "data") as running:
        running.log("p", "run", {1: 0.5})
        yield running


def command(running: Guarded, *arguments: str, token: str | None = None) -> Result:
    """A command with the administrator's token, or another one."""
    environment = {"THALWEG_URL": running.server.url, "THALWEG_TOKEN": running.admin if token is None else token}
    return CliRunner().invoke(thalweg, arguments, env=environment)


def test_a_token_is_made_used_and_revoked(running: Guarded) -> None:
    """It alone is on standard output, so that a script can keep it; the rest is for people."""
    made = command(
        running, "token", "create", "-p", "p", "--role", "read", "--expires", "30d", "--name", "for the wall"
    )
    assert made.exit_code == 0, made.stderr
    token = made.stdout.strip()
    assert token.startswith("thalweg_")
    assert "read, project p, until 20" in made.stderr
    assert token not in made.stderr
    used = command(running, "runs", "p", "--json", token=token)
    assert [one["run_id"] for one in json.loads(used.stdout)["runs"]] == ["run"]
    (line,) = [one for one in command(running, "token", "list").stdout.splitlines() if "for the wall" in one]
    assert line.split()[1:4] == ["good", "read", "p"]
    assert token not in line
    revoked = command(running, "token", "revoke", line.split()[0])
    assert (revoked.exit_code, revoked.stderr) == (0, f"Revoked {line.split()[0]}.\n")
    refused = command(running, "runs", "p", token=token)
    assert refused.exit_code == 1
    assert "a token is needed" in str(refused.exception)
    assert token not in str(refused.exception)


def test_json(running: Guarded) -> None:
    """All of a token in one document, with limits of its own."""
    made = json.loads(command(running, "token", "create", "--role", "write", "--limit", "streams=4", "--json").stdout)
    assert (made["role"], made["project"], made["limits"], made["expires_at"]) == (
        "write",
        None,
        {"streams": 4.0},
        None,
    )
    listed = json.loads(command(running, "token", "list", "--json").stdout)["tokens"]
    assert made["id"] in {one["id"] for one in listed}
    assert made["token"] not in json.dumps(listed)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--role", "owner"), "'owner' is not one of"),
        (("--role", "read", "--expires", "soon"), "'soon' is not a time such as 12h, 30d or 8w"),
        (("--role", "read", "--expires", "0d"), "'0d' is not a time"),
        (("--role", "read", "--limit", "speed=1"), "'speed' is none of the limits: points_per_s"),
        (("--role", "read", "--limit", "streams=x"), "wanted streams=NUMBER"),
    ],
)
def test_what_is_no_token(running: Guarded, arguments: tuple[str, ...], told: str) -> None:
    """Told with what is wanted, before anything is asked."""
    outcome = command(running, "token", "create", *arguments)
    assert outcome.exit_code == 2
    assert told in outcome.stderr


def test_a_project_without_a_good_token(running: Guarded) -> None:
    """What the command says names the token, not the project's secrets."""
    other = running.token("admin", "q")
    outcome = command(running, "show", "p/run", token=other)
    assert outcome.exit_code == 1
    assert "no project 'p', or the token is not good for it" in str(outcome.exception)


def test_secrets_stay_out_of_the_folder(running: Guarded, tmp_path: Path) -> None:
    """Neither database nor objects hold a token as it is: a backup of them lets nobody in."""
    tokens = [running.admin, running.token("read", "p")]
    data = Path(running.server.log.with_name("data"))
    seen = 0
    for folder, _, names in os.walk(data):  # what is merged away meanwhile is left out
        for name in names:
            with suppress(FileNotFoundError):
                content = Path(folder, name).read_bytes()
                assert not any(token.encode() in content for token in tokens), (folder, name)
                seen += 1
    assert seen > 50
