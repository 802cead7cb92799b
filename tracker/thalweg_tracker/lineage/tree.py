"""The tree of a project's branches, from how each began. Builds lineages, whatever the order in which branches came."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from thalweg_tracker.lineage.chain import Branch, Lineage, extend, root
from thalweg_tracker.model import limits

Kind = Literal["start", "fork", "rewind"]
START: Final[Kind] = "start"


class CycleError(Exception):
    """A branch would be its own ancestor."""


class TooDeepError(Exception):
    """A lineage would have more than LINEAGE_MAX branches."""


@dataclass(frozen=True, slots=True)
class Origin:
    """How a branch began. `parent_branch` None: the newest of that run that had begun before."""

    branch: Branch
    kind: Kind
    parent_run_id: str  # empty for a start
    parent_branch: int | None
    step: float
    attempt: str
    created_us: int


class Tree:
    """Branches by their origins. A branch without one began from nothing."""

    def __init__(self, origins: Iterable[Origin]) -> None:
        self._origins = {origin.branch: origin for origin in origins}
        self._of_run: dict[str, list[Origin]] = {}
        for origin in self._origins.values():
            self._of_run.setdefault(origin.branch.run_id, []).append(origin)
        self._lineages: dict[Branch, Lineage] = {}

    def newest(self, run_id: str, until_us: float = math.inf, below: float = math.inf) -> Branch:
        """The branch of a run that began last, until then; of those at that very time, below a number."""
        began = [
            ((origin.created_us, origin.branch.number), origin.branch)
            for origin in self._of_run.get(run_id, ())
            if origin.branch.number and (origin.created_us, origin.branch.number) < (until_us, below)
        ]
        return max(began, key=lambda pair: pair[0])[1] if began else Branch(run_id)

    def of_attempt(self, run_id: str, attempt: str) -> Origin | None:
        """The newest branch of a run that an attempt began."""
        named = [origin for origin in self._of_run.get(run_id, ()) if attempt and origin.attempt == attempt]
        return max(named, key=lambda origin: (origin.created_us, origin.branch.number), default=None)

    def origin(self, branch: Branch) -> Origin | None:
        """How a branch began, if that is known."""
        return self._origins.get(branch)

    def numbers(self, run_id: str) -> list[int]:
        """Numbers of the branches of a run whose origin is known."""
        return [origin.branch.number for origin in self._of_run.get(run_id, ())]

    def parent(self, origin: Origin) -> Branch | None:
        """The branch that one continues; None for a start."""
        if origin.kind == START:
            return None
        if origin.parent_branch is not None:
            return Branch(origin.parent_run_id, origin.parent_branch)
        below = origin.branch.number if origin.kind == "rewind" else math.inf
        return self.newest(origin.parent_run_id, origin.created_us, below)

    def lineage(self, branch: Branch) -> Lineage:
        """The lineage of a branch, walked once. Raises CycleError, TooDeepError."""
        way: list[Origin] = []
        seen: set[Branch] = set()
        at: Branch | None = branch
        while at is not None and at not in self._lineages:
            if at in seen:
                raise CycleError
            seen.add(at)
            origin = self._origins.get(at)
            above = self.parent(origin) if origin is not None else None
            if origin is None or above is None:
                self._lineages[at] = root(at)
                break
            way.append(origin)
            at = above
        assert at is not None
        lineage = self._lineages[at]
        for origin in reversed(way):
            lineage = extend(lineage, origin.step, origin.branch)
            if len(lineage) > limits.LINEAGE_MAX:
                raise TooDeepError
            self._lineages[origin.branch] = lineage
        return lineage
