"""Who owns a folder is asked, and nobody else: over HTTP, with tokens, with TLS, past another server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.access import Guarded, guarded
from tests.support.certificates import Certificates, make_certificates
from thalweg.testing import running_server
from thalweg_tracker.cli.owner import Owner, OwnerError
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.errors import EngineOwnedError, RejectedError

LAST = "/admin/backups/last"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of an authority that nobody else believes."""
    return make_certificates(tmp_path_factory.mktemp("pem"))


@dataclass(frozen=True, slots=True)
class Folder:
    """A data folder that a server has, which asks for tokens."""

    path: Path
    running: Guarded


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """Over HTTP."""
    path = tmp_path_factory.mktemp("plain") / "data"
    with guarded(path) as running:
        yield Folder(path, running)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, files: Certificates) -> Iterator[Folder]:
    """Over HTTPS."""
    with with_tls(tmp_path_factory.mktemp("secure") / "data", files) as folder:
        yield folder


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, files: Certificates) -> Iterator[Folder]:
    """The same again, with another folder."""
    with with_tls(tmp_path_factory.mktemp("elsewhere") / "data", files) as folder:
        yield folder


@contextmanager
def with_tls(path: Path, files: Certificates) -> Iterator[Folder]:
    """A server whose certificate the authority signed, and whose own client believes it."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("THALWEG_CA_FILE", str(files.authority))
        with guarded(path, "--tls-cert", str(files.certificate), "--tls-key", str(files.key)) as running:
            environment.undo()
            yield Folder(path, running)


def owner_of(path: Path, token: str = "", **environ: str) -> Owner:
    """The owner, as who opens the folder is told of it."""
    with pytest.raises(EngineOwnedError) as refused:
        EmbeddedEngine(path)
    assert refused.value.http is not None
    return Owner(refused.value.http, refused.value.instance, {"THALWEG_TOKEN": token, **environ})


def code_of(owner: Owner) -> str:
    """What the server that owns the folder refuses a request of administrators with."""
    with pytest.raises(RejectedError) as refused:
        owner.ask("GET", LAST)
    return refused.value.code


def test_over_http(tmp_path: Path) -> None:
    """Neither token nor THALWEG_URL is needed, nor looked at: the note has the address."""
    with running_server(tmp_path / "data") as server:
        owner = owner_of(tmp_path / "data", THALWEG_URL="http://127.0.0.1:1")
        assert str(owner) == server.url
        assert [one["project"] for one in owner.ask("GET", "/projects")["projects"]] == []
        assert owner.ask("POST", "/tokens", {"role": "read"})["role"] == "read"
        assert code_of(owner) == "no_backup"


def test_with_tokens(plain: Folder) -> None:
    """Without one, the server is asked nothing; one whose role is too low is told by the server; then it goes."""
    with pytest.raises(OwnerError, match="a token is needed") as refused:
        owner_of(plain.path).ask("GET", LAST)
    assert f"cannot ask the server at {plain.running.server.url}" in str(refused.value)
    assert code_of(owner_of(plain.path, plain.running.token("read"))) == "forbidden"
    assert code_of(owner_of(plain.path, plain.running.token("admin", "p"))) == "forbidden"
    assert code_of(owner_of(plain.path, plain.running.admin)) == "no_backup"


def test_another_server_at_the_noted_address(plain: Folder) -> None:
    """As where two hosts share the folder, and the note's is a loopback address of the other one."""
    owner = Owner(plain.running.server.url, "0" * 32, {"THALWEG_TOKEN": plain.running.admin})
    with pytest.raises(OwnerError, match="Run the command on the host"):
        owner.ask("POST", "/tokens", {"role": "admin"})
    old = Owner(plain.running.server.url, None, {"THALWEG_TOKEN": plain.running.admin})
    with pytest.raises(OwnerError, match="of an older version"):
        old.ask("POST", "/tokens", {"role": "admin"})
    tokens = plain.running.ask("GET", "/tokens", plain.running.admin).json()["tokens"]
    assert not [one for one in tokens if one["role"] == "admin" and one["project"] is None]


def test_over_tls(secure: Folder, files: Certificates, tmp_path: Path) -> None:
    """By the address in the note, or by THALWEG_URL; whoever believes the authority."""
    url, authority = secure.running.server.url, str(files.authority)
    assert code_of(owner_of(secure.path, secure.running.admin, THALWEG_CA_FILE=authority)) == "no_backup"
    named = owner_of(secure.path, secure.running.admin, THALWEG_CA_FILE=authority, THALWEG_URL=f"{url}/")
    assert (str(named), code_of(named)) == (url, "no_backup")
    with pytest.raises(OwnerError, match=r"certificate verify failed.*THALWEG_CA_FILE who signed it"):
        owner_of(secure.path, secure.running.admin).ask("GET", LAST)
    with pytest.raises(OwnerError, match="at tracker: unknown url type"):
        owner_of(secure.path, secure.running.admin, THALWEG_URL="tracker").ask("GET", LAST)
    with pytest.raises(OwnerError, match="cannot use the files of TLS"):
        owner_of(secure.path, secure.running.admin, THALWEG_CA_FILE=str(tmp_path / "none.pem"))


def test_another_server_at_thalweg_url(secure: Folder, elsewhere: Folder, files: Certificates, tmp_path: Path) -> None:
    """It would take the order, which its administrator's token allows; but it is not asked."""
    environ = {"THALWEG_CA_FILE": str(files.authority), "THALWEG_URL": elsewhere.running.server.url}
    owner = owner_of(secure.path, elsewhere.running.admin, **environ)
    for _ in range(2):
        with pytest.raises(OwnerError, match=r"not the one that owns the folder.*Set THALWEG_URL to the owner's"):
            owner.ask("POST", "/admin/backups", {"to": str(tmp_path / "backup")})
    with pytest.raises(OwnerError, match=f"cannot ask the server at {elsewhere.running.server.url}: a token is needed"):
        owner_of(secure.path, secure.running.admin, **environ).ask("GET", LAST)
    done = backup(secure.path, tmp_path / "backup", THALWEG_TOKEN=elsewhere.running.admin, **environ)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: the server at {elsewhere.running.server.url} is not the one that owns")
    assert f"which serves {secure.running.server.url}; it was asked for nothing" in done.stderr
    assert not (tmp_path / "backup").exists()
    for folder in (secure, elsewhere):
        asked = owner_of(folder.path, folder.running.admin, THALWEG_CA_FILE=str(files.authority))
        assert code_of(asked) == "no_backup"
        assert asked.ask("GET", "/audit")["entries"] == []


def test_a_backup_over_tls(files: Certificates, tmp_path: Path) -> None:
    """The command as an operator has it, with THALWEG_URL of the owner."""
    with with_tls(tmp_path / "data", files) as secure:
        url = secure.running.server.url
        environ = {"THALWEG_CA_FILE": str(files.authority), "THALWEG_URL": url}
        done = backup(secure.path, tmp_path / "backup", THALWEG_TOKEN=secure.running.admin, **environ)
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"The server at {url} makes the backup.\n"
    assert (tmp_path / "backup" / "manifest.json").is_file()


def backup(data: Path, to: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """`thalweg backup` as a process."""
    line = [sys.executable, "-m", "thalweg.cli.main", "backup", str(to), "--data", str(data)]
    return subprocess.run(line, capture_output=True, text=True, timeout=240, check=False, env={**os.environ, **environ})
