"""A virtual environment for each package, below `.peers/` in the repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".peers"
INSTALL_MOST_S = 600


def environment(package: str, *, newest: bool = False) -> Path:
    """The interpreter of a package's environment, made if it is missing. Raises SubprocessError, OSError.

    `newest`: brings the package to its newest release.
    """
    folder = ENVIRONMENTS / package
    python = folder / "bin" / "python"  # a link, which must stay one: its place tells Python where the packages are
    if newest or not version(python, package):
        print(f"Installing {package} ...", flush=True)
        if not python.exists():
            _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--upgrade", package, "psutil"])
    return python


def version(python: Path, package: str) -> str:
    """The version of a package there; empty where it is not installed."""
    code = f"import importlib.metadata as m, psutil; print(m.version({package!r}))"
    try:
        return subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_MOST_S)
