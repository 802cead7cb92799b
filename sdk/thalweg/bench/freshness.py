"""How long a point takes from `log()` until it can be read over HTTP."""

from __future__ import annotations

import os
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import thalweg
from thalweg.api_client import ApiClient, segment
from thalweg.bench.numbers import quantile
from thalweg.errors import ThalwegError
from thalweg.settings import read_token

VISIBLE_MOST_S: Final = 60.0


class InvisibleError(ThalwegError):
    """A point did not become visible."""


@dataclass(frozen=True, slots=True)
class FreshnessResult:
    """Milliseconds from `log()` to the answer that held the point."""

    points: int
    p50_ms: float
    p99_ms: float
    worst_ms: float


def run_freshness(url: str, project: str, points: int, every_s: float = 0.0) -> FreshnessResult:
    """Logs one point after the other, and asks for each until it is there with its value. Raises ThalwegError.

    The request that finds it counts in full. `every_s`: seconds from one to the next, about; they vary, so that points
    do not keep step with what the server does at fixed times.
    """
    client = ApiClient(url, read_token(os.environ.get("THALWEG_TOKEN")))
    took_ms = []
    with tempfile.TemporaryDirectory(prefix="thalweg-bench-", ignore_cleanup_errors=True) as folder:
        run = thalweg.init(project=project, url=url, spool_dir=Path(folder), system_interval_s=0, tags=["bench"])
        run.log({"train/loss": 0.0}, step=-1)
        if not run.flush(VISIBLE_MOST_S):
            raise InvisibleError(f"the first point was not acknowledged within {VISIBLE_MOST_S:g} s")
        for step in range(points):
            took_ms.append(_until_visible_ms(client, project, run, step))
            time.sleep(max(0.0, every_s * random.uniform(0.7, 1.3) - took_ms[-1] / 1e3))  # noqa: S311  # no secret
        run.finish()
    return FreshnessResult(points, quantile(took_ms, 0.5), quantile(took_ms, 0.99), max(took_ms))


def _until_visible_ms(client: ApiClient, project: str, run: thalweg.Run, step: int) -> float:
    value = step + 0.25
    body = {"runs": [run.run_id], "metrics": ["train/loss"], "points": None, "from": step, "to": step}
    begin = time.perf_counter()
    run.log({"train/loss": value}, step=step)
    while time.perf_counter() - begin < VISIBLE_MOST_S:
        series = client.post(f"/projects/{segment(project)}/series", body)["series"]
        if series and series[0]["value"] == [value]:
            return (time.perf_counter() - begin) * 1e3
    raise InvisibleError(f"step {step} was not visible after {VISIBLE_MOST_S:g} s")
