"""How kinds fit: which one a place wants, what an attribute is taken as, and the fix where they differ. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from thalweg_tracker.errors import ExpressionError
from thalweg_tracker.expressions.mistakes import bare, shown
from thalweg_tracker.expressions.tree import SERIES_KINDS, Kind, Node

NUMERIC: Final = frozenset({Kind.SERIES, Kind.NUMBER})
LOGICAL: Final = frozenset({Kind.BOOL_SERIES, Kind.BOOL})
TEXTUAL: Final = frozenset({Kind.STRING})
SCALAR: Final = frozenset({Kind.NUMBER, Kind.STRING, Kind.BOOL, Kind.ANY})
PLAIN: Final = (Kind.NUMBER, Kind.STRING, Kind.BOOL)

NAMES: Final = {
    Kind.SERIES: "a series",
    Kind.BOOL_SERIES: "a condition on a series",
    Kind.NUMBER: "a number",
    Kind.STRING: "text",
    Kind.BOOL: "a bool",
    Kind.ANY: "an attribute",
}


def family(kind: Kind) -> frozenset[Kind]:
    """The kinds that mix with it; empty for ANY, which mixes with all."""
    return next((one for one in (NUMERIC, LOGICAL, TEXTUAL) if kind in one), frozenset())


def adapt(node: Node, kind: Kind) -> Node:
    """A node of kind ANY taken as that kind, down to its attributes."""
    if node.kind is not Kind.ANY:
        return node
    args = node.args
    if node.op == "if":
        args = (args[0], adapt(args[1], kind), adapt(args[2], kind))
    elif node.op == "default":
        args = (adapt(args[0], kind), adapt(args[1], kind))
    return replace(node, kind=kind, args=args)


def fit(node: Node, wanted: Collection[Kind], place: str, text: str, is_operand: bool = False) -> Node:
    """The node, as one of the wanted kinds. Raises ExpressionError; `place` begins the message: "'and' takes bools"."""
    if node.kind in wanted:
        return node
    if node.kind is Kind.ANY:
        plain = next((one for one in PLAIN if one in wanted), None)
        if plain is not None:
            return adapt(node, plain)
    source = text[slice(*node.span)]
    fix = _fix(node, wanted, source)
    if fix and is_operand and fix.endswith(" != 0"):
        fix = f"({fix})"
    message = f"{place}, and {shown(source)} is {NAMES[node.kind]}"
    if node.op == "text" and not NUMERIC.isdisjoint(wanted):
        message += "; a metric's name stands in backticks"
    raise ExpressionError(message, node.span, fix, text)


def _fix(node: Node, wanted: Collection[Kind], source: str) -> str:
    if node.op == "text":
        return quoted(str(node.value)) if Kind.SERIES in wanted and node.value else ""
    if node.kind in NUMERIC and (Kind.BOOL_SERIES if node.is_series else Kind.BOOL) in wanted:
        return f"{source} != 0"
    if node.kind in LOGICAL and (Kind.SERIES if node.is_series else Kind.NUMBER) in wanted:
        return f"if({bare(source)}, 1, 0)"
    if node.kind is Kind.SERIES and Kind.BOOL in wanted:
        return f"last({bare(source)}) != 0"
    if node.is_series and Kind.NUMBER in wanted:
        return f"last({bare(source)})"
    return ""


def quoted(name: str) -> str:
    """A metric's name as it stands in an expression, in backticks."""
    return f"`{name.replace('`', '``')}`"


def of_one_value(node: Node, text: str) -> str:
    """The fix of a series where one value a run is wanted: each series in it by its last value."""
    begin, end = node.span
    source = text[begin:end]
    if node.kind is Kind.SERIES:
        return f"last({bare(source)})"
    spans: list[tuple[int, int]] = []
    if not _inner_series(node, spans):
        return f"any({bare(source)})"
    for left, right in sorted(spans, reverse=True):
        inner = bare(source[left - begin : right - begin])
        source = f"{source[: left - begin]}last({inner}){source[right - begin :]}"
    return source


def _inner_series(node: Node, spans: list[tuple[int, int]]) -> bool:
    """The places of the greatest series below; False if one has no place of its own, as in a custom metric."""
    for one in node.args:
        if one.is_series and one.span == node.span:
            return False
        if one.kind is Kind.SERIES:
            spans.append(one.span)
        elif one.kind in SERIES_KINDS and not _inner_series(one, spans):
            return False
    return True
