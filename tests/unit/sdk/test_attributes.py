"""Attributes: paths, leaves, and JSON for whatever users put into a config."""

from __future__ import annotations

import enum
import json
import math
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg import attributes
from thalweg.errors import InputError
from thalweg.wire import limits


class Color(enum.IntEnum):
    """An integer with a name."""

    RED = 3


@dataclass
class Plain:
    """Unknown to JSON."""

    x: int = 1


class Mute:
    """Has no text."""

    def __str__(self) -> str:
        raise LookupError("no text")


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        (("config", "lr"), "config.lr"),
        (("config", "optimizer/lr"), "config.optimizer.lr"),
        (("a.b", "c"), "a.b.c"),
        (("tags", "x" * 1019), "tags." + "x" * 1019),
    ],
)
def test_join(parts: tuple[str, ...], path: str) -> None:
    """Parts are joined by dots; "/" means the same."""
    assert attributes.join(*parts) == path


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        (("config", ""), "empty"),
        (("config", "a..b"), "empty"),
        (("config", "/a"), "empty"),
        (("config", "a."), "empty"),
        (("config", "x" * 1018), "more than 1024 bytes"),
        (("config", "é" * 509), "more than 1024 bytes"),
    ],
)
def test_join_refuses(parts: tuple[str, ...], why: str) -> None:
    """Empty parts and paths over the limit are refused with the reason."""
    with pytest.raises(InputError, match=why):
        attributes.join(*parts)


@pytest.mark.parametrize(
    ("values", "leaves"),
    [
        ({"a": 1}, [(("a",), 1)]),
        ({"a": {"b": {"c": 1}}, "d": 2}, [(("a", "b", "c"), 1), (("d",), 2)]),
        ({"a": {}}, [(("a",), {})]),
        ({1: {True: None}}, [(("1", "True"), None)]),
        ({"a": [{"b": 1}]}, [(("a",), [{"b": 1}])]),
    ],
)
def test_flatten(values: dict[Any, Any], leaves: list[Any]) -> None:
    """Leaves of nested mappings with the keys that lead to them; empty mappings and lists are leaves."""
    assert list(attributes.flatten(values)) == leaves


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, None),
        (True, True),
        (1, 1),
        (2**70, 2**70),
        (0.1, 0.1),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        ("text", "text"),
        ("π", "π"),
        ("\udc80", "\udc80"),
        ((1, [2]), [1, [2]]),
        ({"b", "a"}, ["a", "b"]),
        (Color.RED, 3),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.array(2.5), 2.5),
        (np.float64("nan"), "NaN"),
        (np.array([1, 2]), "[1 2]"),
        (PurePosixPath("/a/b"), "/a/b"),
        (Plain(), "Plain(x=1)"),
        ([{"a": math.nan}], [{"a": "NaN"}]),
        (b"x", "b'x'"),
    ],
)
def test_to_json(value: Any, plain: Any) -> None:
    """Every value becomes JSON: what JSON does not know becomes its text, non-finite numbers their names."""
    assert json.loads(attributes.to_json("config.x", value)) == plain


def endless() -> list[Any]:
    """A list that contains itself."""
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("x" * limits.ATTRIBUTE_JSON_MAX_BYTES, "bytes as JSON"),
        (endless(), "RecursionError"),
        (Mute(), "LookupError"),
        (10**5000, "ValueError"),
    ],
    ids=["too large", "endless", "mute", "too many digits"],
)
def test_to_json_refuses(value: Any, why: str) -> None:
    """What has no JSON within the limit is an InputError that names the path."""
    with pytest.raises(InputError, match=rf"config\.x.*{why}"):
        attributes.to_json("config.x", value)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_json_is_standard(value: Any) -> None:
    """The text is JSON by RFC 8259, without NaN literals, and is UTF-8."""

    def refuse(literal: str) -> None:
        raise AssertionError(literal)

    text = attributes.to_json("config.x", value)
    json.loads(text, parse_constant=refuse)
    text.encode()


@given(st.dictionaries(st.text(min_size=1), st.integers(0, limits.ATTRIBUTE_JSON_MAX_BYTES).map(str), max_size=20))
def test_split_keeps_all(texts: dict[str, str]) -> None:
    """The parts together are the whole, in order."""
    assert {key: text for part in attributes.split(texts) for key, text in part.items()} == texts


def test_split_bounds_each_part() -> None:
    """No part is larger than twice the largest value."""
    texts = {f"config.{index}": "x" * (1 << 20) for index in range(40)}
    parts = list(attributes.split(texts))
    assert len(parts) > 10
    assert all(sum(map(len, part.values())) <= 2 * limits.ATTRIBUTE_JSON_MAX_BYTES for part in parts)
