"""Reads the state of the git work tree around a directory by running the `git` program.

Owns the commands, their time-outs and the limit of the diff. Never writes to the repository (no index
refresh), never prompts, never pages, never runs external diff programs. Nothing here raises: what cannot be
read is None.
Any thread; each call blocks for at most about 2 s per command, five commands.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from thalweg.system.redact import redact_text, strip_url_credentials

__all__ = ["DIFF_LIMIT_BYTES", "GitState", "read_git_state"]

DIFF_LIMIT_BYTES = 1 << 20
_COMMAND_TIMEOUT_S = 2.0
_SHORT_ANSWER_LIMIT_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class GitState:
    """What git knows of a directory. `unavailable_reason` is set when there is no state at all.

    One of: `no_directory`, `no_git` (no such program), `no_repository`, `dubious_ownership` (git refuses: the
    repository belongs to another user; see git's `safe.directory`), `timeout`, `failed`.
    """

    commit: str | None = None  # hexadecimal; None in a repository without commits
    branch: str | None = None  # None when HEAD is detached
    remote: str | None = None  # URL of `origin`, else of the first remote; without credentials
    dirty: bool | None = None  # tracked files differ from HEAD; untracked files do not count; None: not known
    diff: str | None = None  # against HEAD, staged and unstaged; secrets redacted; whole lines; None: not known
    diff_cut: bool = False  # the diff was longer than the limit, or git took longer than the time-out
    unavailable_reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    output: bytes  # what had come by then
    cut: bool  # more than the limit
    timed_out: bool
    status: int

    @property
    def ok(self) -> bool:
        return self.status == 0 and not self.cut and not self.timed_out

    @property
    def line(self) -> str | None:
        text = self.output.decode("utf-8", "replace").strip()
        return text if self.ok and text else None


def read_git_state(
    directory: str | os.PathLike[str],
    *,
    timeout_s: float = _COMMAND_TIMEOUT_S,
    diff_limit_bytes: int = DIFF_LIMIT_BYTES,
    program: str = "git",
) -> GitState:
    """The state of the work tree that holds `directory`. `timeout_s` holds for each command. Never raises."""
    if not Path(directory).is_dir():
        return GitState(unavailable_reason="no_directory")

    def ask(*arguments: str, limit_bytes: int = _SHORT_ANSWER_LIMIT_BYTES, errors: bool = False) -> _Answer:
        command = [program, "-C", os.fspath(directory), *arguments]
        return _run(command, timeout_s=timeout_s, limit_bytes=limit_bytes, with_errors=errors)

    try:
        found = ask("rev-parse", "--git-dir", errors=True)
        if not found.ok:
            return GitState(unavailable_reason=_why_not(found))
        commit = ask("rev-parse", "--verify", "--quiet", "HEAD").line
        branch = ask("symbolic-ref", "--quiet", "--short", "HEAD").line
        remote = _choose_remote(ask("config", "--get-regexp", r"^remote\..*\.url$").line)
        # A repository without commits has only its index to compare with.
        target = "HEAD" if commit else "--cached"
        difference = ask(*_DIFF, target, limit_bytes=diff_limit_bytes + _SHORT_ANSWER_LIMIT_BYTES)
    except (FileNotFoundError, PermissionError):  # no such program, or it must not be run
        return GitState(unavailable_reason="no_git")
    except OSError:  # no process or no memory left for one
        return GitState(unavailable_reason="failed")
    diff, diff_cut = _read_diff(difference, diff_limit_bytes)
    dirty = True if diff else False if difference.ok else None
    return GitState(commit, branch, remote, dirty, diff, diff_cut)


# A file whose times differ from the index, but whose content does not, shows as a header with nothing below.
_WITHOUT_CONTENT = re.compile(rb"^diff --git [^\n]*\n(?=diff --git |\Z)", re.MULTILINE)
# JSON would spend six bytes on each of these.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

# Prefixes, colours and the like may be configured. Say them, so that `git apply` reads the result.
_DIFF = (
    *("-c", "core.fsmonitor=false", "-c", "diff.relative=false", "-c", "core.quotePath=false"),
    # Else `git diff` writes the index in spite of GIT_OPTIONAL_LOCKS; see _WITHOUT_CONTENT for the price.
    *("-c", "diff.autoRefreshIndex=false"),
    *("diff", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/"),
)


def _why_not(answer: _Answer) -> str:
    if answer.timed_out:
        return "timeout"
    if b"not a git repository" in answer.output:
        return "no_repository"
    if b"dubious ownership" in answer.output or b"unsafe repository" in answer.output:
        return "dubious_ownership"
    return "failed"


def _choose_remote(lines: str | None) -> str | None:
    """From lines of `remote.<name>.url <url>`."""
    remotes: dict[str, str] = {}
    for line in (lines or "").splitlines():
        name, _, url = line.partition(" ")
        remotes.setdefault(name, url)
    if not remotes:
        return None
    return strip_url_credentials(remotes.get("remote.origin.url", next(iter(remotes.values()))))


def _read_diff(answer: _Answer, limit_bytes: int) -> tuple[str | None, bool]:
    """The text and whether it is cut. Redacts before cutting, and drops half lines before redacting: half a
    token does not look like one."""
    if not answer.ok and not answer.output:
        return None, answer.timed_out
    incomplete = not answer.ok
    output = answer.output
    if incomplete:
        output = output[: output.rfind(b"\n") + 1]
    output = _WITHOUT_CONTENT.sub(b"", output)
    text = _CONTROL.sub("\ufffd", output.decode("utf-8", "replace"))
    redacted = redact_text(text).encode("utf-8")
    if len(redacted) <= limit_bytes:
        return redacted.decode("utf-8"), incomplete
    return redacted[: redacted.rfind(b"\n", 0, limit_bytes) + 1].decode("utf-8"), True


def _run(command: list[str], *, timeout_s: float, limit_bytes: int, with_errors: bool) -> _Answer:
    """Reads at most `limit_bytes`; then, or after `timeout_s`, kills. OSError: the program cannot start."""
    process = subprocess.Popen(  # noqa: S603 - fixed arguments, no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if with_errors else subprocess.DEVNULL,
        env=_environment(),
        start_new_session=True,  # no terminal to prompt on, and filters (git-lfs) die with git
    )
    timed_out = threading.Event()

    def expire() -> None:
        timed_out.set()
        _kill(process)

    timer = threading.Timer(timeout_s, expire)
    timer.daemon = True
    timer.start()
    try:
        assert process.stdout is not None
        output = process.stdout.read(limit_bytes + 1)
        cut = len(output) > limit_bytes
        if cut:
            _kill(process)
        process.stdout.close()
        status = process.wait()
    finally:
        timer.cancel()
        if process.returncode is None:  # interrupted
            _kill(process)
            process.wait()
    return _Answer(output[:limit_bytes], cut, timed_out.is_set() and not cut and status != 0, status)


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # already gone; macOS says the second of a zombie
        process.kill()


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_PAGER": "cat",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "LC_ALL": "C",
    }
