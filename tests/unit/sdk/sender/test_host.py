"""The host sampler as a writer of its own."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.spools import identity, read_all, the_folder
from thalweg.sender.host import HostWriter, try_host_lock
from thalweg.spool import layout
from thalweg.spool.state import State


def test_samples_lie_on_multiples_of_the_interval(tmp_path: Path) -> None:
    """Steps are multiples of the interval, so that hosts align; every value is a `system/` metric; the word is last."""
    writer = HostWriter(tmp_path, identity(primary=False), os.getpid())
    for now_s in (1003.0, 1011.9, 1020.0):
        writer.sample(now_s, 10.0)
    writer.close()
    content = read_all(the_folder(tmp_path))
    assert content.steps == [1000, 1010, 1020]
    assert [time_us for _, time_us, _ in content.frames] == [1003_000_000, 1011_900_000, 1020_000_000]
    assert all(name.startswith("system/") for values in content.points for name in values)
    assert (content.last_word["outcome"], content.events[-1]) == ("finished", content.last_word)
    assert State(the_folder(tmp_path)).counter("logged") == sum(map(len, content.points))


def test_its_end_does_not_end_the_run(tmp_path: Path) -> None:
    """The sampler's folder says that it is no training process."""
    HostWriter(tmp_path, identity(primary=False), os.getpid()).close()
    assert layout.read_identity(the_folder(tmp_path)).primary is False


def test_one_sampler_a_run_and_host(tmp_path: Path) -> None:
    """The lock of a run is given once; another run's is free; a lock that is given back is free again."""
    first = try_host_lock(tmp_path, "p", "r")
    assert first is not None
    assert try_host_lock(tmp_path, "p", "r") is None
    other = try_host_lock(tmp_path, "p", "other")
    assert other is not None
    os.close(other)
    os.close(first)
    again = try_host_lock(tmp_path, "p", "r")
    assert again is not None
    os.close(again)
