"""The image: what hadolint says of its Dockerfile, that all it copies is there, and its entry point as a plain process.

No image is built here. The entry point is started as the image would: the same command line and variables, user
10001, a root file system that is read-only but for the data folder and /tmp, no HOME, no capabilities. Where the
tests do not run as root, it is the same without another user and without the read-only root.
"""

from __future__ import annotations

import functools
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.test_names import KNOWN
from tests.support import training
from tests.support.deployment import DEPLOY, ROOT, addresses_told, dockerfile, image_environment, run, tool
from thalweg.api_client import ApiClient
from thalweg.errors import ThalwegError

USER = "10001"
LANDED = {"THALWEG_LISTEN_HTTP", "THALWEG_OPS", "THALWEG_ADMIN_TOKEN_FILE"} <= KNOWN

# In a mount namespace of its own: only the data can be written, and a /tmp of memory. $1: the data; then the command.
CONFINE = """
set -e
data=$1; shift
mount --bind "$data" "$data"
mount -o remount,bind,ro /
mount -t tmpfs -o size=64m,mode=1777 tmpfs /tmp
exec setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""


def test_hadolint_finds_nothing() -> None:
    """Pinned bases, no package manager left behind, JSON commands, and the like."""
    checked = run(tool("hadolint"), str(DEPLOY / "Dockerfile"))
    assert checked.returncode == 0, checked.stdout


def test_hadolint_would_find_a_mistake(tmp_path: Path) -> None:
    """The check above can fail."""
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /tmp\n")
    assert run(tool("hadolint"), str(tmp_path / "Dockerfile")).returncode == 1


def test_all_that_is_copied_is_in_the_context() -> None:
    """It is in the repository, and .dockerignore lets it through."""
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    copied = [
        name for word, rest in dockerfile() if word == "COPY" and "--from" not in rest for name in rest.split()[:-1]
    ]
    assert copied
    for name in copied:
        assert (ROOT / name).exists(), name
        assert name in let_through, name
    assert let_through == set(copied), "let through, and not copied"


def test_it_runs_as_nobody_who_could_change_it() -> None:
    """A fixed user, not root, who owns nothing but the data; the last stage has no compiler and no pip to run."""
    instructions = dockerfile()
    assert ("USER", f"{USER}:{USER}") in instructions
    assert ("VOLUME", '["/var/lib/thalweg"]') in instructions
    last = [number for number, (word, _) in enumerate(instructions) if word == "FROM"][-1]
    assert not [rest for word, rest in instructions[last:] if word == "RUN" and re.search(r"\b(apt-get|pip)\b", rest)]
    assert all("--chown" not in rest for word, rest in instructions[last:] if word == "COPY")


def test_dependencies_are_those_of_the_lock() -> None:
    """The image installs what pyproject.toml asks for, at the versions of constraints.txt, as wheels."""
    (command,) = [rest for word, rest in dockerfile() if word == "RUN" and "requirements.txt" in rest]
    assert "--constraint constraints.txt" in command
    assert "--only-binary :all:" in command
    (python,) = re.findall(r'python -c "(.*?)" > requirements.txt', command)
    written = run(sys.executable, "-c", python, cwd=ROOT)
    assert "chdb>=4.4" in written.stdout.splitlines(), written.stderr
    assert "click>=8.1" in written.stdout.splitlines()
    assert "opentelemetry-sdk>=1.27" in written.stdout.splitlines()


@functools.cache
def confinement() -> bool:
    """Whether this process may give a child another user and mounts of its own."""
    if os.getuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"):
        return False
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        tried = run("unshare", "--mount", "sh", "-c", CONFINE, "sh", folder, sys.executable, "-c", "")
    return tried.returncode == 0


@dataclass(frozen=True)
class Container:
    """The entry point as a process, and what it said of itself."""

    process: subprocess.Popen[str]
    told: dict[str, str]
    data: Path
    token: str

    @property
    def ops_port(self) -> int:
        return int(self.told["ops"].rpartition(":")[2])


@pytest.fixture
def container() -> Iterator[Container]:
    """`thalweg up` with the image's variables; ports are any free ones of loopback."""
    folder = Path(
        tempfile.mkdtemp(dir="/var/tmp", prefix="thalweg-image-")
    )  # not below /tmp, which becomes another one
    try:
        folder.chmod(0o755)
        install, data, token_file = folder / "install", folder / "data", folder / "admin_token"
        for package in ("sdk/thalweg", "tracker/thalweg_tracker"):
            copied = install / Path(package).name
            shutil.copytree(ROOT / package, copied, ignore=shutil.ignore_patterns("__pycache__"))
        data.mkdir(mode=0o700)
        token = secrets.token_hex(32)
        token_file.write_text(token)
        token_file.chmod(0o444)
        environment = image_environment() | {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": str(install),
            "THALWEG_ADMIN_TOKEN_FILE": str(token_file),
            "THALWEG_DATA": str(data),
            "THALWEG_LISTEN_GRPC": "127.0.0.1:0",
            "THALWEG_LISTEN_HTTP": "127.0.0.1:0",
            "THALWEG_OPS": "127.0.0.1:0",
        }
        (entry,) = [json.loads(rest) for word, rest in dockerfile() if word == "ENTRYPOINT"]
        command = [str(Path(sys.executable).with_name(entry[0])), *entry[1:], "up"]
        if confinement():
            os.chown(data, int(USER), int(USER))
            command = ["unshare", "--mount", "sh", "-c", CONFINE, "sh", str(data), *command]
        log = folder / "log"
        with (
            log.open("w") as stderr,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment, cwd="/"
            ) as process,
        ):
            told = addresses_told(process)
            try:
                assert {"http", "grpc", "ops"} <= told.keys(), log.read_text()
                yield Container(process, told, data, token)
            finally:
                if process.poll() is None:
                    process.kill()
    finally:
        shutil.rmtree(folder)


def is_healthy(container: Container) -> bool:
    """What HEALTHCHECK runs, as it runs it."""
    (check,) = [rest for word, rest in dockerfile() if word == "HEALTHCHECK"]
    words = json.loads(check[check.index("[") :])
    script = words[-1].replace("/opt/thalweg/", f"{DEPLOY}/")
    settings = {"THALWEG_OPS": f"0.0.0.0:{container.ops_port}", "HTTP_PROXY": "http://127.0.0.1:1"}
    return run(sys.executable, *words[1:-1], script, env=settings).returncode == 0


@pytest.mark.skipif(not LANDED, reason="the settings that the image sets are not there yet")
def test_the_entry_point_serves_as_the_image_starts_it(container: Container, tmp_path: Path) -> None:
    """A run is logged with the token and read back, nobody is let in without, and SIGTERM ends it with status 0."""
    if confinement():
        status = Path(f"/proc/{container.process.pid}/status").read_text()
        assert re.search(rf"^Uid:\s+{USER}\s+{USER}", status, re.MULTILINE)
        assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
        mounts = Path(f"/proc/{container.process.pid}/mounts").read_text().splitlines()
        (root,) = [line for line in mounts if line.split()[1] == "/"]
        assert "ro" in root.split()[3].split(",")
    assert is_healthy(container)

    script = """
import thalweg
with thalweg.init(project="faults", run_id="image", system_interval_s=0) as run:
    for step in range(1000):
        run.log({"loss": 1 / (1 + step)}, step=step)
"""
    url = container.told["http"]
    status, _, err = training.run_to_end(tmp_path, url, script, THALWEG_TOKEN=container.token)
    assert status == 0, err
    client = ApiClient(url, container.token)
    training.wait_for_status(client, "image", "finished")
    assert training.exact(client, "image", "loss") == {float(n): 1 / (1 + n) for n in range(1000)}
    with pytest.raises(ThalwegError, match="token"):
        ApiClient(url, None).get("/projects/faults/runs/image")

    assert any(container.data.iterdir())
    container.process.send_signal(signal.SIGTERM)
    assert container.process.wait(60) == 0
    assert not is_healthy(container)


def test_the_health_check_fails_where_nothing_listens() -> None:
    """And says so in a line."""
    settings = {"THALWEG_OPS": "0.0.0.0:1"}
    checked = run(sys.executable, "-I", str(DEPLOY / "healthcheck.py"), env=settings)
    assert checked.returncode == 1
    assert "127.0.0.1:1 does not answer" in checked.stdout


def test_the_health_check_goes_by_the_answer() -> None:
    """200 is healthy, 503 is not; what the server says is passed on, to be seen in `docker inspect`."""
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    class Answer(BaseHTTPRequestHandler):
        status = 200

        def do_GET(self) -> None:
            assert self.path == "/readyz"
            self.send_response(Answer.status)
            self.end_headers()
            self.wfile.write(b"draining")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            settings = {"THALWEG_OPS": f"127.0.0.1:{server.server_port}"}
            for status, exit_status in ((200, 0), (503, 1)):
                Answer.status = status
                checked = run(sys.executable, "-I", str(DEPLOY / "healthcheck.py"), env=settings)
                assert (checked.returncode, checked.stdout) == (exit_status, "draining\n")
        finally:
            server.shutdown()
            thread.join()
