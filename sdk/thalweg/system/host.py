"""Samples the host, and the process tree of the training, with psutil.

Owns what is measured, the metric names and the rates between samples. Reads no clock: the caller passes
it in.
Not thread-safe: one thread (of the sender process) samples. It may block where the kernel blocks, for example
in `statvfs` on a network file system that hangs: do not sample on a thread that has other duties.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

__all__ = ["CounterRates", "HostSampler"]

# What psutil raises where a kernel, a container or a permission withholds a figure. The last two: a /proc
# that is not Linux's own (gVisor) and reads otherwise.
_UNREADABLE = (psutil.Error, OSError, NotImplementedError, RuntimeError, ValueError, LookupError)

# Traffic on these is counted again on the interface beneath them, or never leaves the host.
_VIRTUAL_INTERFACES = ("lo", "veth", "docker", "br-", "virbr", "cni", "flannel", "cali", "tunl")


class CounterRates:
    """Rates per second of counters that only grow. One that falls (wrap, reset) gives no negative rate."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, dict[str, float]]] = {}

    def per_second(self, name: str, counters: Mapping[str, float], now_s: float) -> float | None:
        """The sum over the counters that were also there at the last call of this `name`.

        `now_s` is of any monotonic clock. None at the first call, and when the clock has not moved. A counter
        that appears or falls counts from the next call on.
        """
        before = self._before.get(name)
        if before is not None and now_s <= before[0]:
            return None
        self._before[name] = (now_s, dict(counters))
        if before is None:
            return None
        then_s, old = before
        grown = sum(max(0.0, value - old[key]) for key, value in counters.items() if key in old)
        return grown / (now_s - then_s)


class HostSampler:
    """Metrics of this host and of the process tree under `training_pid`.

    `unavailable` says which group could not be read at the last sample, and why. A training process that has
    ended is no error: its metrics just stop.
    """

    def __init__(
        self,
        training_pid: int,
        working_directory: str | os.PathLike[str],
        *,
        proc_root: Path = Path("/proc"),
        cgroup_root: Path = Path("/sys/fs/cgroup"),
    ) -> None:
        self._directory = os.fspath(working_directory)
        self._pid = training_pid
        self._proc_root = proc_root
        self._cgroup_root = cgroup_root
        self._rates = CounterRates()
        self._unavailable: dict[str, str] = {}
        self._cpu_before: tuple[float, float] | None = None
        try:
            # Holds the start time too: a later process with the same pid is not mistaken for this one.
            self._process: psutil.Process | None = psutil.Process(training_pid)
        except psutil.Error:
            self._process = None

    @property
    def unavailable(self) -> Mapping[str, str]:
        """Group of metrics -> class of the error that kept it out of the last sample."""
        return dict(self._unavailable)

    def sample(self, now_s: float) -> dict[str, float]:
        """All metrics that can be read now, by name; the unit is last in the name. Never raises for what the
        host withholds. `now_s`: a monotonic clock in seconds. Rates and CPU percentages need an earlier
        sample.
        """
        self._unavailable.clear()
        metrics: dict[str, float] = {}
        groups: tuple[tuple[str, Callable[[float], Mapping[str, float | None]]], ...] = (
            ("cpu", self._cpu),
            ("load", self._load),
            ("memory", self._memory),
            ("swap", self._swap),
            ("cgroup", self._cgroup),
            ("disk_usage", self._disk_usage),
            ("disk_io", self._disk_io),
            ("network", self._network),
            ("process", self._process_tree),
        )
        for group, read in groups:
            try:
                found = read(now_s)
            except _UNREADABLE as error:
                self._unavailable[group] = type(error).__name__
                continue
            metrics.update((f"system/{name}", float(value)) for name, value in found.items() if value is not None)
        return metrics

    def _cpu(self, now_s: float) -> Mapping[str, float | None]:
        times = psutil.cpu_times()
        # Linux counts guests within user and nice already; waiting for a disk is idle.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        busy = total - times.idle - getattr(times, "iowait", 0.0)
        before, self._cpu_before = self._cpu_before, (busy, total)
        if before is None or total <= before[1]:
            return {}
        percent = 100.0 * (busy - before[0]) / (total - before[1])
        return {"cpu/percent": min(100.0, max(0.0, percent))}

    def _load(self, now_s: float) -> Mapping[str, float | None]:
        return {"cpu/load1": psutil.getloadavg()[0]}

    def _memory(self, now_s: float) -> Mapping[str, float | None]:
        memory = psutil.virtual_memory()
        return {
            "memory/used_bytes": memory.used,
            "memory/total_bytes": memory.total,
            "memory/percent": memory.percent,
        }

    def _swap(self, now_s: float) -> Mapping[str, float | None]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # psutil warns where /proc/vmstat is hidden
            swap = psutil.swap_memory()
        return {"memory/swap_used_bytes": swap.used, "memory/swap_percent": swap.percent}

    def _cgroup(self, now_s: float) -> Mapping[str, float | None]:
        used_and_limit = tightest_cgroup_memory(self._pid, self._proc_root, self._cgroup_root)
        if used_and_limit is None:
            return {}
        used, limit = used_and_limit
        return {"memory/cgroup_used_bytes": used, "memory/cgroup_limit_bytes": limit}

    def _disk_usage(self, now_s: float) -> Mapping[str, float | None]:
        usage = psutil.disk_usage(self._directory)
        return {
            "disk/used_bytes": usage.used,
            "disk/total_bytes": usage.total,
            "disk/percent": usage.percent,
        }

    def _disk_io(self, now_s: float) -> Mapping[str, float | None]:
        # One figure for all disks: psutil leaves out partitions. None in containers without counters.
        counters = psutil.disk_io_counters(nowrap=False)
        if counters is None:
            return {}
        rate = self._rates.per_second
        return {
            "disk/read_bytes_per_second": rate("disk_read", {"all": counters.read_bytes}, now_s),
            "disk/written_bytes_per_second": rate("disk_written", {"all": counters.write_bytes}, now_s),
        }

    def _network(self, now_s: float) -> Mapping[str, float | None]:
        counters = {
            name: counter
            for name, counter in psutil.net_io_counters(pernic=True, nowrap=False).items()
            if not name.startswith(_VIRTUAL_INTERFACES)
        }
        received = {name: float(counter.bytes_recv) for name, counter in counters.items()}
        sent = {name: float(counter.bytes_sent) for name, counter in counters.items()}
        return {
            "network/received_bytes_per_second": self._rates.per_second("network_received", received, now_s),
            "network/sent_bytes_per_second": self._rates.per_second("network_sent", sent, now_s),
        }

    def _process_tree(self, now_s: float) -> Mapping[str, float | None]:
        """Sums over the training process and its descendants, but for the process that samples. CPU: 100 is one
        core. RSS counts shared pages once per process. A descendant that started and ended between two samples
        is not seen."""
        if self._process is None:
            return {}
        try:
            descendants = self._process.children(recursive=True)
        except psutil.NoSuchProcess:
            self._process = None
            return {}
        tree = [self._process, *(process for process in descendants if process.pid != os.getpid())]
        cpu_s: dict[str, float] = {}
        rss_bytes = thread_count = 0
        for process in tree:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    rss_bytes += process.memory_info().rss
                    thread_count += process.num_threads()
                    cpu_s[f"{process.pid}@{process.create_time()}"] = times.user + times.system
            except psutil.Error:  # ended meanwhile, or belongs to someone else
                continue
        if not cpu_s:
            return {}
        cpu_cores = self._rates.per_second("process_cpu", cpu_s, now_s)
        return {
            "process/cpu_percent": None if cpu_cores is None else 100.0 * cpu_cores,
            "process/rss_bytes": rss_bytes,
            "process/processes": len(cpu_s),
            "process/threads": thread_count,
        }


def tightest_cgroup_memory(pid: int, proc_root: Path, cgroup_root: Path) -> tuple[int, int] | None:
    """Used bytes and limit of the memory cgroup (version 2) around `pid` that has the lowest limit.

    None without cgroup version 2 or without a limit. Used is what the kernel cannot take back at once: the
    cache of files not in use is subtracted, as the kubelet and `docker stats` do, else every checkpoint would
    look like a leak. Raises OSError where the files cannot be read.
    """
    found: tuple[int, int] | None = None
    for directory in _cgroup_directories(pid, proc_root, cgroup_root):
        limit = _read_limit_bytes(directory)
        if limit is not None and (found is None or limit < found[1]):
            found = (_read_used_bytes(directory), limit)
    return found


def _cgroup_directories(pid: int, proc_root: Path, cgroup_root: Path) -> list[Path]:
    """The cgroup of the process and those around it, as far as they can be seen from here."""
    if not (cgroup_root / "cgroup.controllers").exists():  # not version 2, or a hybrid without its memory
        return []
    try:
        lines = (proc_root / str(pid) / "cgroup").read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:  # the process has ended
        lines = []
    relative = next((line[3:] for line in lines if line.startswith("0::")), "/")
    parts = Path(relative).parts[1:]
    if ".." in parts:  # another cgroup namespace: its path means nothing here
        parts = ()
    return [cgroup_root.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _read_limit_bytes(directory: Path) -> int | None:
    try:
        limit = (directory / "memory.max").read_text("ascii").strip()
    except FileNotFoundError:  # the root has none, and a path from outside the namespace does not exist
        return None
    return None if limit == "max" else int(limit)


def _read_used_bytes(directory: Path) -> int:
    used = int((directory / "memory.current").read_text("ascii"))
    for line in (directory / "memory.stat").read_text("ascii").splitlines():
        if line.startswith("inactive_file "):
            return max(0, used - int(line.split()[1]))
    return used
