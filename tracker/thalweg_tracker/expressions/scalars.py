"""Operators and point-wise functions as SQL: of values of one row, be it a step of a series or a run.

Missing is NULL. In a series every operand has to be there; of runs, `and`, `or` follow SQL: `null or true` is true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from thalweg_tracker.expressions.binding import Binder
from thalweg_tracker.expressions.tree import Kind, Node

_INFIX: Final = {"+", "-", "*", "/", "<", "<=", ">", ">=", "==", "!="}
_CALLS: Final = {
    "**": "pow",
    "floor": "floor",
    "ceil": "ceil",
    "round": "roundBankers",
    "isnan": "isNaN",
    "isinf": "isInfinite",
    "isfinite": "isFinite",
    **{name: name for name in ("abs", "sqrt", "exp", "log", "log2", "log10", "log1p", "tanh", "sigmoid")},
}
_FORMS: Final = {
    "%": "if(isInfinite({1}) AND isFinite({0}), {0}, modulo({0}, {1}))",
    "neg": "(-{0})",
    "not": "(NOT {0})",
    "sign": "if(isNaN({0}), nan, toFloat64(sign({0})))",
    "minimum": "if(isNull({0}) OR isNull({1}), NULL, if(isNaN({0}) OR isNaN({1}), nan, least({0}, {1})))",
    "maximum": "if(isNull({0}) OR isNull({1}), NULL, if(isNaN({0}) OR isNaN({1}), nan, greatest({0}, {1})))",
    "clip": "if(isNull({0}) OR isNull({1}) OR isNull({2}), NULL, if({0} < {1}, {1}, if({0} > {2}, {2}, {0})))",
    "default": "ifNull({0}, {1})",
    "exists": "isNotNull({0})",  # of an attribute; that of a series is a reducer
    "contains": "(position({0}, {1}) > 0)",
    "startswith": "startsWith({0}, {1})",
    "matches": "match({0}, {1})",
    "length": "toFloat64(lengthUTF8({0}))",
}
_ALIKE: Final = """if(isNotNull(toFloat64OrNull({0})) AND isNotNull(toFloat64OrNull({1})),
    toFloat64OrNull({0}) {2} toFloat64OrNull({1}), {0} {2} {1})"""  # 12 is 12.0
POINT_WISE: Final = frozenset({*_INFIX, *_CALLS, *_FORMS, "and", "or", "if"}) - {"default", "exists"}
"""Operators whose value at a step is there where all operands are."""
_LOGIC: Final = {"and": "AND", "or": "OR"}


def scalar_sql(node: Node, binder: Binder, leaves: Mapping[Node, str] | Callable[[Node], str | None]) -> str:
    """The SQL of a tree whose leaves stand in columns. `leaves`: the column of a node, None to go on into it."""
    find = leaves if callable(leaves) else leaves.get
    found = find(node)
    if found is not None:
        return found
    if node.op == "number":
        return binder.number(float(node.value))  # type: ignore[arg-type]  # of this op it is one
    if node.op == "text":
        return binder.bind(node.value, "String")
    if node.op == "boolean":
        return binder.bind(bool(node.value), "Bool")
    args = [scalar_sql(one, binder, find) for one in node.args]
    if node.op in _INFIX:
        operator = {"==": "="}.get(node.op, node.op)
        if all(one.kind is Kind.ANY for one in node.args):
            return _ALIKE.format(*args, operator)
        return f"({args[0]} {operator} {args[1]})"
    if node.op in _LOGIC:
        joined = f"({args[0]} {_LOGIC[node.op]} {args[1]})"
        return f"if({_any_missing(args)}, NULL, {joined})" if node.is_series else joined
    if node.op == "if":
        missing = _any_missing(args if node.is_series else args[:1])
        return f"if({missing}, NULL, if({args[0]}, {args[1]}, {args[2]}))"
    if node.op in _CALLS:
        return f"{_CALLS[node.op]}({', '.join(args)})"
    return _FORMS[node.op].format(*args)


def _any_missing(args: list[str]) -> str:
    return " OR ".join(f"isNull({one})" for one in args)


def as_number(sql: str, kind: Kind) -> str:
    """A value as a float: true is 1."""
    return f"toFloat64({sql})" if kind in (Kind.BOOL, Kind.BOOL_SERIES) else sql
