"""As an operator has it: a server on an address that is not loopback, in a network of its own, with TLS and tokens.

Two network namespaces, joined by a pair of virtual Ethernet devices: the server lives in one, the training in the
other. It takes root, and `ip` of iproute2.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

SERVER, CLIENT = "10.231.77.1", "10.231.77.2"
ADMIN = "an-administrator-of-this-test-0123456789"
TRAINING = """
import thalweg
with thalweg.init(project="digits", run_id="far") as run:
    for step in range(500):
        run.log({"train/loss": 1 / (step + 1), "train/acc": step / 500}, step=step)
    run.save_checkpoint("weights", step=499)
    assert run.flush(120), "not acknowledged"
print(run.url)
"""


@dataclass(frozen=True, slots=True)
class Network:
    """The names of two namespaces, and a folder with PEM files and what else the processes in them leave."""

    server: str
    client: str
    folder: Path

    def run(self, namespace: str, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """A command to its end."""
        return subprocess.run(
            ["ip", "netns", "exec", namespace, *command],
            env={**os.environ, "THALWEG_SPOOL_DIR": str(self.folder / "spool"), **environ},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )


def ip(*words: str) -> None:
    """A command of iproute2."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """Two namespaces that reach each other and nobody else."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("it takes root and iproute2 to make a network of one's own")
    names = [f"thalweg-{os.getpid()}-{side}" for side in ("s", "c")]
    with ExitStack() as stack:
        for name in names:
            try:
                ip("netns", "add", name)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"this machine makes no network namespaces: {error.stderr}")
            stack.callback(ip, "netns", "del", name)
        ip("link", "add", "thw0", "netns", names[0], "type", "veth", "peer", "name", "thw0", "netns", names[1])
        for name, address in zip(names, (SERVER, CLIENT), strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "thw0")
            ip("-n", name, "link", "set", "thw0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        made = authority.issue_cert(SERVER)
        made.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
        (tmp_path / "weights").write_bytes(b"w" * 100_000)
        yield Network(*names, tmp_path)


@pytest.fixture
def url(network: Network) -> Iterator[str]:
    """A server on all addresses of its namespace."""
    pem = str(network.folder / "server.pem")
    command = [sys.executable, "-m", "thalweg.cli.main", "up", "--json", "--data", str(network.folder / "data")]
    command += ["--http", "0.0.0.0:0", "--grpc", "0.0.0.0:0", "--auth", "tokens", "--tls-cert", pem, "--tls-key", pem]
    with (network.folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            ["ip", "netns", "exec", network.server, *command],
            env={**os.environ, "THALWEG_ADMIN_TOKEN": ADMIN},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        ready = json.loads(process.stdout.readline())
        yield f"https://{SERVER}:{ready['http'].rpartition(':')[2]}"
    finally:
        process.terminate()
        code = process.wait(60)
        process.stdout.close()
    assert code == 0, (network.folder / "server.log").read_text()


def thalweg(*arguments: str) -> tuple[str, ...]:
    """A command line of Thalweg."""
    return (sys.executable, "-m", "thalweg.cli.main", *arguments)


def test_a_training_elsewhere_logs_over_the_network(network: Network, url: str) -> None:
    """A token is made, a training runs with it, its points and checkpoint are there; nobody else is let in."""
    believing = {"THALWEG_URL": url, "THALWEG_CA_FILE": "ca.pem"}
    made = network.run(
        network.client,
        *thalweg("token", "create", "-p", "digits", "--role", "write"),
        THALWEG_TOKEN=ADMIN,
        **believing,
    )
    assert made.returncode == 0, made.stderr
    with_token = {**believing, "THALWEG_TOKEN": made.stdout.strip()}

    trained = network.run(network.client, sys.executable, "-c", TRAINING, **with_token)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.strip() == url

    shown = network.run(network.client, *thalweg("show", "digits/far", "--json"), **with_token)
    assert shown.returncode == 0, shown.stderr
    counters = json.loads(shown.stdout)["health"]["counters"]
    assert counters["accepted"] == counters["logged"] >= 1000

    restored = network.run(network.client, *thalweg("restore", "digits/far", "--to", "back"), **with_token)
    assert restored.returncode == 0, restored.stderr
    assert (network.folder / "back").exists()
    found = [path for path in (network.folder / "back", *(network.folder / "back").rglob("*")) if path.is_file()]
    assert [path.read_bytes() for path in found] == [b"w" * 100_000]

    for environ, told in (
        ({**believing, "THALWEG_TOKEN": ""}, "a token is needed"),
        ({**believing, "THALWEG_TOKEN": "x" * 40}, "a token is needed"),
        ({**with_token, "THALWEG_CA_FILE": ""}, "certificate verify failed"),
        ({**with_token, "THALWEG_URL": url.replace("https", "http")}, "cannot reach"),
    ):
        refused = network.run(network.client, *thalweg("runs", "digits"), **environ)
        assert refused.returncode == 1
        assert told in refused.stderr, refused.stderr
    doctor = network.run(network.client, *thalweg("doctor", "--json"), **with_token)
    states = {one["check"]: one["state"] for one in json.loads(doctor.stdout)["findings"]}
    assert states["grpc"] == "ok", doctor.stdout
