"""Attributes of runs as columns of a query, each of the type that its place in an expression wants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from thalweg_tracker.expressions.binding import Binder
from thalweg_tracker.expressions.tree import Kind, Node
from thalweg_tracker.query.lineage import RunView
from thalweg_tracker.sql import filled, load

_TYPED: Final = {
    Kind.NUMBER: "toFloat64OrNull({0})",
    Kind.STRING: "if(JSONType({0}) = 'String', JSONExtractString({0}), NULL)",
    Kind.BOOL: "multiIf({0} = 'true', toNullable(true), {0} = 'false', toNullable(false), NULL)",
    Kind.ANY: "if({0} IN ('', 'null'), NULL, {0})",
}
_OF_VIEWS: Final = """SELECT way.1 AS view, way.2 AS depth, way.3 AS key, way.4 AS is_own
FROM (SELECT arrayJoin(arrayZip({views}, {depths}, {keys}, {own})) AS way)"""


def attributes_sql(project: str, paths: Sequence[str], lineage: str | None, binder: Binder) -> str:
    """A query with `run`, and j0, j1, ...: the JSON texts at some paths, empty where there is none.

    `lineage`: a query like ways.sql; None: each branch for itself. Tuples are compared: argMax by them is slow.
    """
    said = "(a.time, a.json)" if lineage is None else "((l.depth, a.time), a.json)"
    columns = [
        f"maxIf({said}, a.path = {binder.bind(path, 'String')}).2 AS j{place}" for place, path in enumerate(paths)
    ]
    parts = {"view": "a.key", "lineage": "", "condition": "true"}
    if lineage is not None:
        parts = {
            "view": "l.view",
            "lineage": f"INNER JOIN ({lineage}) AS l ON a.key = l.key",
            "condition": "l.is_own OR startsWith(a.path, 'config.')",
        }
    sql = binder.embed(load("attributes_seen"), {"project": project, "paths": list(paths)})
    return filled(sql, columns=", ".join(columns), **parts)


def lineage_of_views(views: Sequence[tuple[int, RunView]], binder: Binder) -> str:
    """The branches on the way to some views: view, depth, key, is_own."""
    rows = [
        (key, depth, branch_key, one.branch.run_id == view.run_id)
        for key, view in views
        for depth, (branch_key, one) in enumerate(zip(view.keys, view.lineage, strict=True))
    ]
    kinds = ("UInt64", "UInt32", "UInt64", "Bool")
    columns = [binder.bind([row[place] for row in rows], f"Array({kind})") for place, kind in enumerate(kinds)]
    return _OF_VIEWS.format(views=columns[0], depths=columns[1], keys=columns[2], own=columns[3])


def typed(text: str, kind: Kind) -> str:
    """A JSON text as a value of a kind, NULL where it is of another or there is none."""
    return _TYPED[kind].format(f"ifNull({text}, '')")


def attribute_nodes(nodes: Sequence[Node]) -> dict[Node, str]:
    """The attributes among the nodes of some trees, with their paths."""
    found = (node for tree in nodes for node in tree.walk() if node.op == "attribute")
    return {node: str(node.value) for node in found}
