"""Attributes as nested documents."""

from __future__ import annotations

from typing import Any

import pytest

from thalweg_tracker.query.texts import nest, read_json


@pytest.mark.parametrize(
    ("pairs", "tree"),
    [
        ([], {}),
        ([("config.a", "1")], {"config": {"a": 1}}),
        (
            [("config.a", "1"), ("config.b", "null"), ("env.a", '"x"')],
            {"config": {"a": 1, "b": None}, "env": {"a": "x"}},
        ),
        ([("c.a.b.c", "1"), ("c.a.b.d", "2")], {"c": {"a": {"b": {"c": 1, "d": 2}}}}),
        ([("c.a", "1"), ("c.a.b", "2")], {"c": {"a": {"": 1, "b": 2}}}),
        ([("c.a.b", "2"), ("c.a", "1")], {"c": {"a": {"": 1, "b": 2}}}),
        ([("c.a", '{"b": 1}'), ("c.a.d", "2")], {"c": {"a": {"b": 1, "d": 2}}}),
        ([("c.a", "[1]"), ("c.a.d", "2")], {"c": {"a": {"": [1], "d": 2}}}),
        ([("c.a", "1"), ("c.a.b", "2"), ("c.a.b.c", "3")], {"c": {"a": {"": 1, "b": {"": 2, "c": 3}}}}),
        ([("c.", "1"), ("c..x", "2")], {"c": {"": {"": 1, "x": 2}}}),
    ],
)
def test_paths_become_branches(pairs: list[tuple[str, str]], tree: dict[str, Any]) -> None:
    """Where a path is both a leaf and a branch, nothing is lost: the leaf is at ""."""
    assert nest(dict(pairs)) == tree


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("1e400", "Infinity"),
        ("[-1e400, 1.5]", ["-Infinity", 1.5]),
        ('"\\ud83d\\ude00"', "\N{GRINNING FACE}"),
        ('"\\ud800"', "\ufffd"),
        ('{"a\\udfff": ["\\udc00b"]}', {"a\ufffd": ["\ufffdb"]}),
        ('"\\\\ud800"', "\\ud800"),
        ('"\\u0000"', "\0"),
    ],
)
def test_stored_values_fit_an_answer(text: str, value: Any) -> None:
    """Numbers above a double and halves of surrogate pairs are valid JSON, but no answer can hold them as they are."""
    assert read_json(text) == value
