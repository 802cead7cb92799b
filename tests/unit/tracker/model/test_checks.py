"""Names and attributes, case by case. What the ingest does with them is in ingest/test_decode.py."""

from __future__ import annotations

import pytest

from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.model.checks import attribute_problem, check_attempt, check_label


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        ("a", True),
        ("a b", True),
        ("...", True),
        ("a@5", True),
        ("é" * 5, True),
        ("x" * 10, True),
        ("", False),
        ("é" * 6, False),
        ("x" * 11, False),
        ("a/b", False),
        (".", False),
        ("..", False),
        ("a\n", False),
        ("\0", False),
        ("\u2028", False),
        ("\u00a0", False),
    ],
)
def test_labels(text: str, is_good: bool) -> None:
    """A segment of a URL's path, printable, within its bytes; the code names the field."""
    if is_good:
        check_label("thing", text, 10)
    else:
        with pytest.raises(RejectedError) as caught:
            check_label("thing", text, 10)
        assert caught.value.code == "bad_thing"
        assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("attempt", "is_good"),
    [
        ("a", True),
        ("x" * 256, True),
        ("é" * 128, True),
        ("\n/", True),
        ("", False),
        ("x" * 257, False),
        ("é" * 129, False),
    ],
)
def test_attempts(attempt: str, is_good: bool) -> None:
    """Any text of 1 to 256 bytes."""
    if is_good:
        check_attempt(attempt)
    else:
        with pytest.raises(RejectedError) as caught:
            check_attempt(attempt)
        assert caught.value.code == "bad_attempt"


@pytest.mark.parametrize(
    ("path", "text", "problem"),
    [
        ("config.a", "1", ""),
        ("tags.x", "", ""),
        ("run.name", '"é"', ""),
        ("other.a", "1", "begin with"),
        ("config", "1", "a dot"),
        ("config.a", "{", "not JSON"),
        ("config.a", "[" * 65 + "]" * 65, "deep"),
        ("config." + "x" * 2000, "1", "bytes"),
    ],
)
def test_attributes(path: str, text: str, problem: str) -> None:
    """Said in one line that is short whatever was sent."""
    found = attribute_problem(pb.Attribute(path=path, json=text))
    assert problem in found
    assert bool(found) == bool(problem)
    assert len(found) < 300
