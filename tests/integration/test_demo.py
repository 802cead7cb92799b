"""The demo as `make demo` runs it, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_demo_trains_reads_back_and_ends_well(tmp_path: Path) -> None:
    """It needs no terminal and no answer, checks its own results, shows tables and plots, and leaves no server."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "110"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for expected in (
        "fast  finished",
        "slow  finished",
        "val/recall",
        "* fast, o slow",
        "RuntimeError: told to fail after step 1500",
        "after step 1350 of base",
        "`-- base (branch 1, newest)",
        "* base, x base (branch 0)",
        "How often to save? A save holds this training up for",
        "2 * `val/precision` * `val/recall` / (`val/precision` + `val/recall`)",
        "last(f1)",
        "all checks passed",
    ):
        assert expected in done.stdout, done.stdout
    again = subprocess.run(
        [sys.executable, "-m", "thalweg.cli.main", "migrate", "--data", str(tmp_path / ".demo" / "data")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert again.returncode == 0, again.stderr  # nobody has the data folder any more
    assert "up to date" in again.stdout
