"""Parameters are values: whatever they hold, it is what the query sees."""

import math
import struct
from collections.abc import Iterable
from typing import Any

import pytest

from tests.support.engines import NASTY_FLOATS, NASTY_TEXTS
from thalweg_tracker.engine.contract import Engine, Parameters
from thalweg_tracker.errors import EngineError, RejectedError


def bits(numbers: Iterable[Any]) -> list[bytes]:
    return [struct.pack("<d", number) for number in numbers]


def answer(engine: Engine, select: str, parameters: Parameters) -> Any:
    """The only value of the only row."""
    [[value]] = engine.query(f"SELECT {select}", parameters).to_pydict().values()
    return value


def test_texts(engine: Engine) -> None:
    """A text arrives as it is, and is no SQL."""
    assert [answer(engine, "{p:String}", {"p": text}) for text in NASTY_TEXTS] == NASTY_TEXTS


def test_texts_in_arrays(engine: Engine) -> None:
    """Texts in an array arrive as they are."""
    assert answer(engine, "{p:Array(String)}", {"p": NASTY_TEXTS}) == NASTY_TEXTS


def test_floats_bit_by_bit(engine: Engine) -> None:
    """A float keeps each bit, alone and in an array."""
    alone = [answer(engine, "{p:Float64}", {"p": number}) for number in NASTY_FLOATS if not math.isnan(number)]
    assert bits(alone) == bits([number for number in NASTY_FLOATS if not math.isnan(number)])
    assert answer(engine, "isNaN({p:Float64})", {"p": math.nan}) == 1
    together = answer(engine, "arrayMap(x -> reinterpretAsUInt64(x), {p:Array(Float64)})", {"p": NASTY_FLOATS})
    assert together == [struct.unpack("<Q", one)[0] for one in bits(NASTY_FLOATS)]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("UInt8", 255),
        ("UInt64", 2**64 - 1),
        ("Int64", -(2**63)),
        ("Float64", 3),
        ("Bool", True),
        ("Bool", False),
        ("Array(Bool)", [True, False]),
        ("Array(UInt64)", [0, 2**64 - 1]),
        ("Array(UInt64)", (1, 2)),
        ("Array(Int64)", [-(2**63)]),
        ("Array(UInt64)", []),
        ("Array(String)", []),
        ("Array(Float64)", []),
    ],
)
def test_numbers(engine: Engine, kind: str, value: int | list[int]) -> None:
    """A number, a truth value and an array of them arrive as they are."""
    expected = list(value) if isinstance(value, tuple) else value
    assert answer(engine, f"{{p:{kind}}}", {"p": value}) == expected


def test_long_arrays(engine: Engine) -> None:
    """An array may have 100,000 elements."""
    keys = [2**64 - 1 - i for i in range(100_000)]
    selected = engine.query(
        "SELECT length({p:Array(UInt64)}) AS n, arraySum(x -> x % 1000, {p:Array(UInt64)}) AS sum", {"p": keys}
    )
    assert selected.to_pylist() == [{"n": 100_000, "sum": sum(key % 1000 for key in keys)}]


def test_the_same_parameter_twice_and_many_at_once(engine: Engine) -> None:
    """A parameter may be named twice, and one that is not named does no harm."""
    sql = "SELECT {a:String} AS a, {b:UInt64} AS b, {a:String} AS c, length({e:Array(Float64)}) AS n"
    rows = engine.query(sql, {"a": "x", "b": 1, "e": [1.5], "unused": "y"}).to_pylist()
    assert rows == [{"a": "x", "b": 1, "c": "x", "n": 1}]


def test_streams_take_parameters(engine: Engine) -> None:
    """A stream binds parameters as a query does."""
    sql = "SELECT s FROM (SELECT arrayJoin({p:Array(String)}) AS s) WHERE s != {not:String}"
    [batch] = engine.stream(sql, {"p": NASTY_TEXTS, "not": "plain"})
    assert batch["s"].to_pylist() == [text for text in NASTY_TEXTS if text != "plain"]


@pytest.mark.parametrize(
    ("kind", "value"), [("UInt64", "1 OR 1"), ("UInt8", "x"), ("Array(UInt64)", "[1"), ("Float64", "")]
)
def test_a_value_that_is_not_of_its_type(engine: Engine, kind: str, value: str) -> None:
    """A value that its type does not take is refused."""
    with pytest.raises(EngineError):
        engine.query(f"SELECT {{p:{kind}}}", {"p": value})


@pytest.mark.parametrize(("kind", "value"), [("String", "\ud800"), ("Array(String)", ["a", "\udfff"])])
def test_half_a_character(engine: Engine, kind: str, value: str | list[str]) -> None:
    """A text that is no Unicode text is rejected as the caller's fault, and harms nothing."""
    with pytest.raises(RejectedError, match="value of p"):
        engine.query(f"SELECT {{p:{kind}}}", {"p": value})
    with pytest.raises(RejectedError):
        list(engine.stream(f"SELECT {{p:{kind}}}", {"p": value}))
    assert answer(engine, "{p:String}", {"p": "whole"}) == "whole"


def test_a_missing_parameter(engine: Engine) -> None:
    """A parameter without a value is refused, with ClickHouse's number."""
    with pytest.raises(EngineError) as refused:
        engine.query("SELECT {p:UInt64}")
    assert refused.value.code == 456
