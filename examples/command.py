"""The `thalweg` command as a user calls it, with its line before its output."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

from rich.console import Console


def show_command(console: Console, url: str, *arguments: str) -> str:
    """Runs `thalweg` with these arguments against a server, shows the output and returns it.

    Raises subprocess.CalledProcessError where it fails; what it said of that is on standard error.
    """
    console.print(f"$ thalweg {shlex.join(arguments)}", style="bold", markup=False, soft_wrap=True)
    done = subprocess.run(
        [sys.executable, "-m", "thalweg.cli.main", *arguments],
        env={**os.environ, "THALWEG_URL": url, "COLUMNS": str(console.width)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    console.print(done.stdout, markup=False, soft_wrap=True)
    return done.stdout
