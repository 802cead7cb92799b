"""Validators of answers about runs that have ended: texts that change when such an answer may have changed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

import xxhash

from thalweg.version import __version__
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.together import together
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import run_key
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.sql import load

_OUTCOMES: Final = frozenset({"finished", "failed", "killed"})


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
    words, attributes = (
        answer.to_pylist()
        for answer in together(
            *(
                partial(engine.query, load(name), where, limits.QUERY_TIMEOUT_S)
                for name in ("last_words", "attributes_hash")
            )
        )
    )
    seen_us = max((row["seen_us"] for row in words), default=0)
    if not own <= _ended(words) or time.time() - seen_us / 1e6 < limits.CACHE_AFTER_S:
        return None
    delivered = sorted((row["run"], row["writer"], row["seen_us"], row["sequence"], row["word"]) for row in words)
    seen = [(view.run_id, view.branch, view.lineage, view.branches) for view in views]
    text = repr((__version__, project, seen, delivered, attributes, question))
    return xxhash.xxh3_128_hexdigest(text.encode())


def _ended(words: Iterable[dict[str, Any]]) -> set[int]:
    """Branches of which the latest training process of each rank has said its last word (see sql/run_states.sql)."""
    latest: dict[tuple[int, int], dict[str, Any]] = {}
    for row in sorted((row for row in words if row["is_primary"]), key=lambda row: int(row["started_us"])):
        latest[row["run"], row["rank"]] = row
    going_on = {run for (run, _), row in latest.items() if not _has_ended(row["word"])}
    return {run for run, _ in latest} - going_on


def _has_ended(word: str) -> bool:
    return bool(word) and json.loads(word)["outcome"] in _OUTCOMES
