"""The server's machine loses its power: what was acknowledged is on its disk, also after merges."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

import thalweg
from tests.support import training
from thalweg.api_client import run_path
from thalweg.testing import ServerProcess, running_server
from thalweg_tracker.engine.embedded import EmbeddedEngine

_SIZE_BYTES: Final = 512 << 20
_EXT4_IOC_SHUTDOWN: Final = 0x8004587D
_WITHOUT_FLUSHING: Final = 2


class Disk:
    """A file system of its own in a file. What was not synced when the power goes is not there afterwards."""

    def __init__(self, folder: Path) -> None:
        self.image = folder / "disk.img"
        self.at = folder / "disk"
        self.at.mkdir()
        with self.image.open("wb") as file:
            file.truncate(_SIZE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", str(self.image)], check=True)

    def mount(self) -> None:
        """Puts it in place; replays its journal first if need be."""
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.at)], check=True, capture_output=True)

    def unmount(self) -> None:
        """Takes it away, if it is there."""
        if os.path.ismount(self.at):
            subprocess.run(["umount", str(self.at)], check=True)

    def lose_power(self, kill: Callable[[], object]) -> None:
        """From now on nothing reaches the disk, neither data nor the journal; then the process on it is killed."""
        descriptor = os.open(self.at, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, struct.pack("I", _WITHOUT_FLUSHING))
        finally:
            os.close(descriptor)
        kill()
        self.unmount()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk, mounted. Skips the test where that is not allowed."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("to mount a file system takes root and mkfs.ext4")
    made = Disk(tmp_path)
    try:
        made.mount()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"cannot mount a file system here: {error.stderr.decode().strip()}")
    try:
        yield made
    finally:
        made.unmount()


def test_what_was_acknowledged_survives_a_loss_of_power(tmp_path: Path, disk: Disk) -> None:
    """Points, names, attributes, the run itself: the moment after the acknowledgement the power goes."""
    with ServerProcess(disk.at / "data", log=tmp_path / "server.log") as server:
        run = thalweg.init(
            project="faults", run_id="power", url=server.url, spool_dir=tmp_path / "spool", system_interval_s=0
        )
        run.config.update({"lr": 0.5})
        for step in range(1000):
            run.log({"loss": 1.0 / (1 + step), "square": step * step, "deep": {"half": step / 2}}, step=step)
        assert run.flush(60)
        disk.lose_power(server.kill)
    disk.mount()
    with running_server(disk.at / "data") as again:
        training.assert_complete(again.client, "power", 999)
        assert again.client.get(run_path("faults", "power"))["config"] == {"lr": 0.5}
    run.finish()


_MERGE = """
import sys, time
from pathlib import Path
import pyarrow as pa
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.model.rows import POINTS
engine = EmbeddedEngine(Path(sys.argv[1]))
migrate(engine)
engine.execute("ALTER TABLE points MODIFY SETTING cleanup_delay_period = 1, cleanup_delay_period_random_add = 0")
engine.execute("DETACH TABLE points")
engine.execute("ATTACH TABLE points")
def insert(run, steps):
    n = len(steps)
    columns = [[run] * n, [2] * n, [0] * n, steps, [0] * n, [0.5] * n]
    engine.insert("points", pa.table([pa.array(one, kind) for one, kind in zip(columns, POINTS.types)], schema=POINTS))
for part in range(10):
    insert(1, range(part * 1000, part * 1000 + 1000))
print("inserted", flush=True)
input()
engine.execute("OPTIMIZE TABLE points FINAL")
while engine.query("SELECT count() AS n FROM system.parts WHERE NOT active AND table = 'points'").to_pylist()[0]["n"]:
    time.sleep(0.01)
insert(2, range(1))  # with which the removal reaches the disk
print("merged", flush=True)
input()
"""


def test_what_was_merged_survives_a_loss_of_power(disk: Disk) -> None:
    """Points that have been on the disk for long are merged, their old parts are removed, and the power goes."""
    data = disk.at / "data"
    process = subprocess.Popen(
        [sys.executable, "-c", _MERGE, str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "inserted\n"
        os.sync()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "merged\n"
        disk.lose_power(lambda: (process.kill(), process.wait()))
    disk.mount()
    engine = EmbeddedEngine(data)
    try:
        found = engine.query(
            "SELECT count() AS n, uniqExact(step) AS steps, sum(value) AS total FROM points WHERE run = 1"
        )
    finally:
        engine.close()
    assert found.to_pylist() == [{"n": 10_000, "steps": 10_000, "total": 5000.0}]
