"""How long projects keep their runs: those whose last word is older are deleted as if somebody had asked for it."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Final

import pyarrow as pa

from thalweg_tracker.care.deletion import Wish, delete_run
from thalweg_tracker.engine.contract import Engine, Parameters
from thalweg_tracker.errors import NotFoundError
from thalweg_tracker.model import limits
from thalweg_tracker.sql import load

log = logging.getLogger(__name__)

_ROWS: Final = pa.schema([("project", pa.string()), ("keep_s", pa.uint64()), ("updated_at", pa.timestamp("us", "UTC"))])


def read_retention(engine: Engine, project: str) -> int | None:
    """For how many seconds a project keeps its runs; None: for ever."""
    rows = engine.query(load("retentions"), {"project": project}, limits.QUERY_TIMEOUT_S).to_pylist()
    return rows[0]["keep_s"] if rows else None


def set_retention(engine: Engine, project: str, keep_s: int | None, now: datetime) -> None:
    """Says so."""
    row = {"project": project, "keep_s": keep_s or 0, "updated_at": now}
    engine.insert("retentions", pa.Table.from_pylist([row], schema=_ROWS))


def silent_runs(engine: Engine, project: str, keep_s: int, now: datetime) -> list[str]:
    """Runs of a project whose last word is older than that."""
    before_us = round((now.timestamp() - keep_s) * 1e6)
    where: Parameters = {"project": project, "before": before_us}
    run_ids: list[str] = engine.query(load("silent_runs"), where, limits.QUERY_TIMEOUT_S)["run_id"].to_pylist()
    return run_ids


def apply_retentions(engine: Engine, now: datetime) -> int:
    """Deletes the runs of all projects that are older than these keep them. Returns how many."""
    deleted = 0
    for row in engine.query(load("retentions"), {"project": ""}, limits.QUERY_TIMEOUT_S).to_pylist():
        for run_id in silent_runs(engine, row["project"], row["keep_s"], now):
            try:
                delete_run(engine, row["project"], run_id, Wish(reason="retention"), now)
            except NotFoundError:  # another process was quicker
                continue
            deleted += 1
            log.info("deleted run %s/%s: nothing was heard of it for too long", row["project"], run_id)
    return deleted
