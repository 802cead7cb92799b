"""Names of places in a run's history: RUN@STEP, RUN@latest-checkpoint. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from thalweg.errors import InputError
from thalweg.values import shorten
from thalweg.wire import limits

LATEST_CHECKPOINT: Final = "latest-checkpoint"

_WANTED: Final = f"wanted RUN, RUN@STEP or RUN@{LATEST_CHECKPOINT}, with PROJECT/ before it where it is another"
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class ForkPoint:
    """A place in a run's history. Without a step and `latest_checkpoint`: the run's end."""

    project: str | None
    run_id: str
    step: float | None
    latest_checkpoint: bool


def parse_point(text: str) -> ForkPoint:
    """The place that a text names. Raises InputError.

    Run ids may contain "@": the last one counts, if a finite number or "latest-checkpoint" follows; if not, it
    belongs to the id.
    """
    if not isinstance(text, str):
        raise InputError(f"cannot use {shorten(text)} as a point in a run: {_WANTED}")
    project, slash, rest = text.rpartition("/")
    run_id, at, place = rest.rpartition("@")
    step = _finite(place) if at else None
    is_latest = bool(at) and place == LATEST_CHECKPOINT
    if step is None and not is_latest:
        run_id = rest
    if not _is_name(run_id) or (slash and not _is_name(project)):
        raise InputError(f"cannot use {shorten(text)} as a point in a run: {_WANTED}")
    return ForkPoint(project or None, run_id, step, is_latest)


def _finite(text: str) -> float | None:
    number = float(text) if _NUMBER.fullmatch(text) else math.inf
    return number if math.isfinite(number) else None


def _is_name(text: str) -> bool:
    """Whether it can be the name of a project or run."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return False
    return 1 <= size <= limits.RUN_ID_MAX_BYTES and "/" not in text and text not in (".", "..") and text.isprintable()
