"""What is new in some series since one was last told: the points that one listener gets.

New is what was committed since, not what has a higher step: values that are logged again come too, and those of a rank
or a process that was long offline. Points carry no time of their commit, so each series of each writer has a mark:
a writer's points are committed by rising times. Two commits of one writer can change places, so what was told in
the last seconds is read again, and what was told already is left out.

Not thread-safe: one call at a time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thalweg.wire import limits as wire_limits
from thalweg_tracker.engine.contract import Parameters
from thalweg_tracker.model import limits
from thalweg_tracker.model.keys import metric_key
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.query.live_answers import Answers
from thalweg_tracker.query.live_marks import Marks
from thalweg_tracker.sql import load

_RUNS_AT_ONCE: Final = 100
_END_OF_TIME_US: Final = 2**62
_SETTLE_S: Final = limits.LIVE_SETTLE_MS / 1e3


@dataclass(frozen=True, slots=True)
class NewPoints:
    """New points of one series, by rising steps, each once."""

    run_id: str
    branch: int
    name: str
    rank: int
    steps: NDArray[np.float64]
    values: NDArray[np.float64]
    times_us: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class News:
    """What one reading gave. `left`: branches that must be read again at once, as there is more."""

    series: list[NewPoints]
    left: set[int]


class _Mark(NamedTuple):
    time_us: int
    step: float


class _Group(NamedTuple):
    run: int
    metric: int
    rank: int


class _Target(NamedTuple):
    """Where points of a branch are seen."""

    view: RunView
    after: float
    upto: float


@dataclass(slots=True)
class _Course:
    """How far one series of one writer was told: now, and as it stood before each of the last two settling times."""

    told: _Mark
    before: _Mark
    settled: _Mark

    def settle(self) -> None:
        self.settled, self.before = self.before, self.told

    def stand_at(self, mark: _Mark) -> None:
        self.told = self.before = self.settled = mark


class _Range(NamedTuple):
    """What can be new of one series of one writer: after < time <= upto, from a step on. `last`: where it ends."""

    course: _Course
    after_us: int
    upto_us: int
    from_step: float
    last: _Mark


class Feed:
    """The new points of one listener."""

    def __init__(self, answers: Answers, views: Sequence[RunView], metrics: Sequence[str], marks: Marks | None) -> None:
        """`marks` None: only what comes from now on. Reads where the series stand then."""
        self._answers = answers
        self._names = {int(metric_key(name)): name for name in metrics}
        self._marks = marks or Marks()
        self._courses: dict[_Group, dict[int, _Course]] = defaultdict(dict)  # by writer
        self._seen: dict[_Group, set[tuple[float, int]]] = defaultdict(set)  # (step, time) since the last settling
        self._seen_before: dict[_Group, set[tuple[float, int]]] = {}
        self._settled = -2  # number of the settling time since which nothing was settled
        self._targets: dict[int, list[_Target]] = {}
        self.views: list[RunView] = []
        self._take(views)
        if marks is None:
            times = self._stand(self.runs)
            self._marks = Marks(0, times)

    @property
    def runs(self) -> set[int]:
        """All branches whose points are seen."""
        return set(self._targets)

    def change_views(self, views: Sequence[RunView]) -> None:
        """Goes over to other views. What a new one inherits counts as told, what it writes itself is new."""
        known = self.runs
        self._take(views)
        self._stand(self.runs - known - {view.key for view in views})

    def _take(self, views: Sequence[RunView]) -> None:
        self.views = list(views)
        self._targets = {}
        for view in views:
            for segment in view.segments:
                self._targets.setdefault(segment.run, []).append(_Target(view, segment.after, segment.upto))
            self._targets.setdefault(view.key, [])  # what only the host measured may be below the fork step

    def _stand(self, runs: Collection[int]) -> dict[int, int]:
        """Takes all that is there of some branches as told. Returns the latest time of each writer."""
        times: dict[int, int] = {}
        for row in self._stored(runs):
            mark = _Mark(row["last_us"], row["last_step"])
            self._courses[_group(row)][row["writer"]] = _Course(mark, mark, mark)
            times[row["writer"]] = max(times.get(row["writer"], 0), mark.time_us)
        return times

    def _stored(self, runs: Collection[int]) -> list[dict[str, Any]]:
        if not runs or not self._names:
            return []
        where: Parameters = {"runs": sorted(runs), "metrics": sorted(self._names)}
        rows: list[dict[str, Any]] = self._answers.query(load("live_series"), where).to_pylist()
        return rows

    def marks(self) -> Marks:
        """From where another listener may go on and misses nothing; some of the last seconds it is told again."""
        times = dict(self._marks.times_us)
        for courses in self._courses.values():
            for writer, course in courses.items():
                times[writer] = max(times.get(writer, self._marks.rest_us), course.settled.time_us)
        return Marks(self._marks.rest_us, times)

    def read(self, runs: Collection[int], started_us: Mapping[int, int], now_s: float) -> News:
        """What is new in some branches. `started_us`: when writers began, by their own clocks, as far as known."""
        self._settle(now_s)
        ranges: dict[_Group, list[_Range]] = defaultdict(list)
        for row in self._stored(self.runs.intersection(runs)):
            one = self._range(row, started_us)
            if one is not None:
                ranges[_group(row)].append(one)
        chosen = list(dict.fromkeys(group.run for group in ranges))
        left = set(chosen[_RUNS_AT_ONCE:])
        ranges = {group: some for group, some in ranges.items() if group.run not in left}
        if not ranges:
            return News([], left)
        points = self._points(ranges)
        series = self._new_of(points, ranges)
        if points.num_rows == limits.LIVE_READ_POINTS:
            left.update(chosen)
            self._stop_at(ranges, _edge(points["time_us"].to_numpy()))
        else:
            for one in (one for some in ranges.values() for one in some):
                one.course.told = max(one.course.told, one.last)
        return News(series, left)

    def _settle(self, now_s: float) -> None:
        """What was told long ago is read no more. Listeners settle together, so that they go on asking the same."""
        now = int(now_s / _SETTLE_S)
        for _ in range(min(now - self._settled, 2)):
            for course in (course for courses in self._courses.values() for course in courses.values()):
                course.settle()
            self._seen_before, self._seen = self._seen, defaultdict(set)
        self._settled = now

    def _range(self, row: Mapping[str, Any], started_us: Mapping[int, int]) -> _Range | None:
        """What can be new of a series of a writer; None if nothing."""
        group, writer = _group(row), row["writer"]
        last = _Mark(row["last_us"], row["last_step"])
        targets = self._seen_at(group)
        if not targets:
            return None
        courses = self._courses[group]
        course = courses.get(writer)
        if course is None:
            after_us = self._marks.of(writer)
            if courses:  # others write this series: their points are told from these by the times
                after_us = max(after_us, started_us.get(writer, 0) - 1)
            begin = _Mark(after_us, last.step if last.time_us <= after_us else -math.inf)
            course = courses[writer] = _Course(begin, begin, begin)
        if course.settled.time_us >= last.time_us:
            return None
        after_us, upto_us = course.settled.time_us, last.time_us
        from_step = max(row["first_step"], course.settled.step)
        if row["is_relogged"]:  # steps fall, and the last time is that of the highest step of a batch
            upto_us, from_step = _END_OF_TIME_US, row["first_step"]
        if from_step > max(target.upto for target in targets):
            course.stand_at(last)
            return None
        return _Range(course, after_us, upto_us, from_step, last)

    def _seen_at(self, group: _Group) -> list[_Target]:
        """Where a series is seen. Metrics of the host are no part of a lineage, but of the branch that wrote them."""
        if self._names[group.metric].startswith(wire_limits.SYSTEM_PREFIX):
            return [_Target(view, -math.inf, math.inf) for view in self.views if view.key == group.run]
        return self._targets[group.run]

    def _points(self, ranges: Mapping[_Group, Sequence[_Range]]) -> pa.Table:
        by_run: dict[int, list[_Range]] = defaultdict(list)
        for group, some in ranges.items():
            by_run[group.run] += some
        where: dict[str, Any] = {
            "metrics": sorted({group.metric for group in ranges}),
            "runs": sorted(by_run),
            "limit": limits.LIVE_READ_POINTS,
        }
        which = []
        for number, (run, some) in enumerate(sorted(by_run.items())):
            where |= {
                f"run{number}": run,
                f"step{number}": min(one.from_step for one in some),
                f"after{number}": min(one.after_us for one in some),
            }
            which.append(
                f"(run = {{run{number}:UInt64}} AND step >= {{step{number}:Float64}}"
                f" AND time > fromUnixTimestamp64Micro({{after{number}:Int64}}))"
            )
        sql = load("live_points").replace("{which}", " OR ".join(which))
        return self._answers.query(sql, where)

    def _stop_at(self, ranges: Mapping[_Group, Sequence[_Range]], edge_us: int) -> None:
        """There was more than fits: all up to `edge_us` was told, and is not read again."""
        for one in (one for some in ranges.values() for one in some):
            reached = one.last if one.last.time_us <= edge_us else _Mark(edge_us, one.course.settled.step)
            one.course.stand_at(max(one.course.told, reached))
        for seen in (self._seen, self._seen_before):
            for group, pairs in seen.items():
                seen[group] = {pair for pair in pairs if pair[1] > edge_us}

    def _new_of(self, points: pa.Table, ranges: Mapping[_Group, Sequence[_Range]]) -> list[NewPoints]:
        """Points that are new, by where they are seen."""
        found = []
        for group, rows in _groups(points):
            steps, times_us, values = (points[name].take(rows).to_numpy() for name in ("step", "time_us", "value"))
            new = np.zeros(len(steps), bool)
            for one in ranges.get(group, ()):
                its = (times_us > one.after_us) & (times_us <= one.upto_us) & (steps >= one.from_step)
                if its.any():
                    one.course.told = max(one.course.told, _Mark(int(times_us[its].max()), float(steps[its].max())))
                new |= its
            new &= self._untold(group, steps, times_us, new)
            order = np.lexsort((times_us[new], steps[new]))
            steps, times_us, values = (column[new][order] for column in (steps, times_us, values))
            latest = np.append(steps[1:] != steps[:-1], [True] * min(len(steps), 1)).astype(bool)
            for target in self._seen_at(group):
                here = latest & (steps > target.after) & (steps <= target.upto)
                if here.any():
                    name, view = self._names[group.metric], target.view
                    columns = (column[here] for column in (steps, values, times_us))
                    found.append(NewPoints(view.run_id, view.branch, name, group.rank, *columns))
        return found

    def _untold(
        self, group: _Group, steps: NDArray[np.float64], times_us: NDArray[np.int64], some: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Which were not told yet, of those at `some`; they count as told from here on."""
        seen, before = self._seen[group], self._seen_before.get(group, set())
        result = np.zeros(len(steps), bool)
        for place in np.flatnonzero(some).tolist():
            pair = (float(steps[place]), int(times_us[place]))
            if pair not in seen and pair not in before:
                seen.add(pair)
                result[place] = True
        return result


def _group(row: Mapping[str, Any]) -> _Group:
    return _Group(row["run"], row["metric"], row["rank"])


def _groups(points: pa.Table) -> Iterable[tuple[_Group, NDArray[np.intp]]]:
    """The places of each series' rows."""
    if not points.num_rows:
        return
    columns = [points[name].to_numpy() for name in ("run", "metric", "rank")]
    order = np.lexsort(columns[::-1])
    changes = np.zeros(len(order), bool)
    for column in columns:
        ordered = column[order]
        changes[1:] |= ordered[1:] != ordered[:-1]
    for rows in np.split(order, np.flatnonzero(changes)):
        yield _Group(*(int(column[rows[0]]) for column in columns)), rows


def _edge(times_us: NDArray[np.int64]) -> int:
    """Up to which time all is there, of rows by rising times that were cut off."""
    last = int(times_us[-1])
    return last - 1 if int(times_us[0]) < last else last
