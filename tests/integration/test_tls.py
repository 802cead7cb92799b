"""TLS and mutual TLS on both ports, with certificates of an authority of the test's own; the SDK over them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.access import guarded
from tests.support.certificates import Certificates, make_certificates
from tests.support.training import run_to_end
from thalweg.api_client import ApiClient
from thalweg.errors import SettingError, UnreachableError
from thalweg.testing import ServerProcess, running_server

TRAINING = """
import sys, thalweg
with thalweg.init(project="p", run_id=sys.argv[1]) as run:
    for step in range(100):
        run.log({"loss": 1 / (step + 1)}, step=step)
    run.save_checkpoint(sys.argv[2], step=99)
    assert run.flush(int(sys.argv[3])), "not acknowledged"
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of an authority that nobody else believes."""
    return make_certificates(tmp_path_factory.mktemp("pem"))


def options(files: Certificates) -> list[str]:
    """Of a server with TLS."""
    return ["--tls-cert", str(files.certificate), "--tls-key", str(files.key)]


@pytest.fixture
def believing(files: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that believes the authority."""
    monkeypatch.setenv("THALWEG_CA_FILE", str(files.authority))


def train(server: ServerProcess, run_id: str, folder: Path, *, patience_s: int = 60, **environ: str) -> tuple[int, str]:
    """A training in a process of its own, with a checkpoint: its exit status, and what it told.

    What it could not deliver is thrown away, so that its sender leaves.
    """
    (folder / "weights").write_bytes(b"w" * 1000)
    code, _, told = run_to_end(
        folder,
        server.url,
        TRAINING,
        run_id,
        str(folder / "weights"),
        str(patience_s),
        THALWEG_SYSTEM_INTERVAL_S="0",
        **environ,
    )
    if code:
        shutil.rmtree(folder / "spool")
    return code, told


def test_a_training_over_tls_with_a_token(files: Certificates, believing: None, tmp_path: Path) -> None:
    """Metrics over gRPC, the rest over HTTPS, a checkpoint through a signed URL of the server itself."""
    with guarded(tmp_path / "data", *options(files)) as running:
        server = running.server
        assert server.url.startswith("https://")
        assert server.client.get("/health")["grpc"] == f"grpcs://{server.grpc}"
        token = server.client.post("/tokens", {"role": "write", "project": "p"})["token"]
        code, words = train(server, "tls", tmp_path, THALWEG_TOKEN=token)
        assert code == 0, words
        body = {"runs": ["tls"], "metrics": ["loss"], "points": None}
        (found,) = server.client.post("/projects/p/series", body)["series"]
        assert found["value"] == [1 / (step + 1) for step in range(100)]
        resolved = server.client.get("/projects/p/runs/tls/checkpoints/resolve", step=99)
        assert resolved["size_bytes"] == 1000
        assert token not in server.log.read_text()


def test_who_does_not_believe_the_authority_sends_nothing(files: Certificates, believing: None, tmp_path: Path) -> None:
    """The reason is told plainly, and the records wait."""
    with running_server(tmp_path / "data", *options(files)) as server:
        code, told = train(server, "no", tmp_path, patience_s=1, THALWEG_CA_FILE="")
        assert code != 0
        assert "certificate verify failed" in told
        assert server.client.get("/projects")["projects"] == []


def test_mutual_tls(files: Certificates, believing: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a certificate of one's own nobody comes in, neither way."""
    monkeypatch.setenv("THALWEG_CLIENT_CERT", str(files.client))
    monkeypatch.setenv("THALWEG_CLIENT_KEY", str(files.client_key))
    with running_server(tmp_path / "data", *options(files), "--tls-client-ca", str(files.authority)) as server:
        code, told = train(server, "mutual", tmp_path)
        assert code == 0, told
        assert server.client.get("/projects/p/runs/mutual")["last_step"] == 99
        nobody = {"THALWEG_CLIENT_CERT": "", "THALWEG_CLIENT_KEY": ""}
        code, told = train(server, "none", tmp_path, patience_s=1, THALWEG_GRPC=f"grpcs://{server.grpc}", **nobody)
        assert code != 0
        assert [one["run_id"] for one in server.client.get("/projects/p/runs")["runs"]] == ["mutual"]
        for name in nobody:
            monkeypatch.delenv(name)
        with pytest.raises(UnreachableError):
            ApiClient(server.url).get("/health")


def test_half_a_setting_is_told(files: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At the start, by its name, on both sides."""
    monkeypatch.setenv("THALWEG_CLIENT_CERT", str(files.client))
    with pytest.raises(SettingError, match="THALWEG_CLIENT_KEY"):
        ApiClient("https://127.0.0.1:1")
    monkeypatch.delenv("THALWEG_CLIENT_CERT")
    monkeypatch.setenv("THALWEG_CA_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(SettingError, match="THALWEG_CA_FILE"):
        ApiClient("https://127.0.0.1:1")
    with pytest.raises(RuntimeError, match="both --tls-cert and --tls-key"):
        ServerProcess(tmp_path / "data", "--tls-cert", str(files.certificate), log=tmp_path / "log")
    with pytest.raises(RuntimeError, match="a PEM file that this user can read"):
        ServerProcess(
            tmp_path / "data", "--tls-cert", str(files.certificate), "--tls-key", "/nowhere.key", log=tmp_path / "log"
        )
