"""The entry: which commands there are, how errors are told, and the exit status. Mostly as a real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.sdk.cli.canned_server import CannedRun, CannedServer
from tests.unit.sdk.cli.conftest import Command
from thalweg.cli.main import run_command
from thalweg.version import __version__

CALL = [sys.executable, "-m", "thalweg.cli.main"]
COMMANDS = (
    *("runs", "show", "tail", "query", "metric", "tree", "fork", "checkpoints", "restore", "sync", "export"),
    *("delete", "undelete", "retention"),
)


def install(folder: Path, **commands: str) -> dict[str, str]:
    """Metadata of a distribution with these commands, and the environment that shows it to Python."""
    metadata = folder / "plugin-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    lines = [f"{name} = {target}" for name, target in commands.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[thalweg.commands]", *lines]) + "\n")
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def call(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CALL, *arguments], capture_output=True, text=True, env=env, check=False, timeout=60)


def test_version() -> None:
    assert call("--version").stdout == f"thalweg {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([command, "--help"]) == 0
    assert f"Example: thalweg {command}" in capsys.readouterr().out


def test_help_imports_no_command_and_lists_those_of_plugins(tmp_path: Path) -> None:
    env = install(tmp_path, frobnicate="no_such_module:command")
    code = "import sys; from thalweg.cli.main import run_command; run_command(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    text, _, modules = done.stdout.rstrip("\n").rpartition("\n")
    assert all(f"  {command} " in text for command in (*COMMANDS, "frobnicate"))
    for heavy in ("rich", "grpc", "pyarrow", "psutil", "asyncio", "thalweg_tracker", "thalweg.cli.runs"):
        assert heavy not in modules.split()


def test_restore_of_a_database_is_the_command_of_the_server(tmp_path: Path) -> None:
    """With a database named, `thalweg restore` goes on as `thalweg restore-database`."""
    env = install(tmp_path / "plugin", **{"restore-database": "thalweg_tracker.cli.backup:restore_database"})
    done = call("restore", str(tmp_path / "backup"), "--data", str(tmp_path / "data"), env=env)
    assert done.stderr == f"Error: cannot read a backup at {tmp_path / 'backup'}: nothing is there.\n"
    assert done.returncode == 1


def test_a_plugin_without_its_dependencies_says_what_to_install(tmp_path: Path) -> None:
    done = call("frobnicate", env=install(tmp_path, frobnicate="no_such_module:command"))
    assert done.returncode == 1
    assert done.stderr == (
        "Error: cannot load the command 'frobnicate': No module named 'no_such_module'. "
        "It needs: pip install 'thalweg[server]'\n"
    )


def test_a_plugin_that_is_no_command_is_told(tmp_path: Path) -> None:
    done = call("frobnicate", env=install(tmp_path, frobnicate="os:getcwd"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "is not a click command" in done.stderr


def test_a_plugin_is_called_and_its_exit_status_kept(tmp_path: Path) -> None:
    source = "import click\n@click.command()\n@click.pass_context\ndef run(c):\n    print('called')\n    c.exit(7)\n"
    env = install(tmp_path, frobnicate="plugin_of_test:run", runs="plugin_of_test:run")
    (tmp_path / "plugin_of_test.py").write_text(source)
    done = call("frobnicate", env=env)
    assert (done.returncode, done.stdout) == (7, "called\n")
    assert call("runs", "--help", env=env).stdout.startswith("Usage: thalweg runs")  # ours cannot be replaced


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("frobnicate",), 2, "No such command 'frobnicate'"),
        (("show",), 2, "Missing argument 'RUN'"),
        (("show", "a/b/c"), 2, "cannot use 'a/b/c' as a run"),
        (("runs", "--url", "ftp://x"), 1, "Error: cannot use THALWEG_URL='ftp://x'"),
        (("runs", "--url", "http://127.0.0.1:1"), 1, "Error: cannot reach http://127.0.0.1:1"),
        (("show", "p/none"), 1, "Error: there is no"),
        (("show", "none"), 1, "Error: there is no run 'none' in any of the server's projects"),
    ],
)
def test_errors(thalweg: Command, arguments: tuple[str, ...], status: int, told: str) -> None:
    outcome = thalweg(*arguments)
    assert (outcome.status, outcome.out) == (status, "")
    assert told in outcome.err
    if status == 1:
        assert outcome.err.count("\n") == 1


def test_a_closed_pipe_is_quiet(canned: CannedServer) -> None:
    """More output than a pipe holds, and a reader that leaves after one byte."""
    for number in range(2000):
        canned.add("p", CannedRun(f"run-with-a-long-name-{number:0100d}"))
    process = subprocess.Popen(
        [*CALL, "runs", "p", "--url", canned.url, "-n", "2000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": ""},  # unbuffered, Python does not notice a write that is cut short
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


def test_ctrl_c_ends_without_traceback(canned: CannedServer) -> None:
    canned.add("p", CannedRun("r1", metrics={"m": {0.0: 1.0}}, fields={"status": "running"}))
    process = subprocess.Popen(
        [*CALL, "tail", "p/r1", "--follow", "--url", canned.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout, process.stderr:  # type: ignore[union-attr]  # it is a pipe
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert "Traceback" not in process.stderr.read()  # type: ignore[union-attr]
