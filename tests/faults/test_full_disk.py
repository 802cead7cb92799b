"""A full disk, on the server's side and on the training's: clear words, no loss on the server's, no corruption."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import thalweg
from tests.support import training
from tests.support.waiting import wait_until
from thalweg.spool import layout
from thalweg.testing import running_server

MIB = 1 << 20


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """A file system of this size in memory. Skips the test where mounting is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, leave_bytes: int = 0) -> Path:
    """Takes all space of a file system but `leave_bytes`, and returns the file that holds it."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        try:
            while True:
                file.write(bytes(64 << 10))
                file.flush()
        except OSError:
            pass
    if leave_bytes:
        with ballast.open("r+b") as file:
            file.truncate(max(0, ballast.stat().st_size - leave_bytes))
    return ballast


def test_a_full_server_disk_delays_and_loses_nothing(tmp_path: Path) -> None:
    """While the server's disk is full nothing is acknowledged; when there is room again, everything arrives once."""
    with small_disk(tmp_path / "disk", 256) as disk, running_server(disk / "data") as server:
        run = thalweg.init(
            project="faults", run_id="full", url=server.url, spool_dir=tmp_path / "spool", system_interval_s=0
        )
        for step in range(1000):
            run.log({"loss": 1.0 / (1 + step), "square": step * step, "deep": {"half": step / 2}}, step=step)
        assert run.flush(60)
        ballast = fill(disk)
        for step in range(1000, 2000):
            run.log({"loss": 1.0 / (1 + step), "square": step * step, "deep": {"half": step / 2}}, step=step)
        (folder,) = layout.writer_folders(tmp_path / "spool")
        wait_until(lambda: '"waiting"' in (folder / layout.STATUS_FILE).read_text())
        assert not run.flush(0.1)
        ballast.unlink()
        assert run.flush(60)
        run.finish()
        training.wait_for_status(server.client, "full", "finished")
        training.assert_complete(server.client, "full", 1999)


def test_a_full_spool_disk_drops_counts_and_continues(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """While the training's disk is full points are dropped, counted and told; with room again logging goes on."""
    with small_disk(tmp_path / "disk", 80) as disk, running_server(tmp_path / "data") as server:
        run = thalweg.init(
            project="faults", run_id="spool", url=server.url, spool_dir=disk / "spool", system_interval_s=0
        )
        wide = {f"metric/{index}": float(index) for index in range(10_000)}
        run.log({"first": 1.0}, step=0)
        ballast = fill(disk)
        for step in range(1, 1001):
            run.log(wide, step=step)  # 80 MB, of which the first segment takes a part
        ballast.unlink()
        assert run.flush(60)

        def is_taken_again() -> bool:
            run.log({"last": 1.0}, step=1001)
            return run.flush(60) and bool(training.exact(server.client, "spool", "last"))

        wait_until(is_taken_again)
        run.finish()
        counters = training.wait_for_status(server.client, "spool", "finished")["health"]["counters"]
        assert counters["dropped_spool_full"] > 0
        stored = training.exact(server.client, "spool", "metric/17")
        assert len(stored) * 10_000 + counters["dropped_spool_full"] >= 1000 * 10_000
        assert set(stored.values()) == {17.0}
    said = capfd.readouterr().err
    assert said.count("the spool is full") == 1
