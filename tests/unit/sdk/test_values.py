"""From what users hand to `log()` to names and numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from thalweg.values import check_name, shorten, sort_out, to_number

HUGE = 10**400


class Raising:
    """Its every use raises what no caller expects."""

    def __float__(self) -> float:
        raise KeyError("float")

    def __repr__(self) -> str:
        raise KeyError("repr")


class RaisingItem:
    """As a tensor whose memory is gone."""

    def item(self) -> float:
        raise LookupError("gone")


class RaisingMapping(Mapping[str, float]):
    """A mapping that cannot be read."""

    def __getitem__(self, key: str) -> float:
        raise OSError(key)

    def __iter__(self) -> Iterator[str]:
        yield "a"

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (2.5, 2.5),
        (True, 1.0),
        (-0.0, -0.0),
        (2**60, float(2**60)),
        (Decimal("0.5"), 0.5),
        (Fraction(1, 4), 0.25),
        (np.float32(0.5), 0.5),
        (np.int8(-3), -3.0),
        (np.bool_(True), 1.0),
        (np.array(7.0), 7.0),
        (np.array([7.0]), 7.0),
        (np.array([[7]]), 7.0),
        (math.inf, math.inf),
        (np.float64("-inf"), -math.inf),
        (np.array([1.0, 2.0]), None),
        (np.array([]), None),
        (np.complex64(1 + 2j), None),
        (1j, None),
        ("1.0", None),
        (b"1", None),
        (bytearray(b"1"), None),
        (None, None),
        ([1.0], None),
        (HUGE, None),
        (object(), None),
        (Raising(), None),
        (RaisingItem(), None),
    ],
)
def test_to_number(value: object, number: float | None) -> None:
    """Numbers and one-element arrays are numbers; text, lists and what cannot be converted are not."""
    found = to_number(value)
    assert found == number
    assert str(found) == str(number)  # tells -0.0 from 0.0


def test_nan_is_a_number() -> None:
    """NaN is kept."""
    assert math.isnan(to_number(float("nan")) or 0.0)
    assert math.isnan(to_number(np.float32("nan")) or 0.0)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a", None),
        ("x" * 1024, None),
        ("é" * 512, None),
        ("with space\n", None),
        ("", "0 bytes"),
        ("x" * 1025, "1025 bytes"),
        ("é" * 513, "1026 bytes"),
        ("\udc80", "not valid Unicode"),
        (7, "must be text, not int"),
        (None, "must be text, not NoneType"),
        (("a", "b"), "must be text, not tuple"),
        (Raising(), "must be text, not Raising"),
    ],
)
def test_check_name(name: object, wanted: str | None) -> None:
    """Names are 1 to 1,024 bytes of valid Unicode text."""
    refusal = check_name(name)
    if wanted is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert refusal.reason == "dropped_bad_name"
        assert wanted in refusal.message


@pytest.mark.parametrize(
    ("values", "good", "reasons"),
    [
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": {"b": {"c": 1}, "d": 2}}, {"a/b/c": 1.0, "a/d": 2.0}, []),
        ({"a": {1: 2.0}}, {"a/1": 2.0}, []),
        ({"a": {}}, {}, []),
        ({}, {}, []),
        ({"a": 1, "b": "x", "c": None, 4: 1.0}, {"a": 1.0}, ["bad_value", "bad_value", "bad_name"]),
        ({"a": {"b": "x"}}, {}, ["bad_value"]),
        (None, {}, ["bad_value"]),
        (0.5, {}, ["bad_value"]),
        ([1, 2], {}, ["bad_value"]),
        ({"a", "b"}, {}, ["bad_value"]),
        ("loss", {}, ["bad_value"]),
        (RaisingMapping(), {}, ["bad_value"]),
    ],
)
def test_sort_out(values: Any, good: dict[str, float], reasons: list[str]) -> None:
    """Nested mappings are flattened; each bad leaf is refused alone; what is no mapping is refused as a whole."""
    found, refused = sort_out(values)
    assert found == good
    assert [refusal.reason.removeprefix("dropped_") for refusal in refused] == reasons


def test_mapping_that_contains_itself() -> None:
    """A mapping without end is refused, not followed for ever."""
    endless: dict[str, Any] = {}
    endless["a"] = endless
    assert [refusal.reason for refusal in sort_out(endless)[1]] == ["dropped_bad_value"]


@pytest.mark.parametrize(
    ("value", "text"),
    [("x", "'x'"), ("x" * 100, "'" + "x" * 56 + "..."), (Raising(), "<Raising whose repr raised KeyError>")],
)
def test_shorten(value: object, text: str) -> None:
    """A message never fails for a value's repr, and stays short."""
    assert shorten(value) == text
