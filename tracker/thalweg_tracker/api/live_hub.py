"""Who listens, and the one loop that looks for all of them whether there is anything new. Lives on one event loop.

A listener that takes its events slowly is read for slowly, so it costs no memory. The database is asked
in threads. The loop runs as long as anybody listens.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Final

from thalweg_tracker.api.live_events import BEGIN, KEEP_ALIVE, dropped_event, points_events, status_event, with_id
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.errors import NotFoundError, TrackerError
from thalweg_tracker.model import limits
from thalweg_tracker.query.lineage import RunRef, RunView, find_views
from thalweg_tracker.query.live import Feed
from thalweg_tracker.query.live_answers import Answers
from thalweg_tracker.query.live_marks import Marks
from thalweg_tracker.query.live_signals import (
    NO_SIGNAL,
    Signal,
    Watched,
    read_origins,
    read_signals,
    read_statuses,
    watched,
)

log = logging.getLogger(__name__)

_AFTER_FAILURE_S: Final = 1.0
Origins = dict[tuple[str, str], tuple[int, int]]


@dataclass(slots=True)
class _Waiting:
    """What a listener has not looked at yet."""

    runs: set[int] = field(default_factory=set)
    started_us: dict[int, int] = field(default_factory=dict)
    statuses: dict[int, str] = field(default_factory=dict)
    has_branches: bool = False  # a run has others than before

    def add(self, later: _Waiting) -> None:
        """Takes in what came after it."""
        self.runs |= later.runs
        self.started_us |= later.started_us
        self.statuses |= later.statuses
        self.has_branches |= later.has_branches


class Listener:
    """One open stream. `runs`: all branches whose points it sees; `watched`: those whose status it tells."""

    def __init__(self, answers: Answers, views: Sequence[RunView], metrics: Sequence[str], marks: Marks | None) -> None:
        """Reads where the series stand: for a thread."""
        self._engine = answers.engine
        self._feed = Feed(answers, views, metrics, marks)
        self._waiting = _Waiting()
        self._wake = asyncio.Event()
        self._heard: dict[int, str] = {}  # statuses
        self._origins: Origins = {}
        self._id_due_s = self._busy_s = 0.0
        self.runs = self._feed.runs
        self.watched = _watched_of(views)
        self.names = [(view.project, view.run_id) for view in views]
        self.is_new = True  # to the loop, which then takes all that it sees as moved

    def hear(self, signals: Mapping[int, Signal], statuses: Mapping[int, str], origins: Origins | None) -> None:
        """Tells it of branches that were written to, of statuses, and of what tells of its runs' branches."""
        started_us = {writer: us for signal in signals.values() for writer, us in signal.started_us.items()}
        changed = {key: one for key, one in statuses.items() if key in self.watched and self._heard.get(key) != one}
        self._heard |= changed
        news = _Waiting(set(signals), started_us, changed)
        if origins is not None:
            mine = {name: origins[name] for name in self.names if name in origins}
            news.has_branches, self._origins = mine != self._origins, mine
        if news != _Waiting():
            self._waiting.add(news)
            self._wake.set()

    def take_busy_s(self) -> float:
        """How long it was reading since this was asked last."""
        busy_s, self._busy_s = self._busy_s, 0.0
        return busy_s

    def wake(self) -> None:
        """Makes it look whether the server stops."""
        self._wake.set()

    async def events(self, stopped: asyncio.Event) -> AsyncIterator[bytes]:
        """Events as they come, until the server stops."""
        yield BEGIN
        while not stopped.is_set():
            try:
                await asyncio.wait_for(self._wake.wait(), limits.LIVE_KEEP_ALIVE_S)
            except asyncio.TimeoutError:
                yield KEEP_ALIVE
                continue
            self._wake.clear()
            asked, self._waiting = self._waiting, _Waiting()
            begun_s = time.monotonic()
            try:
                events, left = await asyncio.to_thread(self._read, asked)
            except NotFoundError as error:  # a run of it was deleted
                yield dropped_event(str(error))
                return
            except TrackerError as error:  # the stream goes on where it was as soon as the database does
                log.warning("cannot read what is new: %s", error)
                await asyncio.sleep(_AFTER_FAILURE_S)
                events, left = [], asked
            self._busy_s += time.monotonic() - begun_s
            left.add(self._waiting)
            self._waiting = left
            if left != _Waiting():
                self._wake.set()
            for event in events:
                yield event

    def _read(self, asked: _Waiting) -> tuple[list[bytes], _Waiting]:
        """Events, and what must be asked again at once. Runs in a thread."""
        if asked.has_branches:
            self._follow()
        views: dict[int, RunView] = {view.key: view for view in self._feed.views}
        events = [status_event(views[key], status) for key, status in asked.statuses.items() if key in views]
        left = _Waiting()
        if asked.runs:
            news = self._feed.read(asked.runs, asked.started_us, time.monotonic())
            events += points_events(news.series)
            left = _Waiting(news.left, asked.started_us if news.left else {})
        now_s = time.monotonic()
        if events and now_s >= self._id_due_s:
            self._id_due_s = now_s + limits.LIVE_ID_EVERY_MS / 1e3
            events[-1] = with_id(self._feed.marks().to_text(), events[-1])
        return events, left

    def _follow(self) -> None:
        """Goes over to the newest branches."""
        (project,) = {project for project, _ in self.names}
        views = find_views(self._engine, project, [RunRef(run_id) for _, run_id in self.names])
        self._feed.change_views(views)
        self.watched = _watched_of(views)
        self.runs = self._feed.runs
        self.is_new = True


def _watched_of(views: Sequence[RunView]) -> dict[int, Watched]:
    return {view.key: watched(view) for view in views}


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """The place of one listener, from before its series are looked up until it has gone."""

    project: str


class LiveHub:
    """The listeners of one process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.answers = Answers(engine)
        self.stopped = asyncio.Event()
        self._listeners: set[Listener] = set()
        self._places: set[Place] = set()
        self._task: asyncio.Task[None] | None = None
        self._signals: dict[int, Signal] = {}
        self._states_due_s = self._moved_at_s = 0.0

    @property
    def listeners(self) -> int:
        """How many there are. May be asked from any thread."""
        return len(self._listeners)

    def refusal(self, project: str) -> str:
        """Why it has no place for one listener more of a project; empty: it has."""
        if sum(place.project == project for place in self._places) >= limits.LIVE_LISTENERS_PER_PROJECT:
            most = f"{limits.LIVE_LISTENERS_PER_PROJECT} open streams"
            return f"project {project!r} has {most}, its most of the {limits.LIVE_LISTENERS_MAX} of this server"
        if len(self._places) >= limits.LIVE_LISTENERS_MAX:
            return f"this server has {limits.LIVE_LISTENERS_MAX} open streams, its most"
        return ""

    def take_place(self, project: str) -> Place:
        """A place, where there is no refusal."""
        assert not self.refusal(project), project
        place = Place(project)
        self._places.add(place)
        return place

    def give_back(self, place: Place) -> None:
        """Another listener may have it. A place that was given back before stays so."""
        self._places.discard(place)

    def add(self, listener: Listener) -> None:
        """Begins to look for it."""
        self._listeners.add(listener)
        if self._task is None:
            # It works for all of them: its log is not that of the request that came first.
            self._task = asyncio.create_task(self._run(), context=Context())

    def remove(self, listener: Listener) -> None:
        """Looks for it no more."""
        self._listeners.discard(listener)

    def stop(self) -> None:
        """Ends all streams."""
        self.stopped.set()
        for listener in self._listeners:
            listener.wake()

    async def _run(self) -> None:
        try:
            while self._listeners and not self.stopped.is_set():
                begun_s = time.monotonic()
                try:
                    await self._look(begun_s)
                except TrackerError as error:
                    log.warning("cannot look whether anything is new: %s", error)
                    await asyncio.sleep(_AFTER_FAILURE_S)
                await asyncio.sleep(self._pause_s(begun_s))
        finally:
            self._task = None
            self._signals = {}
            self.answers.forget()

    def _pause_s(self, begun_s: float) -> float:
        """How long to wait after a look: as long as this and the reading since took, between two limits."""
        now_s = time.monotonic()
        took_s = now_s - begun_s
        busy_s = took_s + sum(one.take_busy_s() for one in self._listeners)
        slow_s = limits.LIVE_POLL_SLOWLY_MS / 1e3
        if now_s - self._moved_at_s > limits.LIVE_QUIET_MS / 1e3:
            return max(slow_s - took_s, took_s)
        return max(limits.LIVE_POLL_MS / 1e3 - took_s, min(busy_s, slow_s), took_s)

    async def _look(self, now_s: float) -> None:
        listeners = list(self._listeners)
        projects = {project for listener in listeners for project, _ in listener.names}
        runs = {run for listener in listeners for run in listener.runs}
        signals = await asyncio.to_thread(read_signals, self._engine, projects, runs)
        self.answers.forget()
        moved = {run for run in runs if signals.get(run) != self._signals.get(run)}
        moves = [(one, one.runs if one.is_new else one.runs & moved) for one in listeners]
        is_due = now_s >= self._states_due_s
        asked = {
            key: branch
            for one, some in moves
            for key, branch in one.watched.items()
            if is_due or one.is_new or key in some
        }
        statuses = await asyncio.to_thread(read_statuses, self._engine, asked) if asked else {}
        origins: Origins | None = None
        if is_due:
            names = {name for one in listeners for name in one.names}
            origins = await asyncio.to_thread(read_origins, self._engine, names)
            self._states_due_s = now_s + limits.LIVE_STATES_MS / 1e3
        self._signals = signals
        if any(some for _, some in moves):
            self._moved_at_s = now_s
        for one, some in moves:
            one.is_new = False
            one.hear({run: signals.get(run, NO_SIGNAL) for run in some}, statuses, origins)
