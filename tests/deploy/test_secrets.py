"""No secret in a file of `deploy/`, and the script that makes them."""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
import subprocess
from pathlib import Path

from tests.support.deployment import COMPOSE_FILES, DEPLOY, ROOT, compose, files, required

# What a key, a token or a hash looks like; and a password in a URL that is no variable or placeholder.
_RANDOM = re.compile(r"\b(?=\w*\d)(?=\w*[A-Za-z])[A-Za-z0-9+/_-]{32,}\b")
_PEM = re.compile(r"-----BEGIN [A-Z ]*(PRIVATE KEY|CERTIFICATE)-----")
_URL_PASSWORD = re.compile(r"://[^/\s:@]+:(?P<password>[^@\s/]+)@")


def make_secrets(folder: Path) -> dict[str, str]:
    """Runs the script in a folder of its own, and gives what it wrote to .env."""
    script = shutil.copy(DEPLOY / "make-secrets.sh", folder)
    subprocess.run(["sh", script], check=True, capture_output=True, timeout=60, cwd="/")
    lines = (folder / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_no_file_holds_a_secret() -> None:
    """Neither random text of the length of one, nor PEM, nor a password in a URL."""
    assert len(files()) > 20
    for path in files():
        text = path.read_text()
        assert not _PEM.search(text), path
        for match in _RANDOM.finditer(text):
            # Types of Envoy and keys of YAML are long words; what is random has digits in many places.
            assert len(re.findall(r"\d+", match[0])) < 4, f"{path}: {match[0]}"
        for match in _URL_PASSWORD.finditer(text):
            assert match["password"][0] in "<$" or match["password"] == "password", f"{path}: {match[0]}"


def test_a_secret_would_be_found() -> None:
    """The patterns above can match."""
    assert len(re.findall(r"\d+", _RANDOM.findall(hashlib.sha256(b"secret").hexdigest())[0])) >= 4
    assert _URL_PASSWORD.search("clickhouse://thalweg:hunter2@host:9440/thalweg")


def test_what_the_script_makes_is_never_committed() -> None:
    """`.env`, `secrets/` and `tls/` are ignored, and no context of an image build has them."""
    for name in (".env", "secrets/admin_token", "tls/key.pem"):
        asked = subprocess.run(["git", "check-ignore", f"deploy/{name}"], cwd=ROOT, capture_output=True, check=False)
        assert asked.returncode == 0, name


def test_the_script_makes_all_that_compose_asks_for(tmp_path: Path) -> None:
    """Every variable that must be set, and every file of a secret but certificates, which are the operator's own."""
    made = make_secrets(tmp_path)
    for path in COMPOSE_FILES:
        assert required(path) <= made.keys(), path.name
        for name, secret in compose(path).get("secrets", {}).items():
            if not name.startswith("tls_"):
                assert (tmp_path / secret["file"]).stat().st_size >= 32
    assert (
        hashlib.sha256(made["THALWEG_CLICKHOUSE_PASSWORD"].encode()).hexdigest()
        == (made["THALWEG_CLICKHOUSE_PASSWORD_SHA256"])
    )


def test_the_script_keeps_what_is_there(tmp_path: Path) -> None:
    """A second time it changes nothing: running services would not know new secrets."""
    first, token = make_secrets(tmp_path), (tmp_path / "secrets" / "admin_token").read_text()
    assert make_secrets(tmp_path) == first
    assert (tmp_path / "secrets" / "admin_token").read_text() == token


def test_only_the_owner_reads_what_the_script_makes(tmp_path: Path) -> None:
    """The token is in a folder that nobody else enters; the container's user reads the file itself."""
    make_secrets(tmp_path)
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "secrets" / "admin_token").stat().st_mode) == 0o444


def test_two_of_them_differ(tmp_path: Path) -> None:
    """Each has secrets of its own."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    assert not set(make_secrets(one).values()) & set(make_secrets(other).values())
