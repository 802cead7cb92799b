"""The branches of a project as trees of lines. Pure; quick for ten thousand branches, and for chains of any length.

A run that was rewound stands once, on its first branch; its other branches lie below that in their order, whatever
they continue, so that a training that was restarted a hundred times is a list and no staircase. Forks lie below the
branch that they continue. Of many siblings, and of many levels, the rest is summed up in one line.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from thalweg.cli import formats

SIBLINGS_MAX: Final = 50
Node = Mapping[str, Any]
"""A branch, as GET …/lineage lists it."""
Key = tuple[str, int]
ABSENT: Final = "absent"
"""Kind of a branch that others continue, and that has not come yet."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What the lines of a tree are drawn with."""

    child: str
    last_child: str
    line: str
    gap: str


UNICODE: Final = Marks("├── ", "└── ", "│   ", "    ")
ASCII: Final = Marks("|-- ", "`-- ", "|   ", "    ")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a drawing: a branch, or without `node` the sum of what is not shown, in `text`."""

    prefix: str
    text: str
    node: Node | None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is drawn."""

    siblings: int | None  # None: all
    depth: int  # levels below the roots


class Forest:
    """All branches of a project. A parent that is not there yet is drawn all the same."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        """`nodes`: oldest first, as the API lists them."""
        self.nodes: dict[Key, Node] = {key_of(node): node for node in nodes}
        self._children: dict[Key, list[Key]] = defaultdict(list)
        self._newest: dict[str, int] = {}
        self._roots: list[Key] = []
        self._above: dict[Key, Key] = {}
        for key, node in list(self.nodes.items()):
            self._place(key, node)
        for run_id, branch in self.nodes:
            self._newest[run_id] = max(branch, self._newest.get(run_id, 0))
        self._cut_circles()
        self._sizes = self._count()

    def _place(self, key: Key, node: Node) -> None:
        parent = (node["parent_run_id"], node["parent_branch"])
        if key[1]:
            parent = (key[0], 0)  # with the other branches of its run
        if not parent[0]:
            self._roots.append(key)
            return
        if parent not in self.nodes:
            self.nodes[parent] = _absent(*parent)
            self._place(parent, self.nodes[parent])
        self._children[parent].append(key)
        self._above[key] = parent

    def _cut_circles(self) -> None:
        """Makes roots of what no root leads to: a server may be wrong, but nothing vanishes."""
        reached = set(self._walk(self._roots))
        for key in self.nodes:
            if key not in reached:
                self._children[self._above.pop(key)].remove(key)
                self._roots.append(key)
                reached.update(self._walk([key]))

    def _count(self) -> dict[Key, int]:
        """Branches in the tree below each one, itself included."""
        sizes = dict.fromkeys(self.nodes, 1)
        for key in reversed(list(self._walk(self._roots))):
            above = self._above.get(key)
            if above is not None:
                sizes[above] += sizes[key]
        return sizes

    def _walk(self, roots: Sequence[Key]) -> Iterator[Key]:
        waiting = list(roots)
        while waiting:
            key = waiting.pop()
            yield key
            waiting += self._children.get(key, ())

    def trees(self) -> list[Key]:
        """Roots of more than one branch; that with the newest branch first."""
        age = {key: place for place, key in enumerate(self.nodes)}
        roots = [root for root in self._roots if self._sizes[root] > 1]
        newest = {root: max(age[key] for key in self._walk([root])) for root in roots}
        return sorted(roots, key=newest.__getitem__, reverse=True)

    def singles(self) -> list[Key]:
        """Runs that nothing continues, and that continue nothing, newest first."""
        return [root for root in reversed(self._roots) if self._sizes[root] == 1]

    def size(self, root: Key) -> int:
        """Branches of a tree."""
        return self._sizes[root]

    def level(self, run_id: str) -> int:
        """How far below its root a run is drawn."""
        return len(self._above_all((run_id, 0)))

    def _above_all(self, key: Key) -> list[Key]:
        found = []
        while key in self._above:
            key = self._above[key]
            found.append(key)
        return found

    def tree_of(self, run_id: str) -> Key | None:
        """The root of the tree in which a run is; None where it is not there."""
        key = (run_id, 0)
        if key not in self.nodes:
            return None
        return [key, *self._above_all(key)][-1]

    def known(self, run_id: str | None = None) -> list[Node]:
        """The branches that are there, oldest first: all, or those in the tree of a run."""
        root = None if run_id is None else self.tree_of(run_id)
        among = self.nodes.keys() if root is None else set(self._walk([root]))
        return [node for key, node in self.nodes.items() if key in among and node["kind"] != ABSENT]

    def label(self, node: Node) -> str:
        """How a branch is named: by its run, and where that was rewound, by its number."""
        run_id, branch = key_of(node)
        newest = self._newest.get(run_id, 0)
        if not newest:
            return str(run_id)
        return f"{run_id} (branch {branch}{', newest' if branch == newest else ''})"

    def draw(self, root: Key, limits: Limits, marks: Marks, wanted: str | None = None) -> Iterator[Line]:
        """The lines of one tree. The way to the run `wanted` is not summed up among siblings."""
        way = self._way_to(wanted)
        # below its own line: the prefix of that line, and of those under it
        waiting: list[tuple[Key | str, str, str, int]] = [(root, "", "", 0)]
        while waiting:
            what, prefix, below, depth = waiting.pop()
            if isinstance(what, str):
                yield Line(prefix, what, None)
                continue
            node = self.nodes[what]
            yield Line(prefix, self.label(node), node)
            if depth >= limits.depth:
                parts: list[Key | str] = [text] if (text := self._deeper(what)) else []
            else:
                parts = self._shown(self._children.get(what, []), limits, way)
            for place, part in enumerate(reversed(parts)):
                mark, more = (marks.child, marks.line) if place else (marks.last_child, marks.gap)
                waiting.append((part, below + mark, below + more, depth + 1))

    def _way_to(self, run_id: str | None) -> set[Key]:
        if run_id is None:
            return set()
        return {key for key in self.nodes if key[0] == run_id}.union(self._above_all((run_id, 0)))

    def _shown(self, children: list[Key], limits: Limits, way: set[Key]) -> list[Key | str]:
        """Branches of the run itself by number, then forks by step; and what is left of them in one line."""
        ordered = sorted(children, key=lambda key: (not self._is_rewind(key), self._step(key), key[1]))
        most = limits.siblings
        if most is None or len(ordered) <= most:
            return [*ordered]
        wish = sorted(range(len(ordered)), key=lambda place: self._importance(ordered[place], place, way))
        kept = sorted(wish[:most])
        left = [ordered[place] for place in sorted(wish[most:])]
        return [*(ordered[place] for place in kept), self._sum(left)]

    def _importance(self, key: Key, place: int, way: set[Key]) -> tuple[bool, bool, bool, int]:
        """What is shown first: the way to the wanted run, the newest branches, what goes on below, the lowest steps."""
        if self._is_rewind(key):
            return key not in way, False, False, -key[1]
        return key not in way, True, self._sizes[key] == 1, place

    def _is_rewind(self, key: Key) -> bool:
        return key[1] > 0

    def _step(self, key: Key) -> float:
        if self._is_rewind(key):
            return key[1]
        return _number(self.nodes[key]["fork_step"])

    def _sum(self, keys: Sequence[Key]) -> str:
        rewinds = sum(map(self._is_rewind, keys))
        noun = "rewind" if rewinds == len(keys) else "branch" if rewinds else "fork"
        total = sum(self._sizes[key] for key in keys)
        inside = f" ({_counted(total, 'branch')} with what continues them)" if total > len(keys) else ""
        steps = _range([_number(self.nodes[key]["fork_step"]) for key in keys])
        return f"... and {_counted(len(keys), noun, 'more ')}{inside} {steps}: --all shows them"

    def _deeper(self, key: Key) -> str:
        """What is below the last level that is drawn; empty where nothing is."""
        hidden = self._sizes[key] - 1
        if not hidden:
            return ""
        levels = {key: 0}
        for below in self._walk([key]):
            if below != key:
                levels[below] = levels[self._above[below]] + 1
        depth = max(levels.values())
        return f"... and {_counted(hidden, 'branch', 'more ')} on {_counted(depth, 'level')} below: --depth shows them"


def key_of(node: Node) -> Key:
    """What names a branch within its project."""
    return node["run_id"], node["branch"]


def beginning(node: Node) -> str:
    """How a branch began: "fork at 500", "rewind to 500" of the branch before; empty for a start."""
    if node["kind"] == "fork":
        return f"fork at {formats.step(node['fork_step'])}"
    if node["kind"] != "rewind":
        return "not there yet" if node["kind"] == ABSENT else ""
    if _number(node["fork_step"]) == -math.inf:
        return "rewind to the start"
    is_own = node["parent_run_id"] == node["run_id"]
    if is_own and node["parent_branch"] == node["branch"] - 1:
        return f"rewind to {formats.step(node['fork_step'])}"
    parent = f"branch {node['parent_branch']}" if is_own else str(node["parent_run_id"])
    return f"rewind of {parent} to {formats.step(node['fork_step'])}"


def _absent(run_id: str, branch: int) -> Node:
    empty = dict.fromkeys(("parent_run_id", "parent_branch", "fork_step", "created_at", "metric"))
    return {**empty, "run_id": run_id, "branch": branch, "kind": ABSENT, "name": "", "status": "", "tags": []}


def _number(step: Any) -> float:
    """A step of the API, whose infinities are texts; a rewind to before everything has none."""
    return -math.inf if step is None else float(step)


def _range(steps: Sequence[float]) -> str:
    low, high = min(steps), max(steps)
    if low == high:
        return f"at step {_grouped(low)}"
    return f"at steps {_grouped(low)} to {_grouped(high)}"


def _grouped(step: float) -> str:
    """A step with its thousands apart."""
    text = formats.step(step)
    return f"{int(text):,}" if text.removeprefix("-").isdecimal() else text


def _counted(count: int, noun: str, more: str = "") -> str:
    """`1 more fork`, `2,000 more branches`."""
    plural = "" if count == 1 else "es" if noun.endswith("h") else "s"
    return f"{count:,} {more}{noun}{plural}"
