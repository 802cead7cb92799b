"""Rows of attributes, from the mappings of an order."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from thalweg_tracker.errors import RejectedError
from thalweg_tracker.model.keys import RunKey
from thalweg_tracker.runs.attributes import ATTRIBUTES, as_number, attribute_table

RUN = RunKey(7)


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        ({}, {}),
        ({"config": {}}, {}),
        ({"config": {"a": 1}}, {"config.a": "1"}),
        ({"config": {"a": {"b": None, "c": [1, {}]}}}, {"config.a.b": "null", "config.a.c": "[1, {}]"}),
        ({"config": {"a/b": 1, "c.d": 2}}, {"config.a.b": "1", "config.c.d": "2"}),
        ({"config": {"a": {}}}, {"config.a": "{}"}),
        ({"run.name": "é", "tags.x": True}, {"run.name": '"é"', "tags.x": "true"}),
        ({"config": {"a": "\ud800"}}, {"config.a": '"\\ud800"'}),
        ({"config": {"a": float("1e308"), "b": 10**30}}, {"config.a": "1e+308", "config.b": str(10**30)}),
    ],
)
def test_leaves_become_rows(values: dict[str, Any], stored: dict[str, str]) -> None:
    """A path each, with "/" for ".", and the JSON of its value; numbers beside it."""
    table = attribute_table("p", RUN, values, 5)
    assert table.schema == ATTRIBUTES
    rows = table.to_pylist()
    assert {row["path"]: row["json"] for row in rows} == stored
    assert all((row["project"], row["run"], row["time"].timestamp()) == ("p", 7, 5e-6) for row in rows)


DEEP: Any = json.loads('{"a":' * 900 + "1" + "}" * 900)


@pytest.mark.parametrize(
    "values",
    [
        {"other": {"a": 1}},
        {"config": {"x" * 2000: 1}},
        {"config": {"a": math.nan}},
        {"config": {"a": [math.inf]}},
        {"config": {"\ud800": 1}},
        {"config": DEEP},
        {"config": {"a": [DEEP]}},
        {"config": {"a": "x" * (3 << 20)}},
        {"config": {"good": 1, "": {".".join("p" * 70): 1}}},
    ],
)
def test_bad_attributes_are_refused_before_anything_is_stored(values: dict[str, Any]) -> None:
    """One bad leaf refuses all of them."""
    with pytest.raises(RejectedError) as caught:
        attribute_table("p", RUN, values, 5)
    assert caught.value.code == "bad_attribute"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1.0),
        ("-0.5", -0.5),
        ("1e400", math.inf),
        (str(10**400), math.nan),
        ("true", math.nan),
        ('"1"', math.nan),
        ("[1]", math.nan),
        ("null", math.nan),
        ("", math.nan),
        ("{", math.nan),
    ],
)
def test_numbers_of_attributes(text: str, number: float) -> None:
    """What is no JSON number is NaN."""
    assert as_number(text) == pytest.approx(number, nan_ok=True)
