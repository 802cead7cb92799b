"""Removes the data of runs whose time has come. Whatever of it is done twice changes nothing: it may be interrupted.

A run is first said to be `purging`, so that nobody brings it back; then its rows go, those by which it is known last;
then it is `purged`. That row stays: without it a late writer would begin the run anew, without its history.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from thalweg_tracker.care.deletion import descendants
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.literals import quote_identifier
from thalweg_tracker.errors import EngineError
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import metric_key
from thalweg_tracker.runs.deletions import WHOLE_PROJECT, Deletion, list_deletions, write_deletions
from thalweg_tracker.sql import filled, load

log = logging.getLogger(__name__)

SETTLE_S: Final = 15.0
"""A run is purged so long after it was deleted at the earliest: by then no process takes records for it any more, as
each looks what was deleted every DELETIONS_POLL_S."""
_OF_RUNS: Final = (
    "points",
    "series_stats",
    "run_metrics",
    "attributes",
    "checkpoints",
    "checkpoint_checks",
    "writers",
    "branches",
)
"""Tables with the key of a branch in the column `run`."""
_OF_PROJECTS: Final = ("custom_metrics", "metric_names", "retentions")
_LOOK_EVERY_S: Final = 0.2
_AT_ONCE: Final = 1000
"""Runs whose rows are removed with one mutation of each table: it writes anew what parts have of others."""
_KEYS_AT_ONCE: Final = 5000
"""Keys of branches in one statement: some 100 KB, of the 256 that ClickHouse takes."""
_FORGET: Final = "SELECT 1"
"""With any statement an engine that remembers look-ups forgets them: they may be of rows that were still there."""
_MUTATIONS: Final = """
SELECT count() AS n, any(latest_fail_reason) AS failure
FROM {mutations}
WHERE database = currentDatabase() AND table = {table:String} AND NOT is_done
"""
_DISTRIBUTED: Final = re.compile(r"Distributed\('(\w+)', '\w+', '(\w+)'")


def due(engine: Engine, now: datetime) -> dict[str, list[Deletion]]:
    """The runs that are to be purged now, by project: those that nobody else sees, and those that were begun with."""
    settled = now - timedelta(seconds=SETTLE_S)
    waiting = list_deletions(engine, None, ["deleted", "purging"])
    by_project: dict[str, list[Deletion]] = {}
    for one in waiting:
        if one.run_id != WHOLE_PROJECT and one.purge_at <= now and one.deleted_at <= settled:
            by_project.setdefault(one.project, []).append(one)
    return {project: free for project, some in by_project.items() if (free := _unseen(engine, project, some))}


def _unseen(engine: Engine, project: str, some: Sequence[Deletion]) -> list[Deletion]:
    """Those of some runs whose points no other run sees. What is to be purged together counts as one."""
    left = {one.run_id: one for one in some}
    while left:
        seen = {run_id for _, run_id in descendants(engine, project, list(left))}
        if not seen:
            break
        left = {run_id: one for run_id, one in left.items() if run_id not in seen}
    return list(left.values())[:_AT_ONCE]


def purge(engine: Engine, project: str, some: Sequence[Deletion], now: datetime, stopped: threading.Event) -> None:
    """Removes the data of some runs of a project. Returns early when the process stops. Raises EngineError."""
    now_us = round(now.timestamp() * 1e6)
    write_deletions(engine, some, "purging", now_us)
    where = {"project": project, "run_ids": [one.run_id for one in some]}
    keys = engine.query(load("branch_keys"), where, limits.QUERY_TIMEOUT_S)["run"].to_pylist()
    for table in _OF_RUNS:
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            listed = ", ".join(str(int(key)) for key in keys[start : start + _KEYS_AT_ONCE])
            if not _remove(engine, table, f"run IN ({listed})", stopped):
                return
    engine.execute(_FORGET)
    write_deletions(engine, some, "purged", now_us)
    log.info("purged %d runs of project %s", len(some), project)


def purge_projects(engine: Engine, now: datetime, stopped: threading.Event) -> None:
    """Removes what belongs to deleted projects themselves, if none of their runs is left."""
    for one in list_deletions(engine, None, ["deleted"]):
        if one.run_id != WHOLE_PROJECT or one.purge_at > now:
            continue
        if engine.query(load("project_has_runs"), {"project": one.project}, limits.QUERY_TIMEOUT_S)["n"][0].as_py():
            continue
        for table in _OF_PROJECTS:
            if not _remove(engine, table, f"xxh3(project) = {metric_key(one.project)}", stopped):
                return
        write_deletions(engine, [one], "", round(now.timestamp() * 1e6))
        log.info("purged project %s", one.project)


def _place(engine: Engine, table: str) -> tuple[str | None, str]:
    """The cluster over which a table is distributed, if it is, and the table on each host in which its rows lie."""
    rows = engine.query(load("table_engine"), {"table": table}).to_pylist()
    found = _DISTRIBUTED.match(rows[0]["engine_full"]) if rows else None
    return (found[1], found[2]) if found else (None, table)


def _remove(engine: Engine, table: str, which: str, stopped: threading.Event) -> bool:
    """Removes rows from the disk, and waits for it; False where the process stops before: the engine goes on later."""
    cluster, stored = _place(engine, table)
    everywhere = f" ON CLUSTER {quote_identifier(cluster)}" if cluster else ""
    engine.execute(f"ALTER TABLE {stored}{everywhere} DELETE WHERE {which}")
    mutations = f"clusterAllReplicas({quote_identifier(cluster)}, system.mutations)" if cluster else "system.mutations"
    while True:
        row = engine.query(filled(_MUTATIONS, mutations=mutations), {"table": stored}).to_pylist()[0]
        if not row["n"]:
            return True
        if row["failure"]:
            raise EngineError(f"cannot remove rows from {table}: {row['failure']}")
        if stopped.wait(_LOOK_EVERY_S):
            return False
