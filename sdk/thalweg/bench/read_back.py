"""Reads back what a client has logged, and compares it value by value."""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from thalweg.api_client import ApiClient, segment
from thalweg.bench.frames import Frames
from thalweg.errors import ThalwegError

_POINTS_AT_ONCE: Final = 2_000_000
_SERIES_AT_ONCE: Final = 1000


class WrongDataError(ThalwegError):
    """What the server gives back is not what was logged."""


def verify(
    client: ApiClient,
    project: str,
    run_id: str,
    frames: Frames,
    steps: int,
    *,
    first_step: float = 0.0,
    rank: int | None = None,
) -> int:
    """Compares every point of a run, or of one rank of it, that has logged so many frames from a step on.

    Returns their number. Raises WrongDataError.
    """
    at_once = max(1, min(_SERIES_AT_ONCE, _POINTS_AT_ONCE // max(steps, 1)))
    wanted_x = first_step + np.arange(steps, dtype=float)
    for start in range(0, len(frames.names) if steps else 0, at_once):
        chosen = frames.names[start : start + at_once]
        body = {
            "runs": [run_id],
            "metrics": list(chosen),
            "points": None,
            "from": first_step,
            "by_rank": rank is not None,
        }
        table = _ask(client, project, body, rank)
        if table.num_rows != len(chosen) * steps:
            again = _ask(client, project, body, rank).num_rows
            raise WrongDataError(
                f"run {run_id} has {table.num_rows:,} points of {len(chosen)} metrics from {chosen[0]!r} on,"
                f" and {len(chosen) * steps:,} were logged ({_difference(table, wanted_x)});"
                f" asked again it has {again:,}"
            )
        # Series follow each other whole, in an order of the server's.
        labels = table.column("name").unify_dictionaries().combine_chunks()
        order = labels.dictionary.take(labels.indices.take(pa.array(range(0, table.num_rows, steps)))).to_pylist()
        x = table.column("x").to_numpy().reshape(len(chosen), steps)
        if sorted(order) != sorted(chosen) or not (x == wanted_x).all():
            raise WrongDataError(f"run {run_id}: steps of {chosen[0]!r} and others are not those that were logged")
        values = dict(zip(order, table.column("value").to_numpy().reshape(len(chosen), steps), strict=True))
        for offset, name in enumerate(chosen):
            if not np.array_equal(values[name], frames.series(start + offset, steps)):
                raise WrongDataError(f"run {run_id}: values of {name!r} are not those that were logged")
    return len(frames.names) * steps


def _ask(client: ApiClient, project: str, body: dict[str, Any], rank: int | None) -> pa.Table:
    """The points that are asked for, of one rank where one is given."""
    answer = client.post_for_arrow(f"/projects/{segment(project)}/series", body)
    table = pa.ipc.open_stream(io.BytesIO(answer)).read_all()
    return table if rank is None else table.filter(pc.equal(table.column("rank"), rank))


def _difference(table: pa.Table, wanted_x: NDArray[np.float64]) -> str:
    """What is wrong with the first series, by its name, that has not the steps that are wanted."""
    names = table.column("name").cast(pa.string())
    for name in pc.unique(names).to_pylist():
        x = table.filter(pc.equal(names, name)).column("x").to_numpy()
        missing = np.setdiff1d(wanted_x, x)
        if missing.size or len(x) != len(wanted_x):
            where = f", between {missing[0]:g} and {missing[-1]:g}" if missing.size else ""
            return (
                f"of {name!r} {missing.size:,} steps are missing{where}, {len(x) - len(np.unique(x)):,} are there twice"
            )
    return "whole series are missing"
