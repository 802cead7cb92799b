"""Samples the host and writes what it sees as a writer of its own: the spool is the only path.

One sampler per run and host: the sender that holds the lock file samples, the others stand by.
Step of a sample: whole seconds since the epoch, a multiple of the interval, so that hosts align.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import time
from array import array
from pathlib import Path
from typing import Any, Final

from thalweg.spool import layout
from thalweg.spool.state import State
from thalweg.spool.writer import SpoolFullError, SpoolWriter
from thalweg.system.gpu import GpuSampler
from thalweg.system.host import HostSampler

log = logging.getLogger(__name__)

LIMIT_BYTES: Final = 64 << 20
SEGMENT_BYTES: Final = 1 << 20


class HostWriter:
    """Takes samples and appends them to its own folder."""

    def __init__(self, spool_dir: Path, identity: layout.Identity, training_pid: int) -> None:
        """`identity`: this process as a writer that is not primary. Raises OSError."""
        self.folder = layout.create_folder(spool_dir, identity)
        self._state = State(self.folder)
        self._writer = SpoolWriter(self.folder, LIMIT_BYTES, segment_bytes=SEGMENT_BYTES)
        self._host = HostSampler(training_pid, Path.cwd())
        self._gpu = GpuSampler()
        self._append("started", {"primary": False, "host": identity.host, "pid": identity.pid})
        self._describe_gpus()

    def _describe_gpus(self) -> None:
        """Records the GPUs of this host as an attribute, if there are any."""
        gpus = self._gpu.describe()
        if gpus:
            self._append("attributes", {"attributes": {"env.gpus": json.dumps(gpus)}})

    def _append(self, kind: str, fields: dict[str, Any]) -> None:
        event = {"time_us": time.time_ns() // 1000, "kind": kind, **fields}
        try:
            self._writer.append_event(json.dumps(event).encode())
        except SpoolFullError:
            log.warning("no room in the spool for the %s of the host sampler", kind)

    def sample(self, now_s: float, interval_s: float) -> None:
        """Appends one sample taken at `now_s`, seconds since the epoch. Drops it when there is no room."""
        values = {**self._host.sample(time.monotonic()), **self._gpu.sample(time.monotonic())}
        names = tuple(values)
        step = now_s // interval_s * interval_s
        try:
            schema = self._writer.declare(names, len(names))
        except SpoolFullError:
            self._state.count("dropped_spool_full", len(names))
            return
        self._writer.append_frame(schema, step, int(now_s * 1e6), array("d", values.values()))
        self._state.count("logged", len(names))

    def close(self) -> None:
        """Says the last word."""
        self._append("ended", {"outcome": "finished", "exit_code": 0})
        self._writer.close()
        self._state.close()


def try_host_lock(spool_dir: Path, project: str, run_id: str) -> int | None:
    """The descriptor of this host's and run's lock, or None if another sender holds it."""
    digest = hashlib.blake2b(f"{project}\0{run_id}".encode(), digest_size=8).hexdigest()
    name = f"host-{digest}.lock"
    descriptor = os.open(spool_dir / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
