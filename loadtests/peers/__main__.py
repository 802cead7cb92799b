"""What one `log()` costs with other trackers, and with Thalweg, in one run on this machine.

Each peer has a virtual environment of its own below `.peers/`, made when it is missing; one that cannot be installed
or run is left out, with a word. All get the same loop: 10, 100 and 1,000 metrics a call. wandb, neptune-scale, Thalweg
are offline, trackio, aim and tensorboardX write to this machine's disk, mlflow logs to a server of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from loadtests.report import Report

PROGRAM = Path(__file__).with_name("program.py")
ENVIRONMENTS = Path(".peers")
PACKAGES = {
    "wandb": "wandb",
    "neptune-scale": "neptune-scale",
    "trackio": "trackio",
    "aim": "aim",
    "tensorboardX": "tensorboardX",
    "mlflow": "mlflow",
    "mlflow-async": "mlflow",
}
WIDTHS = (10, 100, 1000)
POINTS = 100_000
"""Of one measurement at most; at least 50 calls."""
RUN_MOST_S = 300


def main() -> None:
    """Measures every peer that runs here, and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="regex: peers to measure")
    options = parser.parse_args()
    report = Report("Beside other trackers", (__doc__ or "").strip())
    pythons = {"thalweg": Path(sys.executable)}
    for peer, package in PACKAGES.items():
        if re.search(options.only, peer):
            try:
                pythons[peer] = environment(package)
            except subprocess.CalledProcessError as error:
                report.notes.append(f"{peer} could not be installed: {last_line(error)}")
    cheapest: dict[int, tuple[float, str]] = {}
    own: dict[int, float] = {}
    for peer, python in pythons.items():
        for width in WIDTHS:
            try:
                found = [measure(python, peer, width) for _ in range(options.rounds)]
            except (subprocess.SubprocessError, ValueError) as error:
                report.notes.append(f"{peer} at {width} metrics did not run: {last_line(error)}")
                continue
            name = f"{peer} {version(python, PACKAGES.get(peer, 'thalweg'))}, {width} metrics"
            report.add(f"{name}: log(), median", "us", [one["p50_us"] for one in found])
            report.add(f"{name}: log(), p99", "us", [one["p99_us"] for one in found])
            report.add(f"{name}: CPU", "us/point", [one["cpu_us_per_point"] for one in found])
            cost = statistics.median(one["p50_us"] for one in found)
            if peer == "thalweg":
                own[width] = cost
            elif width not in cheapest or cost < cheapest[width][0]:
                cheapest[width] = cost, peer
    for width, (cost, peer) in sorted(cheapest.items()):
        report.add(f"cheapest peer at {width} metrics ({peer}), times Thalweg", "", [cost / own[width]], "at least 10")
    report.write("peers")


def environment(package: str) -> Path:
    """The interpreter of a package's environment. Raises CalledProcessError."""
    folder = ENVIRONMENTS / package
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        print(f"Installing {package} into {folder} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, capture_output=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
        subprocess.run(install, check=True, capture_output=True, text=True)
        (folder / "installed").touch()
    return python


def version(python: Path, package: str) -> str:
    """The version of a package there."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def measure(python: Path, peer: str, width: int) -> dict[str, float]:
    """One measurement in a process of its own. Raises SubprocessError, ValueError."""
    calls = max(50, POINTS // width // (10 if peer.startswith("mlflow") else 1))
    with tempfile.TemporaryDirectory() as folder, own_server(python, peer, folder) as settings:
        done = subprocess.run(
            [str(python), str(PROGRAM), peer, folder, str(width), str(calls)],
            check=True,
            capture_output=True,
            text=True,
            timeout=RUN_MOST_S,
            cwd=folder if peer != "thalweg" else None,
            env={**os.environ, **settings},
        )
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@contextmanager
def own_server(python: Path, peer: str, folder: str) -> Iterator[dict[str, str]]:
    """mlflow's own server, on a free port; nothing for the others."""
    if not peer.startswith("mlflow"):
        yield {}
        return
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    store = f"sqlite:///{folder}/mlflow.db"
    command = [str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    server = subprocess.Popen(
        [*command, "--backend-store-uri", store, "--artifacts-destination", folder],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(f"{address}/health", server)
        yield {"MLFLOW_TRACKING_URI": address}
    finally:
        server.terminate()
        server.wait()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    """Until it answers. Raises SubprocessError."""
    ends_at = time.monotonic() + RUN_MOST_S
    while time.monotonic() < ends_at and server.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise subprocess.SubprocessError("its server did not come up")


def last_line(error: Exception) -> str:
    """What a process said last."""
    told = getattr(error, "stderr", None) or str(error)
    text = told.decode(errors="replace") if isinstance(told, bytes) else str(told)
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return re.sub(r"\S*/\S*", "...", lines[-1])[:200] if lines else type(error).__name__


if __name__ == "__main__":
    main()
