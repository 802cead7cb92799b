"""What is read along a lineage is what a naive copy holds: a fork that has copied the points it inherits.

Random trees of runs with random fork steps and rewinds, and random points, through the real ingest rows and queries.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, note, settings
from hypothesis import strategies as st

from tests.support import wire
from tests.support.engines import opened
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.ingest.assemble import assemble
from thalweg_tracker.ingest.decode import StreamDecoder, decode_hello
from thalweg_tracker.ingest.events import WriterNews, writer_rows
from thalweg_tracker.ingest.registry import Registry
from thalweg_tracker.lineage import chain, tree
from thalweg_tracker.model.settings import EmbeddedStore
from thalweg_tracker.query.lineage import RunRef, RunView, find_views
from thalweg_tracker.query.metrics import OF_BRANCH, list_metrics, metric_of_branches
from thalweg_tracker.query.runs import last_step
from thalweg_tracker.query.series import SeriesRequest, read_series, stream_series, with_names
from thalweg_tracker.runs.store import write_branches

NAMES = ["m", "n", "system/s"]
STEPS = st.one_of(st.integers(-3, 12).map(float), st.sampled_from([0.5, 2.25, -1.75, 7.125, 1e9, -1e9]))
VALUES = st.sampled_from([0.0, 1.0, -1.0, 1000.0, -1000.0, 0.25, math.nan, math.inf, -math.inf])
Points = dict[tuple[str, int], dict[float, float]]
"""By (metric, rank), then by step."""
_projects = itertools.count(1)


@dataclass(frozen=True)
class Fork:
    """A new run from one of the branches so far (modulo their number)."""

    of: int
    step: float


@dataclass(frozen=True)
class Rewind:
    """A new branch of the run that one of the branches so far belongs to."""

    of: int
    step: float


@dataclass(frozen=True)
class Log:
    """What one process writes to one of the branches so far; `twice`: its batches come again, marked as resent."""

    to: int
    rank: int
    name: str
    points: tuple[tuple[float, float], ...]
    twice: bool


LOGS = st.builds(
    Log,
    to=st.integers(0, 20),
    rank=st.integers(0, 2),
    name=st.sampled_from(NAMES),
    points=st.lists(st.tuples(STEPS, VALUES), min_size=1, max_size=12).map(tuple),
    twice=st.booleans(),
)
ORDERS = st.one_of(LOGS, LOGS, st.builds(Fork, st.integers(0, 20), STEPS), st.builds(Rewind, st.integers(0, 20), STEPS))
"""The tree grows while its runs are written to: parents go on after they were forked."""
HISTORIES = st.tuples(
    LOGS, st.lists(st.one_of(ORDERS, st.builds(Fork, st.integers(0, 20), STEPS)), min_size=2, max_size=14)
).map(lambda parts: [parts[0], *parts[1]])


@dataclass
class Branch:
    """One branch in the naive world."""

    run_id: str
    number: int
    parent: Branch | None
    step: float
    began_us: int
    own: Points = field(default_factory=lambda: defaultdict(dict))

    @property
    def greeting(self) -> dict[str, Any]:
        """What its writers say of it."""
        if self.number:
            origin = pb.Origin(kind=pb.Origin.REWIND, step=self.step, attempt=f"a{self.number}")
        elif self.parent is None:
            return {"began_us": self.began_us}
        else:
            origin = pb.Origin(
                kind=pb.Origin.FORK,
                parent_run_id=self.parent.run_id,
                parent_branch=self.parent.number,
                step=self.step,
            )
        return {"began_us": self.began_us, "origin": origin}

    def log(self, name: str, rank: int, step: float, value: float) -> None:
        """Takes a point, unless it would rewrite what is inherited."""
        if self.parent is None or step > self.step or name.startswith("system/"):
            self.own[name, rank][step] = value

    def copy(self) -> Points:
        """All that is visible at the end of time: the parent's points up to the fork step, and its own."""
        points: Points = defaultdict(dict)
        if self.parent is not None:
            for (name, rank), inherited in self.parent.copy().items():
                kept = {step: value for step, value in inherited.items() if step <= self.step}
                if kept and not name.startswith("system/"):
                    points[name, rank].update(kept)
        for key, own in self.own.items():
            points[key].update(own)
        return dict(points)


class World:
    """The same history in the engine and in naive copies."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.project = f"tree {next(_projects)}"
        self.registry = Registry(engine)
        self.branches = [Branch("r0", 0, None, -math.inf, wire.START_US)]
        self._times = itertools.count(wire.START_US + 1)
        self._writers = itertools.count(1)
        self._place(self.branches[0], 0)

    def live(self, history: list[Fork | Rewind | Log]) -> None:
        """Everything, one after the other."""
        for order in history:
            if isinstance(order, Log):
                self._log(order)
            elif isinstance(order, Fork):
                parent = self.branches[order.of % len(self.branches)]
                run_id = f"r{len({one.run_id for one in self.branches})}"
                self._begin(Branch(run_id, 0, parent, order.step, next(self._times)))
            else:
                run_id = self.branches[order.of % len(self.branches)].run_id
                newest = [one for one in self.branches if one.run_id == run_id][-1]
                self._begin(Branch(run_id, newest.number + 1, newest, order.step, next(self._times)))

    def _begin(self, branch: Branch) -> None:
        self.branches.append(branch)
        self._place(branch, 0)

    def _place(self, branch: Branch, rank: int) -> StreamDecoder:
        greeting = wire.hello(branch.run_id, next(self._writers), rank, self.project)
        greeting.MergeFrom(pb.Hello(**branch.greeting))
        writer = self.registry.place(decode_hello(greeting), next(self._times))
        assert (writer.run_id, writer.branch) == (branch.run_id, branch.number)
        return StreamDecoder(writer)

    def log_unplaced(self, order: Log) -> None:
        """The same from a writer that began before its branch was known to be a fork: early steps are not refused."""
        self._log(order, lambda decoder: StreamDecoder(replace(decoder.writer, after=-math.inf)))

    def _log(self, order: Log, through: Callable[[StreamDecoder], StreamDecoder] = lambda decoder: decoder) -> None:
        branch = self.branches[order.to % len(self.branches)]
        decoder = through(self._place(branch, order.rank))
        seen: set[float] = set()
        batches = []
        for step, value in order.points:
            batches.append(wire.batch(1, [order.name], [step], [[value]], [next(self._times)], relogged=step in seen))
            seen.add(step)
            branch.log(order.name, order.rank, step, value)
        for again in range(1 + order.twice):
            blocks, news = [], []
            for batch in batches:
                batch.resent = bool(again)
                decoded = decoder.decode(batch)
                self.registry.register_names(self.project, decoder.writer.run, decoded.new_names)
                blocks += decoded.blocks
                news.append(WriterNews(decoder.writer, [], {}, wire.START_US, 0, *decoded.span))
            self.engine.insert("writers", writer_rows(news))
            if blocks:
                rows = assemble(blocks)
                self.engine.insert("points", rows.points)
                self.engine.insert("series_stats_feed", rows.stats)

    def views(self) -> list[RunView]:
        """Of all branches, in their order."""
        return find_views(self.engine, self.project, [RunRef(one.run_id, one.number) for one in self.branches])


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A database for all examples; each has a project of its own."""
    with opened(EmbeddedStore(tmp_path_factory.mktemp("lineage") / "data")) as engine:
        migrate(engine)
        yield engine


SETTINGS = settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # an example takes a second: shrinking one takes an hour
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def mean(values: list[float]) -> float:
    """As floating-point addition has it."""
    return sum(values[1:], values[0]) / len(values)


def same(value: float) -> Any:
    """Equal to it but for rounding; NaN to NaN."""
    return pytest.approx(value, rel=1e-12, abs=1e-9, nan_ok=True)


def by_name(points: Points) -> dict[str, dict[int, dict[float, float]]]:
    """By metric, then rank, then step."""
    found: dict[str, dict[int, dict[float, float]]] = defaultdict(dict)
    for (name, rank), told in points.items():
        found[name][rank] = told
    return found


def mean_over_ranks(ranks: dict[int, dict[float, float]]) -> list[tuple[float, float]]:
    """One metric's series."""
    steps = sorted({step for told in ranks.values() for step in told})
    return [(step, mean([told[step] for _, told in sorted(ranks.items()) if step in told])) for step in steps]


def answer(engine: Engine, request: SeriesRequest) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Rows by (run_id, branch, name, rank). Asserts that the stream says the same."""
    table = read_series(engine, request)
    rows: list[dict[str, Any]] = [] if table is None else with_names(table, request).to_pylist()
    streamed = [with_names(batch, request) for batch in stream_series(engine, request)]
    assert repr([row for batch in streamed for row in batch.to_pylist()]) == repr(rows)
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["run_id"], row["branch"], row["name"], row.get("rank")].append(row)
    return dict(found)


def expected(world: World, low: float, high: float, *, by_rank: bool) -> dict[tuple[Any, ...], Any]:
    """The series of all branches between two steps."""
    wanted = {}
    for branch in world.branches:
        for name, ranks in by_name(branch.copy()).items():
            label = (branch.run_id, branch.number, name)
            series: dict[int | None, list[tuple[float, float]]] = (
                {rank: sorted(told.items()) for rank, told in ranks.items()}
                if by_rank
                else {None: mean_over_ranks(ranks)}
            )
            for rank, pairs in series.items():
                wanted[(*label, rank)] = [pair for pair in pairs if low <= pair[0] <= high]
    return {label: pairs for label, pairs in wanted.items() if pairs}


def check_exact(found: list[dict[str, Any]], wanted: list[tuple[float, float]]) -> None:
    """Every step once, with its value."""
    assert [row["x"] for row in found] == [step for step, _ in wanted]
    assert [row["value"] for row in found] == [same(value) for _, value in wanted]


def check_buckets(found: list[dict[str, Any]], wanted: list[tuple[float, float]], most: int) -> None:
    """Every point is in one bucket, and each bucket says what a loop says."""
    begins = [row["x"] for row in found]
    assert begins == sorted(set(begins))
    assert len(begins) <= most
    assert begins[0] == wanted[0][0]
    for row, end in zip(found, [*begins[1:], math.inf], strict=True):
        inside = [value for step, value in wanted if row["x"] <= step < end]
        numbers = [value for value in inside if not math.isnan(value)]
        assert (row["n"], row["nans"]) == (len(inside), len(inside) - len(numbers))
        assert row["min"] == same(min(numbers, default=math.nan))
        assert row["max"] == same(max(numbers, default=math.nan))
        assert (row["first"], row["last"]) == (same(inside[0]), same(inside[-1]))


@SETTINGS
@given(HISTORIES, st.booleans(), st.sampled_from([None, 1, 3, 1000]), st.none() | STEPS, st.none() | STEPS)
def test_series_are_those_of_a_copy(
    engine: Engine, history: Any, by_rank: bool, points: int | None, from_step: float | None, to_step: float | None
) -> None:
    """Of every branch of the tree at once, and of each by itself: exact or in buckets, by rank or as the mean."""
    world = World(engine)
    world.live(history)
    low = -math.inf if from_step is None else from_step
    high = math.inf if to_step is None else to_step
    wanted = expected(world, low, high, by_rank=by_rank)
    views = world.views()
    for some in (views, *([view] for view in views)):
        found = answer(engine, SeriesRequest(some, NAMES, from_step, to_step, points, by_rank))
        asked = {(view.run_id, view.branch) for view in some}
        assert set(found) == {label for label in wanted if label[:2] in asked}
        for label, rows in found.items():
            note(str(label))
            if points is None:
                check_exact(rows, wanted[label])
            else:
                check_buckets(rows, wanted[label], points)


def known(ranks: dict[int, dict[float, float]]) -> dict[str, Any]:
    """What a loop knows of a metric."""
    every = [(step, value) for told in ranks.values() for step, value in told.items()]
    numbers = [(value, step) for step, value in every if not math.isnan(value)]
    highest = max(step for step, _ in every)
    least = min(numbers, default=(math.nan, math.nan))
    most = max(numbers, key=lambda pair: (pair[0], -pair[1]), default=(math.nan, math.nan))
    return {
        "ranks": len(ranks),
        "first_step": min(step for step, _ in every),
        "last_step": highest,
        "last": same(mean([told[highest] for _, told in sorted(ranks.items()) if highest in told])),
        "min": same(least[0]),
        "argmin": same(least[1]),
        "max": same(most[0]),
        "argmax": same(most[1]),
    }


@SETTINGS
@given(HISTORIES)
@example([Log(0, 0, "m", ((0.0, 0.0),), False), Fork(0, 1.0), Log(1, 0, "system/s", ((0.5, 0.0), (0.5, -1.0)), False)])
def test_metrics_and_last_steps_are_those_of_a_copy(engine: Engine, history: Any) -> None:
    """Of every branch: names, ranks, extremes with their steps, the last value; in the tree those of its own points."""
    world = World(engine)
    world.live(history)
    in_tree = {name: metric_of_branches(engine, world.project, name) for name in NAMES}
    for branch, view in zip(world.branches, world.views(), strict=True):
        note(f"{branch.run_id} branch {branch.number}")
        copy = by_name(branch.copy())
        rows = list_metrics(engine, view, prefix="", pattern="", after="", limit=100)
        assert [row["name"] for row in rows] == sorted(copy)
        for row in rows:
            wanted = known(copy[row["name"]])
            assert {key: row[key] for key in wanted} == wanted, row["name"]
        check_last_step(branch, copy, last_step(engine, view))
        own = by_name(branch.own)
        for name in NAMES:
            told = in_tree[name].get(view.key)
            assert (told is not None) == (name in own)
            if told is not None:
                wanted = {key: value for key, value in known(own[name]).items() if key in OF_BRANCH}
                assert {key: told[key] for key in wanted} == wanted


def check_last_step(branch: Branch, copy: dict[str, dict[int, dict[float, float]]], found: float | None) -> None:
    """The highest that is visible; without own points between that and the fork step, for statistics tell no more."""
    steps = [step for name, ranks in copy.items() if name[:7] != "system/" for told in ranks.values() for step in told]
    own = [step for (name, _), told in branch.own.items() if name[:7] != "system/" for step in told]
    if own or not steps:
        assert found == max(steps, default=None)
    else:
        assert found is not None
        assert max(steps) <= found <= branch.step


def test_early_points_of_a_fork_are_hidden(engine: Engine) -> None:
    """Own points at or before the fork step, which the ingest refuses but where it did not know yet, show nowhere."""
    world = World(engine)
    line = tuple((float(step), float(step)) for step in range(10))
    world.live([Log(0, 0, "m", line, False), Fork(0, 5.0)])
    world.log_unplaced(Log(1, 0, "m", tuple((step, -value) for step, value in line), False))
    rows = engine.query(f"SELECT min(step) AS low FROM points WHERE run = {world.views()[1].key}")
    assert rows["low"].to_pylist() == [0.0]  # they are there
    for points in (None, 100):
        request = SeriesRequest([world.views()[1]], ["m"], points=points)
        (found,) = answer(engine, request).values()
        values = [row["value"] if points is None else row["mean"] for row in found]
        assert values == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, -6.0, -7.0, -8.0, -9.0]


@pytest.mark.parametrize("forks", [127, 128, 129, 150])
def test_long_lineages(engine: Engine, forks: int) -> None:
    """Those that are remembered with their runs, and those that are asked for, are the same."""
    project = f"long {forks}"
    lineage = chain.root(chain.Branch("r0"))
    began = []
    for number in range(1, forks + 1):
        branch = chain.Branch(f"r{number}")
        origin = tree.Origin(branch, "fork", f"r{number - 1}", 0, float(number), "", wire.START_US + number)
        lineage = chain.extend(lineage, float(number), branch)
        began.append((origin, lineage))
    write_branches(engine, project, began, version=1)
    for _ in range(2):
        (view,) = find_views(engine, project, [RunRef(f"r{forks}")])
        assert view.lineage == lineage
        assert [segment.upto for segment in view.segments] == [*map(float, range(1, forks + 1)), math.inf]
