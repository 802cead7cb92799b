"""The lineage of a branch: the way from the root to it, with the last step that is visible of each on the way.

A's own points with `step <= upto(A)` are seen, where `upto` is the smallest step at which anything on the way from A on
was forked. Of A itself only points after its own fork step are there, so the ranges adjoin: `upto` never falls along
a lineage, and A contributes the steps from the `upto` before it (excluded) to its own (included). Where both are
equal it contributes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thalweg_tracker.model.keys import RunKey, run_key


@dataclass(frozen=True, slots=True)
class Branch:
    """One branch of a run; a run that was never rewound has branch 0 alone."""

    run_id: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A branch on the way, and the last step that is visible of it: infinity for the branch itself."""

    branch: Branch
    upto: float


Lineage = tuple[Ancestor, ...]
"""From the root to the branch itself; never empty."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Where the points of a range of steps lie: in the own points of `run`, with after < step <= upto."""

    run: RunKey
    run_id: str
    branch: int
    after: float
    upto: float


def root(branch: Branch) -> Lineage:
    """The lineage of a branch that began from nothing."""
    return (Ancestor(branch, math.inf),)


def extend(parent: Lineage, step: float, child: Branch) -> Lineage:
    """The lineage of a branch that continues `parent` after `step`; -inf: after nothing.

    Earlier branches of the child's own run of which nothing is seen are left out, but for the parent itself: a training
    that crashes all day before its next checkpoint must not grow a lineage.
    """
    kept: list[Ancestor] = []
    before = -math.inf
    for one in parent:
        upto = min(one.upto, step)
        if one is parent[-1] or one.branch.run_id != child.run_id or upto > before:
            kept.append(Ancestor(one.branch, upto))
        before = upto
    return (*kept, Ancestor(child, math.inf))


def fork_step(lineage: Lineage) -> float:
    """The step after which the branch's own points begin; -inf for a root."""
    return lineage[-2].upto if len(lineage) > 1 else -math.inf


def segments(project: str, lineage: Lineage) -> tuple[Segment, ...]:
    """Where the points lie, by ascending steps, without empty ranges. The last one is the branch's own."""
    found = []
    after = -math.inf
    for one in lineage:
        if one.upto > after:
            key = run_key(project, one.branch.run_id, one.branch.number)
            found.append(Segment(key, one.branch.run_id, one.branch.number, after, one.upto))
            after = one.upto
    return tuple(found)


def inherit(layers: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Values by path of a branch, from what each on the way set, the root first. An empty value is a removal."""
    merged: dict[str, str] = {}
    for layer in layers:
        merged.update(layer)
    return {path: value for path, value in merged.items() if value}


def changes(layers: Sequence[Mapping[str, str]]) -> list[dict[str, tuple[str, str]]]:
    """What each on the way but the root changed of what it inherited: path -> (before, after), empty where absent."""
    merged: dict[str, str] = {}
    found: list[dict[str, tuple[str, str]]] = []
    for layer in layers:
        different = {path: (merged.get(path, ""), value) for path, value in layer.items()}
        found.append({path: pair for path, pair in different.items() if pair[0] != pair[1]} if found else {})
        merged.update(layer)
    return found
