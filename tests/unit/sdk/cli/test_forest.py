"""Which lines a tree of branches has. Pure."""

from __future__ import annotations

from typing import Any

import pytest

from thalweg.cli.forest import ASCII, UNICODE, Forest, Limits, Node, beginning

ALL = Limits(siblings=None, depth=100)


def node(run_id: str, branch: int = 0, parent: tuple[str, int] | None = None, step: Any = None, **more: Any) -> Node:
    """A branch as the API lists it."""
    kind = "start" if parent is None else "rewind" if branch else "fork"
    parent_run_id, parent_branch = parent or (None, None)
    usual = {"name": "", "status": "finished", "tags": [], "created_at": "2026-01-02T03:04:05Z", "metric": None}
    named = {"run_id": run_id, "branch": branch, "parent_run_id": parent_run_id, "parent_branch": parent_branch}
    return {**usual, **named, "kind": kind, "fork_step": step, **more}


def drawn(forest: Forest, limits: Limits = ALL, wanted: str | None = None) -> list[str]:
    roots = [*forest.trees(), *forest.singles()]
    return [line.prefix + line.text for root in roots for line in forest.draw(root, limits, ASCII, wanted)]


def test_forks_hang_below_the_branch_that_they_continue_by_step() -> None:
    forest = Forest(
        [
            node("root"),
            node("late", 0, ("root", 0), 20.0),
            node("early", 0, ("root", 0), 10.5),
            node("single"),
            node("child", 0, ("early", 0), 11.0),
        ]
    )
    assert drawn(forest) == [
        "root",
        "|-- early",
        "|   `-- child",
        "`-- late",
        "single",
    ]
    unicode = [line.prefix for line in forest.draw(("root", 0), ALL, UNICODE)]
    assert unicode == ["", "├── ", "│   └── ", "└── "]


def test_branches_of_a_rewound_run_are_a_list_whatever_they_continue() -> None:
    forest = Forest(
        [
            node("r"),
            node("r", 1, ("r", 0), 500.0),
            node("f", 0, ("r", 1), 600.0),
            node("r", 2, ("r", 1), 700.0),
            node("r", 3, ("r", 0), 100.0),
            node("g", 0, ("r", 0), 5.0),
        ]
    )
    assert drawn(forest) == [
        "r (branch 0)",
        "|-- r (branch 1)",
        "|   `-- f",
        "|-- r (branch 2)",
        "|-- r (branch 3, newest)",
        "`-- g",
    ]


def test_a_hundred_restarts_make_no_staircase() -> None:
    forest = Forest([node("r"), *(node("r", n, ("r", n - 1), float(n)) for n in range(1, 101))])
    assert {line.prefix for line in forest.draw(("r", 0), ALL, ASCII)} == {"", "|-- ", "`-- "}
    some = drawn(forest, Limits(siblings=3, depth=9))
    assert some[1:-1] == ["|-- r (branch 98)", "|-- r (branch 99)", "|-- r (branch 100, newest)"]
    assert some[-1] == "`-- ... and 97 more rewinds at steps 1 to 97: --all shows them"


def test_many_siblings_are_summed_up() -> None:
    forest = Forest([node("root"), *(node(f"f{n}", 0, ("root", 0), 10.0 * n) for n in range(1, 1001))])
    some = drawn(forest, Limits(siblings=50, depth=9))
    assert len(some) == 52
    assert some[1:3] == ["|-- f1", "|-- f2"]
    assert some[-1] == "`-- ... and 950 more forks at steps 510 to 10,000: --all shows them"
    assert len(drawn(forest)) == 1001


def test_what_is_wanted_and_what_goes_on_is_not_summed_up() -> None:
    nodes = [node("root"), *(node(f"f{n}", 0, ("root", 0), float(n)) for n in range(100))]
    nodes += [node("g0", 0, ("f90", 0), 200.0), node("root", 1, ("root", 0), 7.0)]
    nodes += [node(f"deep{n}", 0, ("f9", 0), 300.0) for n in range(9)]
    forest = Forest(nodes)
    assert drawn(forest, Limits(siblings=4, depth=1), wanted="f50") == [
        "root (branch 0)",
        "|-- root (branch 1, newest)",
        "|-- f9",
        "|   `-- ... and 9 more branches on 1 level below: --depth shows them",
        "|-- f50",
        "|-- f90",
        "|   `-- ... and 1 more branch on 1 level below: --depth shows them",
        "`-- ... and 97 more forks at steps 0 to 99: --all shows them",
    ]


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([1.0, 2.0, 2.0], "2 more forks at step 2"),
        ([1.0, 2.5, 3e20], "2 more forks at steps 2.5 to 3e+20"),
        ([-3000.0, -2000.0], "1 more fork at step -2,000"),
    ],
)
def test_the_sum_names_its_steps(steps: list[float], told: str) -> None:
    forest = Forest([node("r"), *(node(f"f{n}", 0, ("r", 0), step) for n, step in enumerate(steps))])
    assert drawn(forest, Limits(siblings=1, depth=9))[-1] == f"`-- ... and {told}: --all shows them"


def test_the_sum_counts_what_is_hidden_with_it() -> None:
    forest = Forest(
        [
            node("r"),
            *(node(f"f{n}", 0, ("r", 0), float(n)) for n in range(3)),
            *(node(f"g{n}", 0, (f"f{n}", 0), 9.0) for n in range(3)),
        ]
    )
    assert drawn(forest, Limits(siblings=2, depth=9))[-1] == (
        "`-- ... and 1 more fork (2 branches with what continues them) at step 2: --all shows them"
    )


def test_a_parent_that_has_not_come_yet_is_drawn() -> None:
    """Offline runs arrive in any order."""
    forest = Forest([node("child", 0, ("gone", 2), 3.0)])
    assert drawn(forest) == ["gone (branch 0)", "`-- gone (branch 2, newest)", "    `-- child"]
    assert [one["run_id"] for one in forest.known()] == ["child"]


def test_what_no_root_leads_to_is_drawn_too() -> None:
    forest = Forest([node("a", 0, ("b", 0), 1.0), node("b", 0, ("a", 0), 2.0), node("c")])
    assert sorted(line.strip("`- ") for line in drawn(forest)) == ["a", "b", "c"]
    assert forest.tree_of("b") == forest.tree_of("a")


def test_the_tree_of_a_run() -> None:
    forest = Forest([node("a"), node("x"), node("b", 0, ("a", 0), 1.0), node("c", 0, ("b", 0), 1.0)])
    assert (forest.tree_of("c"), forest.level("c"), forest.tree_of("nope")) == (("a", 0), 2, None)
    assert [one["run_id"] for one in forest.known("b")] == ["a", "b", "c"]


def test_trees_and_single_runs_come_newest_first() -> None:
    forest = Forest(
        [node("a"), node("b"), node("s1"), node("s2"), node("b1", 0, ("b", 0), 1.0), node("a1", 0, ("a", 0), 1.0)]
    )
    assert drawn(forest) == ["a", "`-- a1", "b", "`-- b1", "s2", "s1"]


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (node("a"), ""),
        (node("a", 0, ("b", 0), 1e6), "fork at 1000000"),
        (node("a", 2, ("a", 1), 0.5), "rewind to 0.5"),
        (node("a", 3, ("a", 1), 0.5), "rewind of branch 1 to 0.5"),
        (node("a", 2, ("root", 0), 3.0), "rewind of root to 3"),  # to before the fork that it is
        (node("a", 1, ("", 0), "-Infinity"), "rewind to the start"),
    ],
)
def test_beginnings(one: Node, text: str) -> None:
    assert beginning(one) == text


def test_chains_of_any_length_are_walked() -> None:
    """Ten thousand forks of forks: no recursion, and no line is ten thousand levels wide."""
    forest = Forest([node("n0"), *(node(f"n{n}", 0, (f"n{n - 1}", 0), float(n)) for n in range(1, 10_000))])
    some = drawn(forest, Limits(siblings=50, depth=50))
    assert len(some) == 52
    assert some[-1].endswith("`-- ... and 9,949 more branches on 9,949 levels below: --depth shows them")
