"""Checkpoints along a lineage: walked newest first, with what they tell of themselves.

A walk reads the words of one segment after the other in the order of the table, so that the newest one costs the same
whatever else is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, takewhile
from operator import itemgetter
from typing import Any, Final

import orjson

from thalweg_tracker.checkpoints.state import Check, Checkpoint, Place, Word, assemble
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.together import together
from thalweg_tracker.lineage.chain import Segment
from thalweg_tracker.model import limits
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.sql import load

FIRST_ROWS: Final = 256
"""Words read first by a walk: of the newest checkpoint or a few. Each further batch has four times as many."""
BATCH_ROWS: Final = 16_384
_SPANS_FROM_SEGMENTS: Final = 3
"""With so many segments it is worth asking first which of them have checkpoints."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What a checkpoint tells of itself."""

    metrics: dict[str, Any]
    metadata: dict[str, Any]


NO_TEXTS: Final = Texts({}, {})


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of one shard, below its URI."""

    uri: str
    files: tuple[dict[str, Any], ...]  # path, size_bytes (0: not known), digest


@dataclass(frozen=True, slots=True)
class Told:
    """What the shards of a checkpoint told beside their places. `manifests`: by kind and shard, where there are any."""

    manifests: dict[tuple[str, int], Manifest]
    texts: Texts


def walk(
    engine: Engine,
    view: RunView,
    *,
    before: float = math.inf,
    kind: str = "",
    first_rows: int = FIRST_ROWS,
    own: bool = False,
) -> Iterator[Checkpoint]:
    """The checkpoints that a view sees at steps below one, the highest first; of one kind, or of all. `own`: without
    inherited ones. Each step of the walk may ask the database.
    """
    segments = view.segments[-1:] if own else view.segments
    for segment in reversed(_with_checkpoints(engine, view.project, segments)):
        if segment.after < before:
            until = min(before, math.nextafter(segment.upto, math.inf))
            yield from _walk_segment(engine, view.project, segment, until, kind, first_rows)


def find_steps(engine: Engine, view: RunView, steps: Sequence[float]) -> list[Checkpoint]:
    """The checkpoints at these steps, the highest first; steps without one are left out."""
    if not steps:
        return []
    wanted = set(steps)
    found = takewhile(
        lambda one: one.place.step >= min(wanted), walk(engine, view, before=math.nextafter(max(wanted), math.inf))
    )
    return [one for one in found if one.place.step in wanted]


def _with_checkpoints(engine: Engine, project: str, segments: Sequence[Segment]) -> Sequence[Segment]:
    if len(segments) < _SPANS_FROM_SEGMENTS:
        return segments
    where: dict[str, Any] = {"project": project, "runs": [segment.run for segment in segments]}
    rows = engine.query(load("checkpoint_spans"), where, limits.QUERY_TIMEOUT_S).to_pylist()
    spans = {row["run"]: (row["first_step"], row["last_step"]) for row in rows}
    none = (math.inf, -math.inf)
    return [
        segment
        for segment in segments
        if spans.get(segment.run, none)[0] <= segment.upto and spans.get(segment.run, none)[1] > segment.after
    ]


def _walk_segment(
    engine: Engine, project: str, segment: Segment, before: float, kind: str, rows: int
) -> Iterator[Checkpoint]:
    while True:
        checks, (words, is_last) = together(
            partial(_read_checks, engine, project, segment, before, kind, rows),
            partial(_read_words, engine, project, segment, before, kind, rows),
        )
        if words:
            low = words[-1].place.step
            yield from reversed(assemble(words, checks.down_to(low)))
            before = low
        if is_last:
            return
        rows = min(4 * rows, BATCH_ROWS)


def _read_words(
    engine: Engine, project: str, segment: Segment, before: float, kind: str, rows: int
) -> tuple[list[Word], bool]:
    """The words of the next whole checkpoints, the highest step first, and whether there are no more."""
    where: dict[str, Any] = {
        "project": project,
        "run": segment.run,
        "after": segment.after,
        "before": before,
        "kind": kind,
        "limit": rows,
    }
    found = engine.query(load("checkpoint_words"), where, limits.QUERY_TIMEOUT_S).to_pylist()
    is_last = len(found) < rows
    if not is_last and found[0]["step"] != found[-1]["step"]:
        cut_off = found[-1]["step"]  # it may have more words than these
        found = [row for row in found if row["step"] != cut_off]
    elif not is_last:
        step = found[0]["step"]
        where |= {"after": math.nextafter(step, -math.inf), "before": math.nextafter(step, math.inf), "limit": 2**62}
        found = engine.query(load("checkpoint_words"), where, limits.QUERY_TIMEOUT_S).to_pylist()
    return [_word(segment, row) for row in found], is_last


def _word(segment: Segment, row: dict[str, Any]) -> Word:
    place = Place(segment.run, row.pop("step"))
    return Word(place=place, is_durable=row.pop("state") == "durable", **row)


@dataclass(frozen=True, slots=True)
class _Checks:
    """What was found of checkpoints, read beside their words: it may end above the lowest of these."""

    found: list[Check]  # the highest step first
    is_whole: bool
    read: Callable[[float], _Checks]
    """All above a step."""

    def down_to(self, low: float) -> list[Check]:
        """Those at or above a step; of several on a shard the latest comes last."""
        whole = self if self.is_whole or self.found[-1].place.step < low else self.read(math.nextafter(low, -math.inf))
        return sorted(whole.found, key=lambda check: check.checked_us)


def _read_checks(
    engine: Engine,
    project: str,
    segment: Segment,
    before: float,
    kind: str,
    words: int,
    *,
    after: float | None = None,
) -> _Checks:
    """Those of about so many words; with `after` all above it."""
    limit = 2 * words if after is None else 2**62
    where: dict[str, Any] = {
        "project": project,
        "run": segment.run,
        "after": segment.after if after is None else after,
        "before": before,
        "kind": kind,
        "limit": limit,
    }
    rows = engine.query(load("checkpoint_checks"), where, limits.QUERY_TIMEOUT_S).to_pylist()
    found = [Check(place=Place(segment.run, row.pop("step")), **row) for row in rows]
    return _Checks(
        found,
        len(found) < limit,
        lambda above: _read_checks(engine, project, segment, before, kind, words, after=above),
    )


def read_texts(engine: Engine, project: str, checkpoints: Sequence[Checkpoint]) -> dict[Place, Texts]:
    """What these checkpoints tell of themselves; those that tell nothing are left out."""
    texts: dict[Place, Texts] = {}
    for run, steps in _steps_by_run(checkpoints):
        where: dict[str, Any] = {"project": project, "run": run, "low": min(steps), "high": max(steps)}
        for row in engine.query(load("checkpoint_texts"), where, limits.QUERY_TIMEOUT_S).to_pylist():
            if row["step"] in steps:
                told = texts.setdefault(Place(run, row["step"]), Texts({}, {}))
                told.metrics.update(orjson.loads(row["metrics"] or "{}"))
                told.metadata.update(orjson.loads(row["metadata"] or "{}"))
    return texts


def _steps_by_run(checkpoints: Sequence[Checkpoint]) -> Iterator[tuple[Any, set[float]]]:
    ordered = sorted(one.place for one in checkpoints)
    for run, places in groupby(ordered, lambda place: place.run):
        yield run, {place.step for place in places}


def read_told(engine: Engine, project: str, place: Place) -> Told:
    """What the shards of one checkpoint told."""
    where: dict[str, Any] = {"project": project, "run": place.run, "step": place.step}
    rows = engine.query(load("checkpoint_told"), where, limits.QUERY_TIMEOUT_S).to_pylist()
    manifests = {
        (row["kind"], row["shard"]): Manifest(row["uri"], tuple(orjson.loads(row["files"])))
        for row in rows
        if row["files"]
    }
    texts = Texts({}, {})
    for _, shards in groupby(rows, itemgetter("kind")):
        of_kind = list(shards)
        for name, into in (("metrics", texts.metrics), ("metadata", texts.metadata)):
            told = next((row[name] for row in of_kind if row[name]), "{}")  # by the lowest shard that tells any
            into.update(orjson.loads(told))
    return Told(manifests, texts)
