"""Secrets of both sides' environments: none is kept, logged, told or shown, whatever goes wrong with it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import training
from tests.support.access import Guarded, guarded
from tests.support.roles import COMMAND
from tests.support.runs import NOBODY
from tests.support.spools import read_all, the_folder
from thalweg.settings import Settings
from thalweg.spool import layout
from thalweg.system.redact import REDACTED
from thalweg_tracker.access.grants import new_token
from thalweg_tracker.model.access import parse_access
from thalweg_tracker.model.settings import ServerSettings, parse_objects, parse_store

PASSWORD, AWS_SECRET, OWN_TOKEN = "pa55word-of-the-store", "wJalrXUtnFEMIbPxRfiCYofTheTestsOnly", new_token()
STORE = f"clickhouse://someone:{PASSWORD}@127.0.0.1:9/thalweg"
ENVIRONMENT = {
    "THALWEG_TOKEN": OWN_TOKEN,
    "THALWEG_STORE": STORE,
    "THALWEG_OBJECTS": "s3://bucket/prefix",
    "THALWEG_S3_ENDPOINT": NOBODY,
    "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": AWS_SECRET,
}
TRAINING = """
import os, thalweg
try:
    with thalweg.init(project="p", run_id="r", system_interval_s=0) as run:
        run.log({"loss": 0.5}, step=1)
        names = ("THALWEG_STORE", "AWS_SECRET_ACCESS_KEY", "THALWEG_TOKEN")
        raise ConnectionError("no answer with " + " ".join(f"{name}={os.environ[name]}" for name in names))
except ConnectionError:
    pass
"""


def train(folder: Path, url: str, token: str, **more: str) -> str:
    """A training whose command line and exception have the secrets too. Returns what it told."""
    environment = {**ENVIRONMENT, "THALWEG_TOKEN": token, **more}
    code, out, told = training.run_to_end(folder, url, TRAINING, "--password", PASSWORD, **environment)
    assert code == 0, told
    assert "thalweg: run p/r" in told
    return out + told


def assert_untold(secrets: Collection[str], texts: Mapping[str, str]) -> None:
    """That none of the texts has any of the secrets."""
    assert all(secrets)
    assert [(place, secret) for place, text in texts.items() for secret in secrets if secret in text] == []


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_spool_holds_no_secret(tmp_path: Path, mode: str) -> None:
    """While the server is away, and offline: identity, records, counters and the sender's log are there, without."""
    token = new_token()
    told = train(tmp_path, NOBODY, token, THALWEG_MODE=mode)
    folder = the_folder(tmp_path / "spool")
    content = read_all(folder, writer_ended=False)
    assert content.points == [{"loss": 0.5}]
    assert content.last_word["exception"].count(REDACTED) == 3
    assert REDACTED in content.attributes()["env.process.command"]
    texts = {"output": told}
    for path in (tmp_path / "spool").rglob("*"):
        with suppress(FileNotFoundError):  # the sender replaces its status
            texts |= {path.name: path.read_bytes().decode("latin-1")} if path.is_file() else {}
    segment = layout.segment_path(folder, 1).name
    assert texts.keys() >= {layout.IDENTITY_FILE, layout.STATE_FILE, layout.LOG_FILE, segment}
    assert REDACTED in texts[segment]
    assert_untold([PASSWORD, AWS_SECRET, token], texts)
    (folder / layout.IDENTITY_FILE).unlink()  # so that its sender leaves


def read_back(running: Guarded) -> dict[str, str]:
    """What the API tells an administrator of the run, of tokens, and of what was done."""
    training.wait_for_status(running.server.client, "r", "failed", project="p")
    paths = ("/projects/p/runs/r", "/projects/p/runs", "/token", "/tokens", "/audit", f"{running.server.url}/metrics")
    answers = {path: running.ask("GET", path, running.admin) for path in paths}
    assert {answer.status_code for answer in answers.values()} == {200}
    run = answers["/projects/p/runs/r"].json()
    assert run["health"]["writers"][0]["exception"].count(REDACTED) == 3
    assert REDACTED in run["env"]["process"]["command"]
    return {path: answer.text for path, answer in answers.items()}


def refusals(running: Guarded, token: str) -> dict[str, str]:
    """What it answers where something is wrong; the object store is out of reach."""
    upload = {"step": 1, "upload": "ab" * 16, "path": "a", "size_bytes": 1}
    asked = [
        (401, running.ask("GET", "/projects", OWN_TOKEN)),
        (403, running.ask("DELETE", "/projects/p/runs/r", token)),
        (404, running.ask("GET", "/projects/p/runs/none", token)),
        (400, running.ask("POST", "/projects/p/series", token, json={"runs": ["r"], "metrics": []})),
        (422, running.ask("POST", "/projects/p/series", token, json={"runs": 1})),
        (502, running.ask("POST", "/projects/p/runs/r/uploads", token, json=upload)),
    ]
    assert [answer.status_code for _, answer in asked] == [status for status, _ in asked]
    return {str(status): answer.text for status, answer in asked}


def test_no_secret_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By neither side: output, log, metrics, answers, errors, settings; where the server itself has them all."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with guarded(tmp_path / "data") as running:
        token = running.token("write", "p")
        told = train(tmp_path, running.server.url, token)
        texts = {"output": told, **read_back(running), **refusals(running, token)}
        log = running.server.log
    texts["log"] = log.read_text()
    assert "audit: POST /api/v1/tokens" in texts["log"]
    environ = {**os.environ, "THALWEG_ADMIN_TOKEN": running.admin}
    store = parse_store("THALWEG_STORE", STORE)
    objects = parse_objects("--objects", None, environ, store)
    server = ServerSettings(store, objects=objects, access=parse_access(environ, auth="tokens"))
    texts["settings"] = f"{Settings.read(environ)!r} {server!r} {store} {objects}"
    assert "someone" in texts["settings"]
    assert_untold([PASSWORD, AWS_SECRET, OWN_TOKEN, token, running.admin], texts)


@pytest.mark.parametrize(
    "arguments",
    [
        ("ingest",),
        ("api", "--verbose", "--log-format", "json"),
        ("migrate",),
        ("up", "--data", STORE),
        ("doctor", "--url", NOBODY),
    ],
)
def test_a_command_that_fails_tells_no_secret(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Whose database or server is out of reach, or whose store is none."""
    environment = {**os.environ, **ENVIRONMENT, "THALWEG_SPOOL_DIR": str(tmp_path)}
    done = subprocess.run([*COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode in (1, 2), done.stderr
    texts = {"output": done.stdout + done.stderr}
    assert "127.0.0.1:9" in texts["output"]
    assert_untold([PASSWORD, AWS_SECRET, OWN_TOKEN], texts)
