"""Making branches on the real engine: whatever the order and whoever is faster, the stored lineages are the tree's."""

from __future__ import annotations

import itertools
import math
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.engines import opened
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.lineage.chain import Branch
from thalweg_tracker.lineage.tree import Origin, Tree
from thalweg_tracker.model import limits
from thalweg_tracker.model.settings import EmbeddedStore
from thalweg_tracker.query.lineage import RunRef, branch_points, find_views
from thalweg_tracker.runs import branches as branches_module
from thalweg_tracker.runs.branches import Branches
from thalweg_tracker.runs.store import Registered, load_known

T = TypeVar("T")
AT = 1_700_000_000_000_000
_projects = itertools.count(1)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A database for all tests; each takes projects of its own."""
    with opened(EmbeddedStore(tmp_path_factory.mktemp("branches") / "data")) as engine:
        migrate(engine)
        yield engine


@pytest.fixture
def project() -> str:
    """A project that no other test uses."""
    return f"p{next(_projects)}"


def at_once(*works: Callable[[], T]) -> list[T | BaseException]:
    """What each returns or raises, all of them started together."""
    barrier = threading.Barrier(len(works))

    def work(one: Callable[[], T]) -> T:
        barrier.wait()
        return one()

    with ThreadPoolExecutor(len(works)) as pool:
        waiting = [pool.submit(work, one) for one in works]
        return [one.exception() or one.result() for one in waiting]


@dataclass(frozen=True)
class Claim:
    """What is registered. `attempt` empty: a fork."""

    run_id: str
    parent: str
    step: float
    began_us: int
    attempt: str
    names_branch: bool

    def make(self, branches: Branches, project: str) -> Registered:
        """Registers it."""
        if self.attempt:
            return branches.rewind(project, self.run_id, self.step, self.attempt, self.began_us)
        branch = 0 if self.names_branch else None
        return branches.fork(project, self.run_id, self.parent, branch, self.step, self.began_us)


@st.composite
def claims(draw: st.DrawFn) -> list[Claim]:
    """Forks and rewinds of a tree, in the order of their times."""
    made: list[Claim] = []
    runs = ["r0"]
    for number in range(draw(st.integers(2, 9))):
        parent = draw(st.sampled_from(runs))
        step = float(draw(st.integers(-2, 6)))
        if draw(st.booleans()):
            run_id = f"r{len(runs)}"
            runs.append(run_id)
            made.append(Claim(run_id, parent, step, AT + number, "", draw(st.booleans())))
        else:
            made.append(Claim(parent, "", step, AT + number, f"a{number}", False))
    return made


def wanted_lineages(made: Sequence[Claim]) -> dict[str, list[tuple[str, float]]]:
    """By branch, named by its run and attempt."""
    origins = []
    attempts: dict[Branch, str] = {}
    for claim in made:
        number = 1 + sum(
            one.run_id == claim.run_id and bool(one.attempt) for one in made if one.began_us < claim.began_us
        )
        branch = Branch(claim.run_id, number if claim.attempt else 0)
        kind: Any = "rewind" if claim.attempt else "fork"
        parent = claim.parent or claim.run_id
        above = 0 if claim.names_branch else None
        origins.append(Origin(branch, kind, parent, above, claim.step, claim.attempt, claim.began_us))
        attempts[branch] = claim.attempt
    tree = Tree(origins)
    return {
        f"{branch.run_id} {attempt}": [
            (f"{one.branch.run_id} {attempts.get(one.branch, '')}", one.upto) for one in tree.lineage(branch)
        ]
        for branch, attempt in attempts.items()
    }


def stored_lineages(engine: Engine, project: str) -> dict[str, list[tuple[str, float]]]:
    """The same from the database."""
    sql = """SELECT run_id, branch, attempt, lineage_run_id, lineage_branch, lineage_upto
        FROM branches FINAL WHERE has_origin AND project = {project:String}"""
    rows = engine.query(sql, {"project": project}).to_pylist()
    attempts: dict[tuple[str, int], str] = defaultdict(str)
    attempts.update({(row["run_id"], row["branch"]): row["attempt"] for row in rows})
    found = {}
    for row in rows:
        way = zip(row["lineage_run_id"], row["lineage_branch"], row["lineage_upto"], strict=True)
        name = f"{row['run_id']} {row['attempt']}"
        assert name not in found
        found[name] = [(f"{run_id} {attempts[run_id, branch]}", upto) for run_id, branch, upto in way]
    return found


SETTINGS = settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would take too long on a database
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@SETTINGS
@given(claims(), st.randoms(use_true_random=False), st.integers(1, 3))
def test_any_order_of_arrival_gives_the_same_lineages(
    engine: Engine, made: list[Claim], random: Any, servers: int
) -> None:
    """Children before parents, rewinds out of order of time, over several servers, some of them twice."""
    project = f"order {next(_projects)}"
    shuffled = [*made, *made[::3]]
    random.shuffle(shuffled)
    parts = [Branches(engine) for _ in range(servers)]
    for number, claim in enumerate(shuffled):
        claim.make(parts[number % servers], project)
    assert stored_lineages(engine, project) == wanted_lineages(made)
    for name, lineage in wanted_lineages(made).items():
        run_id, _, attempt = name.partition(" ")
        if not attempt:
            (view,) = find_views(engine, project, [RunRef(run_id, 0)])
            assert [one.upto for one in view.lineage] == [upto for _, upto in lineage]


@SETTINGS
@given(claims(), st.randoms(use_true_random=False))
def test_claims_at_once_give_the_same_lineages(engine: Engine, made: list[Claim], random: Any) -> None:
    """From as many threads as there are claims, each its own server: of two at least one mends what both did."""
    project = f"together {next(_projects)}"
    shuffled = list(made)
    random.shuffle(shuffled)
    works = [lambda claim=claim: claim.make(Branches(engine), project) for claim in shuffled]
    assert [one for one in at_once(*works) if isinstance(one, BaseException)] == []
    assert stored_lineages(engine, project) == wanted_lineages(made)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_whoever_closes_a_ring_is_refused(engine: Engine, project: str, order: tuple[int, ...]) -> None:
    """The last of a ring of forks, in any order; the others stay as they are."""
    ring = [("a", "b"), ("b", "c"), ("c", "a")]
    branches = Branches(engine)
    for at in order[:-1]:
        branches.fork(project, *ring[at], 0, 5.0, AT)
    before = stored_lineages(engine, project)
    with pytest.raises(RejectedError) as caught:
        branches.fork(project, *ring[order[-1]], 0, 5.0, AT)
    assert caught.value.code == "cycle"
    assert stored_lineages(engine, project) == before


def test_a_ring_through_rewinds_is_refused(engine: Engine, project: str) -> None:
    """A run cannot be forked from a branch of itself that lies behind other runs."""
    branches = Branches(engine)
    branches.fork(project, "a", "b", None, 5.0, AT)
    branches.rewind(project, "a", 3.0, "x", AT + 1)
    for parent, branch in (("a", 0), ("a", 1), ("a", None)):
        with pytest.raises(RejectedError) as caught:
            branches.fork(project, "b", parent, branch, 5.0, AT + 2)
        assert caught.value.code == "cycle"


def test_a_run_is_no_fork_of_itself(engine: Engine, project: str) -> None:
    """The word for that is rewind."""
    with pytest.raises(RejectedError, match="from itself") as caught:
        Branches(engine).fork(project, "a", "a", None, 5.0, AT)
    assert caught.value.code == "own_fork"


def test_a_lineage_has_a_limit(engine: Engine, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one too many is refused; where a parent came last, what is too deep keeps what it had, and can be read."""
    monkeypatch.setattr(limits, "LINEAGE_MAX", 4)
    branches = Branches(engine)
    for number in range(3):
        branches.fork(project, f"r{number + 1}", f"r{number}", 0, 5.0, AT + number)
    with pytest.raises(RejectedError) as caught:
        branches.fork(project, "r4", "r3", 0, 5.0, AT + 9)
    assert caught.value.code == "too_deep"
    branches.fork(project, "r0", "above", 0, 5.0, AT + 9)
    (deepest,) = find_views(engine, project, [RunRef("r3")])
    assert [one.branch.run_id for one in deepest.lineage] == ["r0", "r1", "r2", "r3"]
    (next_one,) = find_views(engine, project, [RunRef("r2")])
    assert [one.branch.run_id for one in next_one.lineage] == ["above", "r0", "r1", "r2"]


@pytest.mark.parametrize(
    ("again", "is_same"),
    [
        (("root", 0, 5.0), True),
        (("root", None, 5.0), True),
        (("root", 1, 5.0), False),
        (("root", 0, 6.0), False),
        (("other", 0, 5.0), False),
    ],
)
def test_a_fork_made_again_is_the_same(engine: Engine, project: str, again: Any, is_same: bool) -> None:
    """If it says the same; else it is refused, and nothing changes."""
    branches = Branches(engine)
    first = branches.fork(project, "child", "root", 0, 5.0, AT)
    if is_same:
        assert branches.fork(project, "child", *again, AT + 1) == first
    else:
        with pytest.raises(RejectedError) as caught:
            branches.fork(project, "child", *again, AT + 1)
        assert caught.value.code == "run_exists"
    assert find_views(engine, project, [RunRef("child")])[0].lineage == first.lineage


def test_a_run_from_nothing_cannot_become_a_fork(engine: Engine, project: str) -> None:
    """Its history would be covered up."""
    branches = Branches(engine)
    branches.start(project, "named", "a", AT)
    with pytest.raises(RejectedError) as caught:
        branches.fork(project, "named", "root", 0, 5.0, AT + 1)
    assert caught.value.code == "run_exists"


@pytest.mark.parametrize("times", range(5))
def test_of_forks_of_one_name_one_wins(engine: Engine, times: int) -> None:
    """At once, each at another step: one is made, and all others are told."""
    project = f"race {next(_projects)}"
    works = [lambda step=step: Branches(engine).fork(project, "child", "root", 0, float(step), AT) for step in range(8)]
    done = at_once(*works)
    winners = [one for one in done if isinstance(one, Registered)]
    assert {one.code for one in done if isinstance(one, RejectedError)} == {"run_exists"}
    (view,) = find_views(engine, project, [RunRef("child")])
    assert [one.after for one in winners] == [view.fork_step]


@pytest.mark.parametrize("times", range(5))
@pytest.mark.parametrize("attempts", [1, 3, 8])
def test_rewinds_at_once(engine: Engine, attempts: int, times: int) -> None:
    """All of one attempt get one branch, those of different attempts different ones, each behind the one before."""
    project = f"race {next(_projects)}"
    works = [
        lambda number=number: Branches(engine).rewind(
            project, "r", 5.0, f"a{number % attempts}", AT + number % attempts
        )
        for number in range(8)
    ]
    done = at_once(*works)
    found: dict[int, set[int]] = defaultdict(set)
    for number, one in enumerate(done):
        assert isinstance(one, Registered), one
        found[number % attempts].add(one.branch.number)
    assert all(len(numbers) == 1 for numbers in found.values()), found
    assert len({min(numbers) for numbers in found.values()}) == attempts, found
    depths = sorted(len(lineage) for lineage in stored_lineages(engine, project).values())
    assert depths == [min(depth, 3) for depth in range(2, 2 + attempts)]  # those that left nothing to see are skipped


def test_starts_at_once(engine: Engine, project: str) -> None:
    """Processes of one attempt begin one run together."""
    done = at_once(*(lambda: Branches(engine).start(project, "r", "a", AT) for _ in range(8)))
    assert {one.branch for one in done if isinstance(one, Registered)} == {Branch("r")}


def test_a_writer_without_an_origin(engine: Engine, project: str) -> None:
    """Goes to the newest branch that had begun when it did."""
    branches = Branches(engine)
    for number in (1, 2):
        branches.rewind(project, "r", 5.0, f"a{number}", AT + 10 * number)
    for began_us, number in ((0, 0), (AT + 9, 0), (AT + 10, 1), (AT + 19, 1), (AT + 20, 2), (AT + 99, 2)):
        found = load_known(engine, project, ["r"]).continued("r", began_us, None)
        assert (found.branch.number, found.after) == (number, 5.0 if number else -math.inf)
    known = load_known(engine, project, ["r"])
    told = [known.continued("r", AT + 10, number).branch.number for number in (0, 1, 2, 3)]
    assert told == [0, 1, 2, 1]  # where the server said that the run stands, if that is there


def test_branch_points(engine: Engine, project: str) -> None:
    """Where a run's branches are seen up to, by forks, rewinds, and forks of those."""
    branches = Branches(engine)
    branches.rewind(project, "r", 7.0, "a", AT)
    branches.fork(project, "f", "r", 0, 9.0, AT)
    branches.fork(project, "g", "f", 0, 4.0, AT)
    branches.fork(project, "h", "r", 1, 5.0, AT)
    branches.fork(project, "i", "r", 1, 8.0, AT)
    assert branch_points(engine, project, "r") == [(0, 4.0), (0, 5.0), (0, 7.0), (0, 9.0), (1, 5.0), (1, 8.0)]


def lineage_of(engine: Engine, project: str, run_id: str, branch: int | None = None) -> list[tuple[str, int, float]]:
    """What readers are told."""
    (view,) = find_views(engine, project, [RunRef(run_id, branch)])
    return [(one.branch.run_id, one.branch.number, one.upto) for one in view.lineage]


def test_a_fork_written_down_is_the_fork_that_the_server_tells(engine: Engine, project: str) -> None:
    """The first start names no branch of its parent, later ones name the one that they were told."""
    branches = Branches(engine)
    branches.fork(project, "kid", "base", None, 5.0, AT)
    assert branches.fork(project, "kid", "base", 0, 5.0, AT + 1).after == 5.0
    with pytest.raises(RejectedError, match="it is there already"):
        branches.fork(project, "kid", "base", 1, 5.0, AT + 1)


def test_a_repair_looks_again(engine: Engine, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork that is made between its reading and its writing has built on what was wrong."""
    branches = Branches(engine)
    branches.fork(project, "c", "p", 0, 30.0, AT)
    write, late = branches_module.write_branches, []

    def write_late(engine: Engine, project: str, some: Any, version: int) -> None:
        if version > 1 << 62 and not late:  # the first repair
            late.append(branches.fork(project, "d", "c", 0, 20.0, AT))
        write(engine, project, some, version)

    monkeypatch.setattr(branches_module, "write_branches", write_late)
    branches.fork(project, "p", "g", 0, 5.0, AT)
    assert late
    assert lineage_of(engine, project, "c") == [("g", 0, 5.0), ("p", 0, 30.0), ("c", 0, math.inf)]
    assert lineage_of(engine, project, "d") == [("g", 0, 5.0), ("p", 0, 20.0), ("c", 0, 20.0), ("d", 0, math.inf)]


def test_a_late_rewind_does_not_change_one_that_was_told_its_parent(engine: Engine, project: str) -> None:
    """What was seen when the order was given stays; one that was written down takes its place in time."""
    branches = Branches(engine)
    branches.rewind(project, "r", 8.0, "online", AT + 10, parent_branch=0)
    branches.rewind(project, "r", 2.0, "offline", AT)
    assert lineage_of(engine, project, "r", 1) == [("r", 0, 8.0), ("r", 1, math.inf)]
    assert lineage_of(engine, project, "r", 2) == [("r", 0, 2.0), ("r", 2, math.inf)]


def test_a_training_that_crashes_all_day_grows_no_lineage(engine: Engine, project: str) -> None:
    """Branches that left nothing to see are skipped, but for the parent."""
    branches = Branches(engine)
    made = [branches.rewind(project, "r", 5.0, f"a{number}", AT + number) for number in range(20)]
    assert [len(one.lineage) for one in made] == [2, *[3] * 19]
    assert lineage_of(engine, project, "r") == [("r", 0, 5.0), ("r", 19, 5.0), ("r", 20, math.inf)]
    (view,) = find_views(engine, project, [RunRef("r")])
    assert [one.branch for one in view.branches] == list(range(1, 21))
