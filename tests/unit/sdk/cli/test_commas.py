"""Lists between commas."""

from __future__ import annotations

import pytest

from thalweg.cli.commas import split_all, split_commas


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ["a"]),
        (" a , b ", ["a", "b"]),
        ("a,,b,", ["a", "b"]),
        ("", []),
        ("ema(loss, 0.9),b", ["ema(loss, 0.9)", "b"]),
        ("f((a, b), c), d", ["f((a, b), c)", "d"]),
        ("`a,b`,c", ["`a,b`", "c"]),
        ("`a``,b`,c", ["`a``,b`", "c"]),  # a doubled backtick is a backtick
        ('metric("a,\\",b"),c', ['metric("a,\\",b")', "c"]),
        ("contains(run.name, ')'),c", ["contains(run.name, ')')", "c"]),
        ("a),b", ["a)", "b"]),  # wrong: the server says so
        ("f(a,b", ["f(a,b"]),
        ('"a\\', ['"a\\']),
    ],
)
def test_commas_inside_an_expression_separate_nothing(text: str, parts: list[str]) -> None:
    """Brackets, strings and backticks hold together."""
    assert split_commas(text) == parts


def test_an_option_may_be_repeated_too() -> None:
    """In the order of the command line."""
    assert split_all(["a,b", "c"]) == ["a", "b", "c"]
