"""Real samples of this host and of real child processes; counters that misbehave; cgroup files by hand."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from thalweg.system.host import CounterRates, HostSampler, tightest_cgroup_memory

GIB = 1 << 30


@pytest.fixture
def family() -> Iterator[subprocess.Popen[bytes]]:
    """A process with one child and three threads in all, which says when it is complete."""
    script = (
        "import subprocess, sys, threading\n"
        "lock = threading.Lock(); lock.acquire()\n"
        "threading.Thread(target=lock.acquire, daemon=True).start()\n"
        "command = [sys.executable, '-c', 'import sys; print(1, flush=True); sys.stdin.read()']\n"
        "child = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_first_sample_has_levels_and_no_rates(tmp_path: Path) -> None:
    sample = HostSampler(os.getpid(), tmp_path).sample(0.0)
    assert {
        "system/memory/used_bytes",
        "system/memory/total_bytes",
        "system/memory/percent",
        "system/disk/used_bytes",
        "system/disk/percent",
        "system/cpu/load1",
        "system/process/rss_bytes",
    } <= sample.keys()
    assert not [name for name in sample if name.endswith(("per_second", "cpu/percent"))]
    assert "system/process/cpu_percent" not in sample
    assert sample["system/memory/total_bytes"] == psutil.virtual_memory().total


def test_every_value_is_a_finite_number_that_is_not_negative(tmp_path: Path) -> None:
    sampler = HostSampler(os.getpid(), tmp_path)
    for now_s in (0.0, 10.0, 20.0):
        for name, value in sampler.sample(now_s).items():
            assert type(value) is float, name
            assert math.isfinite(value), name
            assert value >= 0, name
            assert name.startswith("system/"), name


def test_second_sample_has_rates(tmp_path: Path) -> None:
    sampler = HostSampler(os.getpid(), tmp_path)
    sampler.sample(0.0)
    sample = sampler.sample(10.0)
    assert "system/network/sent_bytes_per_second" in sample
    assert "system/process/cpu_percent" in sample
    assert sampler.unavailable == {}


def test_process_tree_counts_children_and_threads(tmp_path: Path, family: subprocess.Popen[bytes]) -> None:
    sample = HostSampler(family.pid, tmp_path).sample(0.0)
    assert sample["system/process/processes"] == 2
    assert sample["system/process/threads"] == 3
    assert sample["system/process/rss_bytes"] > psutil.Process(family.pid).memory_info().rss


def test_training_process_that_ends_takes_only_its_own_metrics_away(
    tmp_path: Path, family: subprocess.Popen[bytes]
) -> None:
    sampler = HostSampler(family.pid, tmp_path)
    sampler.sample(0.0)
    family.kill()
    family.wait()
    sample = sampler.sample(10.0)
    assert not [name for name in sample if name.startswith("system/process/")]
    assert "system/memory/used_bytes" in sample
    assert "process" not in sampler.unavailable


def test_training_process_that_never_was(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    sample = HostSampler(child.pid, tmp_path).sample(0.0)
    assert not [name for name in sample if name.startswith("system/process/")]


def test_directory_that_vanished_is_named_and_costs_only_its_own_metrics(tmp_path: Path) -> None:
    sampler = HostSampler(os.getpid(), tmp_path / "gone")
    sample = sampler.sample(0.0)
    assert "system/disk/used_bytes" not in sample
    assert "system/memory/used_bytes" in sample
    assert sampler.unavailable == {"disk_usage": "FileNotFoundError"}


@pytest.mark.parametrize("error", [PermissionError("no"), psutil.AccessDenied(1), IndexError("gVisor")])
def test_figures_that_the_host_withholds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*arguments: object, **options: object) -> Any:
        raise error

    for name in ("cpu_times", "getloadavg", "virtual_memory", "swap_memory", "net_io_counters"):
        monkeypatch.setattr(psutil, name, refuse)
    sampler = HostSampler(os.getpid(), tmp_path)
    assert "system/process/rss_bytes" in sampler.sample(0.0)
    assert set(sampler.unavailable) == {"cpu", "load", "memory", "swap", "network"}
    assert set(sampler.unavailable.values()) == {type(error).__name__}


def test_containers_without_disk_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_io_counters", lambda nowrap: None)
    sampler = HostSampler(os.getpid(), tmp_path)
    sampler.sample(0.0)
    assert "system/disk/read_bytes_per_second" not in sampler.sample(1.0)
    assert sampler.unavailable == {}


# --- rates


def test_rate_is_the_growth_over_the_time_between_two_calls() -> None:
    rates = CounterRates()
    assert rates.per_second("sent", {"eth0": 100, "eth1": 0}, 5.0) is None
    assert rates.per_second("sent", {"eth0": 300, "eth1": 20}, 7.0) == 110.0
    assert rates.per_second("received", {"eth0": 1}, 7.0) is None


def test_counter_that_wraps_or_is_reset_gives_no_negative_rate() -> None:
    rates = CounterRates()
    rates.per_second("sent", {"eth0": 2**32 - 1, "eth1": 0}, 0.0)
    assert rates.per_second("sent", {"eth0": 10, "eth1": 50}, 1.0) == 50.0
    assert rates.per_second("sent", {"eth0": 20, "eth1": 50}, 2.0) == 10.0


def test_counter_that_appears_does_not_count_what_it_had_before() -> None:
    rates = CounterRates()
    rates.per_second("sent", {"eth0": 0}, 0.0)
    assert rates.per_second("sent", {"eth0": 1, "eth1": 10**12}, 1.0) == 1.0
    assert rates.per_second("sent", {"eth1": 10**12 + 5}, 2.0) == 5.0


def test_clock_that_stands_still_gives_no_rate_and_forgets_nothing() -> None:
    rates = CounterRates()
    rates.per_second("sent", {"eth0": 0}, 1.0)
    assert rates.per_second("sent", {"eth0": 5}, 1.0) is None
    assert rates.per_second("sent", {"eth0": 10}, 2.0) == 10.0


# --- cgroup version 2


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """A /proc and a /sys/fs/cgroup where process 7 is in /pod/container."""
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "7").mkdir(parents=True)
    (proc / "7" / "cgroup").write_text("1:name=systemd:/x\n0::/pod/container\n")
    (cgroup / "pod" / "container").mkdir(parents=True)
    (cgroup / "cgroup.controllers").write_text("cpu memory\n")
    return proc, cgroup


def _write_cgroup(directory: Path, used: int, limit: int | str, inactive_file: int) -> None:
    (directory / "memory.current").write_text(f"{used}\n")
    (directory / "memory.max").write_text(f"{limit}\n")
    (directory / "memory.stat").write_text(f"anon 1\ninactive_file {inactive_file}\nactive_file 2\n")


def test_cgroup_with_the_lowest_limit_counts_without_its_idle_cache(roots: tuple[Path, Path]) -> None:
    proc, cgroup = roots
    _write_cgroup(cgroup / "pod", used=5 * GIB, limit=8 * GIB, inactive_file=GIB)
    _write_cgroup(cgroup / "pod" / "container", used=3 * GIB, limit="max", inactive_file=0)
    assert tightest_cgroup_memory(7, proc, cgroup) == (4 * GIB, 8 * GIB)
    _write_cgroup(cgroup / "pod" / "container", used=3 * GIB, limit=6 * GIB, inactive_file=0)
    assert tightest_cgroup_memory(7, proc, cgroup) == (3 * GIB, 6 * GIB)


def test_cgroup_namespace_shows_the_own_group_at_the_root(roots: tuple[Path, Path]) -> None:
    proc, cgroup = roots
    _write_cgroup(cgroup, used=GIB, limit=2 * GIB, inactive_file=0)
    for path in ("/", "/../other", "/not/visible/from/here"):
        (proc / "7" / "cgroup").write_text(f"0::{path}\n")
        assert tightest_cgroup_memory(7, proc, cgroup) == (GIB, 2 * GIB)


def test_no_limit_no_version_2_no_process(roots: tuple[Path, Path]) -> None:
    proc, cgroup = roots
    _write_cgroup(cgroup / "pod" / "container", used=GIB, limit="max", inactive_file=0)
    assert tightest_cgroup_memory(7, proc, cgroup) is None
    assert tightest_cgroup_memory(8, proc, cgroup) is None
    assert tightest_cgroup_memory(7, proc, cgroup / "pod") is None


def test_cgroup_metrics_are_part_of_the_sample(roots: tuple[Path, Path], tmp_path: Path) -> None:
    proc, cgroup = roots
    _write_cgroup(cgroup, used=3, limit=4, inactive_file=1)
    sample = HostSampler(os.getpid(), tmp_path, proc_root=proc, cgroup_root=cgroup).sample(0.0)
    assert sample["system/memory/cgroup_used_bytes"] == 2
    assert sample["system/memory/cgroup_limit_bytes"] == 4
