"""Text -> checked tree, as each place of the API wants it. Pure.

Custom metrics are put in their places. Spans of the result lie in the text that was asked, also those of what a custom
metric holds: they are its name's.
"""

from __future__ import annotations

from collections.abc import Mapping

from thalweg_tracker.errors import ExpressionError
from thalweg_tracker.expressions import kinds
from thalweg_tracker.expressions.checker import Checker
from thalweg_tracker.expressions.names import metric_names
from thalweg_tracker.expressions.syntax import parse
from thalweg_tracker.expressions.tree import SERIES_KINDS, Kind, Node


def check(text: str, custom: Mapping[str, str] | None = None) -> Node:
    """The checked tree of an expression of any kind. `custom`: the project's custom metrics. Raises ExpressionError."""
    return Checker(text, custom or {}).run()


def check_definition(name: str, text: str, custom: Mapping[str, str] | None = None) -> Node:
    """The same of the text that is to be the custom metric `name`: inside, the name is the logged metric."""
    return Checker(text, {**(custom or {}), name: text}, stack=(name,)).run()


def check_filter(text: str, custom: Mapping[str, str] | None = None) -> Node:
    """The same where one bool a run is wanted. Raises ExpressionError, with the fix for a series or a number."""
    node = check(text, custom)
    if node.kind is Kind.BOOL_SERIES:
        fix = kinds.of_one_value(node, text)
        message = "a filter is one bool a run, and this has a value at each step; take one value of each series"
        raise ExpressionError(message, node.span, fix, text)
    return kinds.fit(node, {Kind.BOOL}, "a filter is true or false for a run", text)


def check_series(text: str, custom: Mapping[str, str] | None = None) -> Node:
    """The same where a value at each step is wanted. Raises ExpressionError."""
    node = check(text, custom)
    if node.is_series:
        return node
    message = f"a series is wanted, and this is {kinds.NAMES[node.kind]}, one value a run"
    if node.op == "text":
        return kinds.fit(node, SERIES_KINDS, "a series is wanted", text)
    raise ExpressionError(f"{message}; ask for it as a column of runs/query", node.span, text=text)


def check_column(text: str, custom: Mapping[str, str] | None = None) -> Node:
    """The same where one value a run is wanted. Raises ExpressionError, with the fix for a series."""
    node = check(text, custom)
    if node.is_series:
        message = "a column has one value a run, and this has one at each step; take one of them"
        raise ExpressionError(message, node.span, kinds.of_one_value(node, text), text)
    return node


def used_custom(text: str, custom: Mapping[str, str], name: str = "") -> list[str]:
    """The custom metrics that an expression uses, also through others, each once, circles or not.

    `name`: of the custom metric whose definition the text is, if it is one. What it costs is bounded for texts that
    were checked.
    """
    found: dict[str, None] = {}
    waiting: list[tuple[str, str]] = [(name, text)]
    while waiting:
        owner, one = waiting.pop(0)
        for used in metric_names(parse(one)):
            if used in custom and used != owner and used not in found:
                found[used] = None
                waiting.append((used, custom[used]))
    return list(found)
