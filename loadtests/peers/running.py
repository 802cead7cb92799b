"""Runs program.py in a tracker's environment, beside its server where it has one. Ends every process it started."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from loadtests.peers.data import Checked
from loadtests.peers.environments import ROOT
from loadtests.peers.processes import family, last_line, let_end
from loadtests.peers.program import WARM_UP, Measured, Order
from thalweg.testing import running_server

PROGRAM_MOST_S = 240
SERVER_MOST_S = 120
LINGER_S = 20.0
"""How long processes of a killed training may go on before one reads what is there."""
OWN_VARIABLES = re.compile("(THALWEG|WANDB|MLFLOW|NEPTUNE|TRACKIO|AIM|HF|GRADIO)_")
SETTINGS = {
    "PYTHONPATH": str(ROOT),
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
    "DO_NOT_TRACK": "true",
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


class PeerError(Exception):
    """A tracker did not do what it was told to, or lost something."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a tracker is measured: its interpreter, a folder of its own, and its server."""

    peer: str
    python: Path
    folder: Path
    url: str = ""
    server_pid: int | None = None

    def measure(self, width: int, calls: int, limit_s: float) -> Measured:
        """Logs, and compares what came of it. Raises PeerError."""
        order = self._order(f"width-{width}", width, WARM_UP + calls, limit_s)
        found = Measured(**self._run("measure", order))
        steps = WARM_UP + len(found.took_ns)
        checked = self._read(Order(**{**asdict(order), "steps": steps}))
        if checked != Checked(steps * width, 0):
            raise PeerError(
                f"{checked.right:,} of {steps * width:,} points are there, and {checked.wrong:,} wrong ones"
            )
        return found

    def crash(self, width: int, steps: int) -> tuple[Checked, int]:
        """What is there of a run whose process was killed, and how many processes did not end by themselves.

        Raises PeerError.
        """
        order = self._order("crash", width, steps, 0.0)
        lingering = self._start("crash", order, -signal.SIGKILL, LINGER_S)
        return self._read(order), lingering

    def _order(self, name: str, width: int, steps: int, limit_s: float) -> Order:
        return Order(self.peer, str(self.folder / name), width, steps, limit_s, self.url, self.server_pid)

    def _read(self, order: Order) -> Checked:
        return Checked(**self._run("read", order))

    def _run(self, task: str, order: Order) -> dict[str, Any]:
        self._start(task, order, 0, 1.0)
        found: dict[str, Any] = json.loads(Path(order.folder + ".json").read_text())
        return found

    def _start(self, task: str, order: Order, wanted: int, linger_s: float) -> int:
        """Runs the program to its end, and says how many processes it left that had to be killed."""
        before = family(os.getpid())
        log = self.folder / "log"
        command = [str(self.python), "-m", "loadtests.peers.program", task, json.dumps(asdict(order))]
        try:
            with log.open("w") as output:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=PROGRAM_MOST_S,
                    cwd=self.folder,
                    env=_environment(self.folder, MLFLOW_TRACKING_URI=self.url),
                )
        except (subprocess.TimeoutExpired, OSError) as error:
            let_end(self._kept(before), 0)
            raise PeerError(f"{task}: {last_line(str(error))}") from error
        killed = let_end(self._kept(before), linger_s)
        if done.returncode != wanted:
            raise PeerError(f"{task} ended with {done.returncode}: {last_line(log.read_text(errors='replace'))}")
        return killed

    def _kept(self, before: set[int]) -> set[int]:
        """What is not the program's: that which was there before, and what the server has started since."""
        return before if self.server_pid is None else before | family(self.server_pid)


@contextmanager
def site(peer: str, python: Path) -> Iterator[Site]:
    """A place for a tracker, with its server if it has one. Raises PeerError."""
    with tempfile.TemporaryDirectory(prefix="peers-", ignore_cleanup_errors=True) as text:
        folder = Path(text)
        if peer == "thalweg, online":
            with running_server(folder / "data") as server:
                yield Site(peer, python, folder, server.url, server.process.pid)
        elif peer.startswith("mlflow"):
            with _mlflow_server(python, folder) as (url, pid):
                yield Site(peer, python, folder, url, pid)
        else:
            yield Site(peer, python, folder)


@contextmanager
def _mlflow_server(python: Path, folder: Path) -> Iterator[tuple[str, int]]:
    """mlflow's own server on a free port, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    before = family(os.getpid())
    server = subprocess.Popen(
        [*command, *stores],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=_environment(folder),
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/health", server)
        yield url, server.pid
    finally:
        _end(server)
        let_end(before, 1.0)


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    """Until it answers. Raises PeerError."""
    opener = build_opener(ProxyHandler({}))
    ends_at = time.monotonic() + SERVER_MOST_S
    while time.monotonic() < ends_at and server.poll() is None:
        try:
            with opener.open(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise PeerError("its server did not come up")


def _end(server: subprocess.Popen[bytes]) -> None:
    """Ends a server and its group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            continue


def _environment(folder: Path, **more: str) -> dict[str, str]:
    """That of this process without what is meant for one of the trackers; nothing is written to the user's home."""
    own = {key: text for key, text in os.environ.items() if not OWN_VARIABLES.match(key)}
    return {**own, **SETTINGS, "HOME": str(folder), **more}
