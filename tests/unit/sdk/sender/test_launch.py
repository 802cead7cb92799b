"""The sender as a process of its own: where its modules come from, what it inherits, how it is reaped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.spools import new_folder, read_all
from tests.support.waiting import wait_until
from thalweg.sender.launch import SenderProcess, start_sender
from thalweg.spool import layout


def wait_for_end(sender: SenderProcess) -> None:
    """Until the sender has left."""
    wait_until(lambda: not sender.is_running())


def test_sender_runs_beside_modules_of_the_same_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules in the working directory do not take the place of the library's."""
    for name in ("json.py", "asyncio.py", "thalweg.py", "mmap.py", "logging.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    folder = new_folder(tmp_path / "spool")
    sender = start_sender(folder, None, 0.0)
    wait_until(lambda: (folder / layout.STATUS_FILE).exists() or not sender.is_running())
    assert "the wrong module" not in (folder / layout.LOG_FILE).read_text()
    assert sender.is_running()
    os.kill(sender.pid, signal.SIGKILL)
    wait_for_end(sender)


def test_token_travels_by_environment_alone(tmp_path: Path) -> None:
    """A token is in the sender's environment, not among its arguments, which all users of the host can see."""
    folder = new_folder(tmp_path / "spool", mode="offline")
    sender = start_sender(folder, "tok-secret", 0.0)
    arguments = Path(f"/proc/{sender.pid}/cmdline")
    wait_until(lambda: str(folder).encode() in arguments.read_bytes())
    assert b"tok-secret" not in arguments.read_bytes()
    assert b"THALWEG_TOKEN=tok-secret" in Path(f"/proc/{sender.pid}/environ").read_bytes()
    os.kill(sender.pid, signal.SIGKILL)
    wait_for_end(sender)


def test_sender_has_a_session_of_its_own(tmp_path: Path) -> None:
    """Ctrl-C in the terminal of the training does not reach the sender."""
    sender = start_sender(new_folder(tmp_path / "spool", mode="offline"), None, 0.0)
    assert os.getsid(sender.pid) == sender.pid != os.getsid(0)
    os.kill(sender.pid, signal.SIGKILL)
    wait_for_end(sender)
    assert not sender.is_running()


def test_senders_that_have_left_are_no_zombies_for_long(tmp_path: Path) -> None:
    """A process that makes many runs reaps the senders of the earlier ones."""
    first = start_sender(new_folder(tmp_path), None, 0.0)
    os.kill(first.pid, signal.SIGKILL)
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
    second = start_sender(new_folder(tmp_path), None, 0.0)
    with pytest.raises(ProcessLookupError):
        os.kill(first.pid, 0)
    assert not first.is_running()
    os.kill(second.pid, signal.SIGKILL)
    wait_for_end(second)


def test_short_process_is_sealed_with_its_exit_code(tmp_path: Path) -> None:
    """A process that is gone before its sender has started is still seen to have ended with its code."""
    spool = tmp_path / "spool"
    script = (
        "import os, sys; from pathlib import Path; from tests.support.spools import new_folder\n"
        "from thalweg.sender.launch import start_sender\n"
        "folder = new_folder(Path(sys.argv[1]), mode='offline')\n"
        "print(folder, flush=True); start_sender(folder, None, 0.0); os._exit(3)\n"
    )
    command = [sys.executable, "-c", script, str(spool)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[4]) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        word = wait_until(lambda: read_all(folder, writer_ended=False).last_word)  # it is a zombie until then
    assert process.returncode == 3
    assert (word["outcome"], word["exit_code"]) == ("failed", 3)


def test_a_sender_whose_folder_is_gone_leaves(tmp_path: Path) -> None:
    """Somebody has deleted the spool while the server was away: there is nothing left to wait for."""
    folder = new_folder(tmp_path / "spool")
    sender = start_sender(folder, None, 0.0)
    wait_until(lambda: (folder / layout.STATUS_FILE).exists())
    assert sender.is_running()
    shutil.rmtree(folder, ignore_errors=True)
    wait_for_end(sender)
