"""The tree of branches: newest ones, parents, cycles, depth."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg_tracker.lineage.chain import Branch
from thalweg_tracker.lineage.tree import CycleError, Origin, TooDeepError, Tree
from thalweg_tracker.model import limits


def start(run_id: str, attempt: str = "", at: int = 0) -> Origin:
    """A run from nothing."""
    return Origin(Branch(run_id), "start", "", None, -math.inf, attempt, at)


def fork(run_id: str, parent: str, branch: int | None = 0, step: float = 1.0, at: int = 0) -> Origin:
    """A fork."""
    return Origin(Branch(run_id), "fork", parent, branch, step, "", at)


def rewind(run_id: str, number: int, at: int, attempt: str = "", step: float = 1.0) -> Origin:
    """A rewind of the branch before."""
    return Origin(Branch(run_id, number), "rewind", run_id, None, step, attempt, at)


RUN = [rewind("r", 1, 10, "a"), rewind("r", 3, 20, "b"), rewind("r", 2, 30, "a"), rewind("r", 4, 30, "a")]


@pytest.mark.parametrize(
    ("until_us", "below", "number"),
    [
        (math.inf, math.inf, 4),
        (5, math.inf, 0),
        (10, math.inf, 1),
        (10, 1, 0),
        (19, math.inf, 1),
        (20, math.inf, 3),
        (20, 3, 1),
        (30, math.inf, 4),
        (30, 4, 2),
        (30, 2, 3),
        (31, 0, 4),
    ],
)
def test_the_newest_branch_until_a_time(until_us: float, below: float, number: int) -> None:
    """By time, whatever the numbers; of one time by number; branch 0 has always been there."""
    assert Tree(RUN).newest("r", until_us, below) == Branch("r", number)
    assert Tree([start("r", at=100), *RUN]).newest("r", until_us, below) == Branch("r", number)


@pytest.mark.parametrize(("attempt", "number"), [("a", 4), ("b", 3), ("c", None), ("", None)])
def test_the_newest_branch_of_an_attempt(attempt: str, number: int | None) -> None:
    """A label may have been used again; no label is no attempt."""
    found = Tree(RUN).of_attempt("r", attempt)
    assert (found and found.branch.number) == number


@pytest.mark.parametrize(
    ("origin", "parent"),
    [
        (start("x"), None),
        (fork("x", "r", 3), Branch("r", 3)),
        (fork("x", "r", 9), Branch("r", 9)),
        (fork("x", "r", None, at=5), Branch("r", 0)),
        (fork("x", "r", None, at=10), Branch("r", 1)),
        (fork("x", "r", None, at=99), Branch("r", 4)),
        (fork("x", "unknown", None), Branch("unknown", 0)),
        (RUN[0], Branch("r", 0)),
        (RUN[1], Branch("r", 1)),
        (RUN[2], Branch("r", 3)),
        (RUN[3], Branch("r", 2)),
    ],
)
def test_parents(origin: Origin, parent: Branch | None) -> None:
    """A rewind continues the branch that was the newest before it; a fork the one it names, or the newest then."""
    assert Tree([*RUN, origin]).parent(origin) == parent


def test_unknown_branches_are_roots() -> None:
    """A parent that is not there yet began from nothing, as far as one can tell."""
    lineage = Tree([fork("c", "b", 0, 5), fork("d", "c", 0, 3)]).lineage(Branch("d"))
    assert [(one.branch.run_id, one.upto) for one in lineage] == [("b", 3), ("c", 3), ("d", math.inf)]


@st.composite
def origins(draw: st.DrawFn) -> list[Origin]:
    """A forest of forks and rewinds, parents first."""
    made: list[Origin] = []
    runs = ["r0"]
    for at in range(1, draw(st.integers(1, 12))):
        parent = draw(st.sampled_from(runs))
        step = float(draw(st.integers(-2, 6)))
        if draw(st.booleans()):
            numbers = [one.branch.number for one in made if one.branch.run_id == parent] or [0]
            branch = draw(st.sampled_from([None, *numbers]))
            made.append(fork(f"r{len(runs)}", parent, branch, step, at))
            runs.append(made[-1].branch.run_id)
        else:
            number = 1 + sum(one.branch.run_id == parent and one.kind == "rewind" for one in made)
            made.append(rewind(parent, number, at, f"a{at}", step))
    return made


@given(origins(), st.randoms(use_true_random=False))
def test_lineages_do_not_depend_on_order(made: list[Origin], random: object) -> None:
    """Neither of the rows, nor of the questions; each is its parent's, cut at the step, with itself at the end, and
    without earlier branches of its own run of which nothing is seen.
    """
    shuffled = list(made)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    tree = Tree(shuffled)
    whole = {one.branch: tree.lineage(one.branch) for one in shuffled}
    for one in made:
        assert Tree(made).lineage(one.branch) == whole[one.branch]
        parent = tree.parent(one)
        assert parent is not None
        above = whole.get(parent) or tree.lineage(parent)
        cut = [(ancestor.branch, min(ancestor.upto, one.step)) for ancestor in above]
        seen = {
            branch for (branch, upto), (_, before) in zip(cut, [(None, -math.inf), *cut], strict=False) if upto > before
        }
        kept = [
            (branch, upto)
            for branch, upto in cut
            if branch in seen or branch == parent or branch.run_id != one.branch.run_id
        ]
        found = [(ancestor.branch, ancestor.upto) for ancestor in whole[one.branch]]
        assert found == [*kept, (one.branch, math.inf)]


def test_a_cycle_is_an_error_from_each_of_its_branches() -> None:
    """And from what hangs on it; others are not touched."""
    ring = [fork("a", "c"), fork("b", "a"), fork("c", "b")]
    others = [fork("on", "a"), fork("apart", "root")]
    for rows in itertools.permutations([*ring, *others]):
        tree = Tree(rows)
        for run_id in ("a", "on", "b", "c", "a"):
            with pytest.raises(CycleError):
                tree.lineage(Branch(run_id))
        assert len(tree.lineage(Branch("apart"))) == 2


def test_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lineage has LINEAGE_MAX branches at most, whatever was asked for before."""
    monkeypatch.setattr(limits, "LINEAGE_MAX", 5)
    chain = [fork(f"r{n + 1}", f"r{n}") for n in range(6)]
    for first in (None, "r3", "r4", "r6"):
        tree = Tree(chain)
        if first == "r6":
            with pytest.raises(TooDeepError):
                tree.lineage(Branch("r6"))
        elif first:
            tree.lineage(Branch(first))
        assert len(tree.lineage(Branch("r4"))) == 5
        for run_id in ("r5", "r6"):
            with pytest.raises(TooDeepError):
                tree.lineage(Branch(run_id))


def test_a_long_lineage_is_walked_without_recursion() -> None:
    """To its limit."""
    chain = [fork(f"r{n + 1}", f"r{n}", step=float(n)) for n in range(2000)]
    assert len(Tree(chain).lineage(Branch("r2000"))) == 2001
