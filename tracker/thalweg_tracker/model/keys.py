"""64-bit keys of runs, metrics and writers: the same in Python and in SQL (`xxh3(...)`), nothing to look up."""

from __future__ import annotations

from typing import NewType

import xxhash

RunKey = NewType("RunKey", int)
MetricKey = NewType("MetricKey", int)
WriterKey = NewType("WriterKey", int)


def run_key(project: str, run_id: str, branch: int = 0) -> RunKey:
    """Key of one branch of a run. In SQL: xxh3(concat(project, char(0), run_id, char(0), toString(branch)))."""
    return RunKey(xxhash.xxh3_64_intdigest(f"{project}\0{run_id}\0{branch}".encode()))


def metric_key(name: str) -> MetricKey:
    """Key of a metric's name. In SQL: xxh3(name)."""
    return MetricKey(xxhash.xxh3_64_intdigest(name.encode()))


def writer_key(writer: str) -> WriterKey:
    """Key of a writer's id of 32 hexadecimal digits: its first half."""
    return WriterKey(int(writer[:16], 16))
