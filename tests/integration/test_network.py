"""As an operator has it: a server on an address that is not loopback, in a network of its own, with TLS and tokens.

Two network namespaces, joined by a pair of virtual Ethernet devices: the server lives in one, the training in the
other. The server is what deploy/systemd/thalweg.service starts, with what its comments say of a network: command line,
variables, credentials. It takes root, and `ip` of iproute2; systemd itself it does not.
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

from tests.support.deployment import DEPLOY, addresses_told, tool, unit

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


def as_systemd_would(folder: Path) -> tuple[list[str], dict[str, str], Path]:
    """The unit's command line, variables and folder. The program is the one here, systemd's folders lie in `folder`."""
    keys = unit(DEPLOY / "systemd" / "thalweg.service", with_examples=True)
    state, credentials = folder / "state", folder / "credentials"
    credentials.mkdir()
    here = {"admin_token": ADMIN, **dict.fromkeys(("tls_cert", "tls_key"), (folder / "server.pem").read_text())}
    for value in keys["LoadCredential"]:
        name = value.partition(":")[0]
        (credentials / name).write_text(here[name])
    for name in keys["StateDirectory"]:
        (state / name).mkdir(parents=True, mode=0o700)

    def put_in(value: str) -> str:
        return value.replace("%S", str(state)).replace("%d", str(credentials))

    pairs = [pair for value in keys["Environment"] for pair in put_in(value).split()]
    (line,), (cwd,) = keys["ExecStart"], keys["WorkingDirectory"]
    program, *arguments = line.split()
    return [tool(Path(program).name), *arguments], dict(pair.split("=", 1) for pair in pairs), Path(put_in(cwd))


@pytest.fixture
def url(network: Network) -> Iterator[str]:
    """A server on all addresses of its namespace, as its unit says."""
    command, variables, state = as_systemd_would(network.folder)
    with (network.folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            ["ip", "netns", "exec", network.server, *command],
            env={name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ} | variables,
            cwd=state,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        told = addresses_told(process)
        assert "http" in told, (network.folder / "server.log").read_text()
        yield f"https://{SERVER}:{told['http'].rpartition(':')[2]}"
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
