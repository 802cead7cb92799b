"""Random expressions about random runs: the server answers what the oracle does, over HTTP."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support import wire
from tests.support.engines import opened
from tests.support.expression_runner import Client, is_same_curve, is_same_value
from tests.support.oracle import Oracle
from tests.support.random_expressions import CUSTOM, RUN, numbers, predicates, series
from tests.support.tracker import answering
from tests.support.twice import REMOVED, SECOND_US, Point, Twice
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.expressions.check import check
from thalweg_tracker.model.settings import EmbeddedStore

STEPS = st.one_of(st.integers(-2, 8).map(float), st.integers(0, 5).map(float), st.sampled_from([0.5, 2.5, -1.75, 1e6]))
FINITE = st.sampled_from([0.0, 1.0, -1.0, 2.0, 4.0, 0.25, 0.5, -3.0, 8.0])
VALUES = st.one_of(FINITE, FINITE, FINITE, FINITE, st.sampled_from([math.nan, math.inf, -math.inf]))
NAMES = ["a", "b", "c", "d/e"]
_projects = itertools.count(1)
_moments = itertools.count(1)


@dataclass(frozen=True)
class Log:
    """What one process writes. The seconds are those of each point's time, in any order."""

    to: int
    rank: int
    name: str
    points: tuple[tuple[float, float, int], ...]
    twice: bool


@dataclass(frozen=True)
class Branching:
    """A fork of one of the runs so far, or its rewind."""

    of: int
    step: float
    in_place: bool


LOGS = st.builds(
    Log,
    to=st.integers(0, 9),
    rank=st.sampled_from([0, 0, 0, 1, 2]),
    name=st.sampled_from(NAMES),
    points=st.lists(st.tuples(STEPS, VALUES, st.integers(0, 99)), min_size=1, max_size=9).map(tuple),
    twice=st.booleans(),
)
BRANCHINGS = st.builds(Branching, of=st.integers(0, 9), step=STEPS, in_place=st.sampled_from([False, False, True]))
HISTORIES = st.lists(st.one_of(LOGS, LOGS, LOGS, LOGS, BRANCHINGS), min_size=5, max_size=14)
SETTINGS = settings(
    max_examples=12,
    derandomize=True,  # the same examples everywhere: each asks dozens of expressions
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # an example takes a second: shrinking one takes an hour
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A database for all examples; each has a project of its own."""
    with opened(EmbeddedStore(tmp_path_factory.mktemp("expressions") / "data")) as engine:
        migrate(engine)
        yield engine


@pytest.fixture(scope="module")
def http(engine: Engine) -> Iterator[httpx.Client]:
    """The API over it."""
    with answering(engine) as http:
        yield http


class World:
    """The runs of one example, and who can be asked about them."""

    def __init__(self, engine: Engine, http: httpx.Client, history: list[Log | Branching], custom: str) -> None:
        runs = Twice(engine, f"random {next(_projects)}")
        runs.begin(RUN)
        runs.describe(RUN, {"config.lr": 0.5, "config.flag": True, "tags.t": True})
        for order in history:
            run_id = runs.run_ids[
                order.to % len(runs.run_ids) if isinstance(order, Log) else order.of % len(runs.run_ids)
            ]
            if isinstance(order, Log):
                points = [
                    Point(step, value, wire.START_US + second * SECOND_US + next(_moments))
                    for step, value, second in order.points
                ]
                runs.log(run_id, order.rank, {order.name: points})
                if order.twice:
                    runs.send_again(run_id)
            elif order.in_place:
                runs.rewind(run_id, order.step)
            else:
                child = f"r{len(runs.run_ids)}"
                runs.fork(child, run_id, order.step)
                runs.describe(child, {"config.lr": REMOVED, "config.flag": False})
                runs.end(child, "finished")
        self.run_ids = runs.run_ids
        self.custom = {CUSTOM: custom}
        self.client = Client(http, runs.project)
        self.oracle = Oracle(runs.points(), runs.attributes())
        self._points = runs.points()
        answer = self.client.define(CUSTOM, custom)
        assert answer.status_code == 200, answer.text

    def shown(self, run_id: str) -> str:
        """What is known of a run, for people."""
        of_run = {
            f"{name}/{rank}": " ".join(
                f"{step:g}:{value:g}@{time_us}" for step, (time_us, value) in sorted(points.items())
            )
            for name, ranks in self._points[run_id].items()
            for rank, points in ranks.items()
        }
        return f"{run_id}, f = {self.custom[CUSTOM]}, {of_run}"


@SETTINGS
@given(
    HISTORIES,
    series(1, exact=True, ranks=False),
    st.lists(series(), min_size=6, max_size=6),
    st.lists(series(ranks=False), min_size=4, max_size=4),
    st.tuples(st.none() | STEPS, st.none() | STEPS),
)
def test_series(
    engine: Engine,
    http: httpx.Client,
    history: list[Log | Branching],
    custom: str,
    over_ranks: list[str],
    by_rank: list[str],
    ends: tuple[float | None, float | None],
) -> None:
    """Of every run, over ranks, and each rank for itself; between two steps what the whole series has there."""
    low, high = -math.inf if ends[0] is None else ends[0], math.inf if ends[1] is None else ends[1]
    world = World(engine, http, history, custom)
    wrong = []
    for texts, is_by_rank in ((over_ranks, False), (by_rank, True)):
        between = {"from": ends[0], "to": ends[1]}
        found = world.client.series(list(dict.fromkeys(texts)), world.run_ids, by_rank=is_by_rank, **between)
        for (text, run_id), curves in found.items():
            node = check(text, world.custom)
            ranks: list[int | None] = [*world.oracle.ranks(run_id, node)] if is_by_rank else [None]
            wanted = {rank: world.oracle.series(run_id, node, rank) for rank in ranks}
            wanted = {rank: [point for point in curve if low <= point[0] <= high] for rank, curve in wanted.items()}
            for rank in {*curves, *wanted}:
                scale = world.oracle.scale(run_id, node, rank)
                if not is_same_curve(curves.get(rank, []), wanted.get(rank, []), scale):
                    wrong.append(
                        f"{text}: {curves.get(rank)}, not {wanted.get(rank)} (rank {rank}; {world.shown(run_id)})"
                    )
    assert not wrong, "\n".join(wrong)


@SETTINGS
@given(
    HISTORIES,
    series(1, exact=True, ranks=False),
    st.lists(numbers(), min_size=8, max_size=8),
    st.lists(predicates(), min_size=2, max_size=2),
)
def test_values(
    engine: Engine, http: httpx.Client, history: list[Log | Branching], custom: str, texts: list[str], tests: list[str]
) -> None:
    """Of every run: numbers, bools, and which ones a filter takes."""
    world = World(engine, http, history, custom)
    texts = list(dict.fromkeys([*texts, *tests]))
    found = world.client.values(texts)
    assert {run_id for _, run_id in found} == set(world.run_ids)
    wrong = []
    for (text, run_id), value in found.items():
        node = check(text, world.custom)
        wanted = world.oracle.value(run_id, node)
        if not is_same_value(value, wanted, world.oracle.scale(run_id, node)):
            wrong.append(f"{text}: {value}, not {wanted} ({world.shown(run_id)})")
    for text in tests:
        node = check(text, world.custom)
        taken = {run_id for run_id in world.run_ids if world.oracle.value(run_id, node) is True}
        if set(world.client.matching(text)) != taken:
            wrong.append(f"filter {text}: not {taken}")
    assert not wrong, "\n".join(wrong)
