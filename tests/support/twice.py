"""The runs of a project twice: in an engine, by the ingest's own code, and as dicts that hold each point that stands.

A fork is a copy of its parent here. Of several times at a step the latest stands.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support import wire
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.ingest.assemble import assemble
from thalweg_tracker.ingest.decode import FrameBlock, StreamDecoder, decode_hello
from thalweg_tracker.ingest.events import WriterNews, attribute_rows, writer_rows
from thalweg_tracker.ingest.registry import Registry
from thalweg_tracker.lineage.chain import Branch, Lineage, extend, root

Held = dict[str, dict[int, dict[float, tuple[int, float]]]]
"""By metric, rank and step: time, value."""
_INHERITED: Final = "config."
_HOST: Final = "system/"
SECOND_US: Final = 1_000_000
REMOVED: Final = object()
"""Instead of an attribute's value: it is taken away, also what would be inherited."""


@dataclass(frozen=True, slots=True)
class Point:
    """What a process logs of a metric."""

    step: float
    value: float
    time_us: int


@dataclass
class _Branch:
    run_id: str
    number: int
    parent: _Branch | None
    step: float  # the last one inherited
    began_us: int
    own: Held = field(default_factory=lambda: defaultdict(lambda: defaultdict(dict)))
    attributes: dict[str, Any] = field(default_factory=dict)
    status: str = ""
    sent: list[tuple[pb.Hello, list[pb.Batch]]] = field(default_factory=list)

    def lineage(self) -> Lineage:
        """The way to it. Of the branches that a run left behind some are not on it any more."""
        branch = Branch(self.run_id, self.number)
        return root(branch) if self.parent is None else extend(self.parent.lineage(), self.step, branch)

    def take(self, name: str, rank: int, points: Sequence[Point]) -> None:
        """What stands of its own points, unless it would rewrite what is inherited."""
        own = self.own[name][rank]
        for point in points:
            if self.parent is None or point.step > self.step or name.startswith(_HOST):
                own[point.step] = max(
                    own.get(point.step, (-1, 0.0)), (point.time_us, point.value), key=lambda one: one[0]
                )

    def points(self) -> Held:
        """All that is visible of it."""
        found: Held = defaultdict(lambda: defaultdict(dict))
        inherited = self.parent.points() if self.parent else {}
        for name, ranks in inherited.items():
            for rank, points in ranks.items():
                kept = {step: point for step, point in points.items() if step <= self.step}
                if kept and not name.startswith(_HOST):
                    found[name][rank].update(kept)
        for name, ranks in self.own.items():
            for rank, points in ranks.items():
                if points:
                    found[name][rank].update(points)
        return found


class Twice:
    """One project. Of a run with several branches the newest is meant."""

    def __init__(self, engine: Engine, project: str = wire.PROJECT) -> None:
        self.engine = engine
        self.project = project
        self._registry = Registry(engine)
        self._branches: dict[str, list[_Branch]] = {}
        self._writers = itertools.count(1)
        self._moments = itertools.count(wire.START_US)

    @property
    def run_ids(self) -> list[str]:
        """In the order of their creation."""
        return list(self._branches)

    def begin(self, run_id: str) -> None:
        """A run from nothing."""
        self._begin(_Branch(run_id, 0, None, -math.inf, next(self._moments)))

    def fork(self, run_id: str, parent: str, step: float) -> None:
        """A run that goes on from another one."""
        self._begin(_Branch(run_id, 0, self._branches[parent][-1], step, next(self._moments)))

    def rewind(self, run_id: str, step: float) -> None:
        """A new branch of a run."""
        before = self._branches[run_id][-1]
        self._begin(_Branch(run_id, before.number + 1, before, step, next(self._moments)))

    def log(self, run_id: str, rank: int, metrics: Mapping[str, Sequence[Point]]) -> None:
        """What a new process of a rank writes, a batch a metric. A step that comes twice is marked as logged again."""
        branch = self._branches[run_id][-1]
        greeting = self._greeting(branch, rank)
        batches = []
        for name, points in metrics.items():
            for some, is_relogged in _without_repetition(points):
                steps, times = [point.step for point in some], [point.time_us for point in some]
                rows = [[point.value] for point in some]
                batches.append(wire.batch(1, [name], steps, rows, times, relogged=is_relogged))
            branch.take(name, rank, points)
        branch.sent.append((greeting, batches))
        self._store(greeting, batches)

    def send_again(self, run_id: str) -> None:
        """All batches of a run's processes come a second time, marked as such."""
        for greeting, batches in self._branches[run_id][-1].sent:
            again = [pb.Batch() for _ in batches]
            for copy, batch in zip(again, batches, strict=True):
                copy.CopyFrom(batch)
                copy.resent = True
            self._store(greeting, again)

    def describe(self, run_id: str, values: Mapping[str, Any]) -> None:
        """Attributes by path, JSON values or REMOVED."""
        branch = self._branches[run_id][-1]
        moment = next(self._moments)
        texts = {path: "" if value is REMOVED else json.dumps(value) for path, value in values.items()}
        pairs = [pb.Attribute(path=path, json=text) for path, text in texts.items()]
        event = pb.Event(time_us=moment, attributes=pb.AttributesSet(attributes=pairs))
        self._store(self._greeting(branch, 0), [wire.batch(1, events=[event])])
        branch.attributes.update(values)

    def end(self, run_id: str, status: str) -> None:
        """The last word of the training: "finished", "failed", "killed", or "running" for a sign of life."""
        branch = self._branches[run_id][-1]
        greeting = self._greeting(branch, 0)
        events = [wire.started(branch.began_us)]
        if status != "running":
            outcome = pb.WriterEnded.Outcome.Value(status.upper())
            events.append(wire.ended(outcome, branch.began_us + 100 * SECOND_US))
        self._store(greeting, [wire.batch(1, events=events)], seen_us=time.time_ns() // 1000)
        branch.status = status

    def points(self) -> dict[str, Held]:
        """Of each run what is visible."""
        return {run_id: branches[-1].points() for run_id, branches in self._branches.items()}

    def attributes(self) -> dict[str, dict[str, Any]]:
        """Of each run what is set; config is inherited, of the same run everything but the status."""
        return {run_id: self._attributes(branches[-1]) for run_id, branches in self._branches.items()}

    def _attributes(self, branch: _Branch) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for one in branch.lineage():
            above = self._branches[one.branch.run_id][one.branch.number].attributes
            is_own = one.branch.run_id == branch.run_id
            found |= {path: value for path, value in above.items() if is_own or path.startswith(_INHERITED)}
        found = {path: value for path, value in found.items() if value is not REMOVED}
        status = "created" if branch.parent is not None and not branch.number else "lost"
        of_run = {"run.id": branch.run_id, "run.created_at": branch.began_us / SECOND_US}
        return {**found, **of_run, "run.status": branch.status or status}

    def _begin(self, branch: _Branch) -> None:
        self._branches.setdefault(branch.run_id, []).append(branch)
        self._registry.place(decode_hello(self._greeting(branch, 0)), next(self._moments))

    def _greeting(self, branch: _Branch, rank: int) -> pb.Hello:
        greeting = wire.hello(branch.run_id, next(self._writers), rank, self.project)
        greeting.began_us = branch.began_us
        if branch.number:
            greeting.origin.CopyFrom(pb.Origin(kind=pb.Origin.REWIND, step=branch.step, attempt=f"a{branch.number}"))
        elif branch.parent is not None:
            origin = pb.Origin(
                kind=pb.Origin.FORK,
                parent_run_id=branch.parent.run_id,
                parent_branch=branch.parent.number,
                step=branch.step,
            )
            greeting.origin.CopyFrom(origin)
        return greeting

    def _store(self, greeting: pb.Hello, batches: list[pb.Batch], seen_us: int = wire.START_US) -> None:
        """As one stream and one commit would."""
        writer = self._registry.place(decode_hello(greeting), next(self._moments))
        decoder = StreamDecoder(writer)
        blocks: list[FrameBlock] = []
        news = []
        for batch in batches:
            decoded = decoder.decode(batch)
            self._registry.register_names(writer.project, writer.run, decoded.new_names)
            blocks += decoded.blocks
            news.append(WriterNews(writer, decoded.events, {}, seen_us, 0, *decoded.span))
        if blocks:
            rows = assemble(blocks)
            self.engine.insert("points", rows.points)
            self.engine.insert("series_stats_feed", rows.stats)
        attributes = attribute_rows(news)
        if attributes.num_rows:
            self.engine.insert("attributes", attributes)
        if news:
            self.engine.insert("writers", writer_rows(news))


def _without_repetition(points: Sequence[Point]) -> list[tuple[list[Point], bool]]:
    """In parts: those at steps that are new, and those at steps that have come before."""
    seen: set[float] = set()
    parts: list[tuple[list[Point], bool]] = []
    for point in points:
        is_relogged = point.step in seen
        seen.add(point.step)
        if not parts or parts[-1][1] != is_relogged:
            parts.append(([], is_relogged))
        parts[-1][0].append(point)
    return parts
