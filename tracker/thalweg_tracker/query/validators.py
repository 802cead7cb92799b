"""Validators of answers about runs that have ended: texts that change when such an answer may have changed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import xxhash

from thalweg.version import __version__
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.together import together
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import run_key
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.query.states import States
from thalweg_tracker.sql import load

_ENDED: Final = frozenset({"finished", "failed", "killed"})


def read_validator(engine: Engine, project: str, views: Sequence[RunView], *question: object) -> str | None:
    """A validator of the answer to a question about some branches, each as it is seen now; None if one has not ended.

    `question`: whatever else the answer depends on. Ask for the validator before the answer: then it is never newer.
    A run that goes on, late points and new attributes change it, also those of the branches it was forked from.
    Commits in flight may pass each other, so there is none until CACHE_AFTER_S after the last word.
    """
    own = {int(view.key) for view in views}
    others = {int(run_key(project, view.run_id, one.branch)) for view in views for one in view.branches}  # have labels
    every = own | others | {int(key) for view in views for key in view.keys}
    where: dict[str, Any] = {"project": project, "runs": sorted(every)}
    states, answer = together(
        lambda: States(engine, project, sorted(own)).words(),
        lambda: engine.query(load("validator"), where, limits.QUERY_TIMEOUT_S),
    )
    (row,) = answer.to_pylist()
    has_ended = all(states.get(key) in _ENDED for key in own)
    if not has_ended or time.time() - row["seen_us"] / 1e6 < limits.CACHE_AFTER_S:
        return None
    seen = [(view.run_id, view.branch, view.lineage, view.branches) for view in views]
    text = repr((__version__, project, seen, sorted(row.items()), question))
    return xxhash.xxh3_128_hexdigest(text.encode())
