"""The state of real repositories, made with the real git; and what is said where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from thalweg.system.git import GitState, read_git_state
from thalweg.system.redact import REDACTED

Git = Callable[..., str]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, and a git that does not see the configuration of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    directory = tmp_path / "repository"
    directory.mkdir()
    return directory


@pytest.fixture
def git(repository: Path) -> Git:
    def run(*arguments: str) -> str:
        identity = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(repository), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    run("init", "--quiet", "--initial-branch=trunk")
    return run


@pytest.fixture
def committed(repository: Path, git: Git) -> Path:
    (repository / "train.py").write_text("lr = 1\n")
    git("add", ".")
    git("commit", "--quiet", "--message=first")
    return repository


def test_clean_work_tree(committed: Path, git: Git) -> None:
    state = read_git_state(committed)
    assert state == GitState(commit=git("rev-parse", "HEAD"), branch="trunk", dirty=False, diff="")


def test_diff_holds_staged_and_unstaged_changes_of_the_whole_tree_and_no_untracked_file(
    committed: Path, git: Git
) -> None:
    (committed / "new.py").write_text("staged = 1\n")
    git("add", ".")
    (committed / "train.py").write_text("lr = 2\n")
    (committed / "untracked.py").write_text("unknown = 1\n")
    (committed / "sub").mkdir()
    state = read_git_state(committed / "sub")
    assert state.dirty is True
    assert state.diff is not None
    assert "+staged = 1" in state.diff
    assert "-lr = 1\n+lr = 2\n" in state.diff
    assert "unknown" not in state.diff
    assert not state.diff_cut


def test_diff_can_be_applied_whatever_the_user_configured(committed: Path, git: Git) -> None:
    for setting in ("diff.noprefix", "diff.mnemonicPrefix", "diff.relative"):
        git("config", setting, "true")
    git("config", "color.ui", "always")
    git("config", "diff.external", "false")
    git("config", "core.pager", "false")
    (committed / "train.py").write_text("lr = 2\n")
    diff = read_git_state(committed).diff
    assert diff is not None
    git("checkout", "--quiet", "train.py")
    subprocess.run(["git", "-C", str(committed), "apply"], input=diff, text=True, check=True)
    assert (committed / "train.py").read_text() == "lr = 2\n"


def test_detached_head_has_no_branch(committed: Path, git: Git) -> None:
    git("checkout", "--quiet", "--detach")
    state = read_git_state(committed)
    assert state.branch is None
    assert state.commit == git("rev-parse", "HEAD")


def test_repository_without_commits(repository: Path, git: Git) -> None:
    assert read_git_state(repository) == GitState(branch="trunk", dirty=False, diff="")
    (repository / "train.py").write_text("lr = 1\n")
    git("add", ".")
    state = read_git_state(repository)
    assert (state.commit, state.dirty) == (None, True)
    assert state.diff is not None
    assert "+lr = 1" in state.diff


def test_bare_repository_has_a_commit_but_no_diff(committed: Path, git: Git) -> None:
    bare = committed.parent / "bare.git"
    git("clone", "--quiet", "--bare", str(committed), str(bare))
    state = read_git_state(bare)
    assert state.commit == git("rev-parse", "HEAD")
    assert (state.dirty, state.diff, state.unavailable_reason) == (None, None, None)


def test_remote_is_origin_without_credentials(committed: Path, git: Git) -> None:
    git("remote", "add", "a", "https://example.org/a.git")
    assert read_git_state(committed).remote == "https://example.org/a.git"
    git("remote", "add", "origin", "https://user:hunter2hunter2@example.org/o.git")
    assert read_git_state(committed).remote == "https://example.org/o.git"


def test_secrets_in_the_diff_are_redacted(committed: Path) -> None:
    token = "hf_" + "aB3" * 11
    (committed / "train.py").write_text(f'lr = 1\nx = "{token}"\nAPI_KEY = "hunter2hunter2"\n')
    diff = read_git_state(committed).diff
    assert diff is not None
    assert "hunter2" not in diff
    assert token not in diff
    assert f"+API_KEY = {REDACTED}\n" in diff


def test_content_that_is_no_utf8_and_binary_files(committed: Path, git: Git) -> None:
    (committed / "latin.txt").write_bytes(b"caf\xe9 \x01\n")
    (committed / "weights.bin").write_bytes(bytes(range(256)))
    (committed / "n\u00e4me.py").write_text("x = 1\n")
    git("add", ".")
    diff = read_git_state(committed).diff
    assert diff is not None
    assert "+caf\ufffd \ufffd\n" in diff
    assert "Binary files /dev/null and b/weights.bin differ" in diff
    assert "b/n\u00e4me.py" in diff


def test_huge_diff_is_cut_at_a_whole_line(committed: Path) -> None:
    (committed / "train.py").write_text("".join(f"value_{i} = {i}\n" for i in range(100_000)))
    state = read_git_state(committed, diff_limit_bytes=10_000)
    assert (state.dirty, state.diff_cut) == (True, True)
    assert state.diff is not None
    assert 9_000 < len(state.diff.encode()) <= 10_000
    assert state.diff.endswith("\n")


def test_no_half_of_a_secret_is_left_where_the_diff_is_cut(committed: Path) -> None:
    token = "ghp_" + "a1B2" * 9
    (committed / "train.py").write_text(f"x = '{token}'\n" * 5_000)
    for limit_bytes in range(1_000, 1_100, 7):
        diff = read_git_state(committed, diff_limit_bytes=limit_bytes).diff
        assert diff is not None
        assert "ghp_" not in diff


def test_one_line_longer_than_the_limit_is_left_out(committed: Path) -> None:
    (committed / "train.py").write_text("x" * 3_000_000)
    state = read_git_state(committed)
    assert state.diff_cut
    assert state.diff is not None
    assert "xxxx" not in state.diff
    assert state.diff.startswith("diff --git a/train.py")


def test_file_that_was_only_touched_is_not_dirty_and_the_index_is_not_written(committed: Path, git: Git) -> None:
    """The index holds other times than the file: a plain `git status` or `git diff` would refresh it."""
    (committed / "other.py").write_text("other = 1\n")
    git("add", ".")
    git("commit", "--quiet", "--message=second")
    for name in ("train.py", "other.py"):
        os.utime(committed / name, (1, 1))
    before = (committed / ".git" / "index").stat()
    state = read_git_state(committed)
    after = (committed / ".git" / "index").stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    assert (state.dirty, state.diff) == (False, "")
    (committed / "train.py").write_text("lr = 2\n")
    diff = read_git_state(committed).diff
    assert diff is not None
    assert diff.startswith("diff --git a/train.py b/train.py\nindex ")


def test_change_of_mode_is_a_change(committed: Path) -> None:
    (committed / "train.py").chmod(0o755)
    state = read_git_state(committed)
    assert state.dirty is True
    assert state.diff is not None
    assert "new mode 100755" in state.diff


def test_no_repository(repository: Path) -> None:
    assert read_git_state(repository) == GitState(unavailable_reason="no_repository")


def test_no_directory(repository: Path) -> None:
    assert read_git_state(repository / "gone") == GitState(unavailable_reason="no_directory")


def test_no_git(committed: Path) -> None:
    assert read_git_state(committed, program="git-of-nobody") == GitState(unavailable_reason="no_git")


def test_git_that_hangs_is_killed_with_its_children(repository: Path, tmp_path: Path) -> None:
    """The child inherits the pipe: if it survived, reading would not end, nor the FIFO see its writer go."""
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    hanging = tmp_path / "git"
    hanging.write_text(f"#!/bin/sh\n(exec 3>{fifo}; sleep 1000) &\nwait\n")
    hanging.chmod(0o755)
    ended = threading.Event()

    def wait_for_the_child_to_end() -> None:
        with fifo.open("rb") as reader:
            reader.read()
        ended.set()

    reader = threading.Thread(target=wait_for_the_child_to_end, daemon=True)
    reader.start()
    state = read_git_state(repository, timeout_s=0.5, program=str(hanging))
    assert state == GitState(unavailable_reason="timeout")
    assert ended.wait(30)
    reader.join()


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can give files away")
def test_repository_of_another_user(committed: Path) -> None:
    for path in (committed, committed / ".git"):
        os.chown(path, 12345, 12345)
    assert read_git_state(committed) == GitState(unavailable_reason="dubious_ownership")
