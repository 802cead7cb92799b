"""Answers as bytes: numbers, columns, series, Arrow, cursors."""

from __future__ import annotations

import base64
import io
import json
import math

import numpy as np
import pyarrow as pa
import pytest

from thalweg_tracker.api.encode import arrow_bytes, from_cursor, json_column, json_number, series_json, to_cursor
from thalweg_tracker.errors import RejectedError


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1.5, 1.5),
        (-0.0, -0.0),
        (5e-324, 5e-324),
        (math.nan, "NaN"),
        (-math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ],
)
def test_numbers(value: float, told: float | str) -> None:
    """What JSON has no number for is a text that float() reads."""
    assert json_number(value) == told
    assert str(float(json_number(value))) == str(abs(value) if math.isnan(value) else value)


@pytest.mark.parametrize("values", [[], [1.0, 2.0], [math.nan], [1.0, math.inf, -math.inf]])
def test_columns(values: list[float]) -> None:
    """Every value by itself, in its order."""
    assert list(json_column(np.array(values))) == [json_number(value) for value in values]


def labels(*texts: str) -> pa.DictionaryArray:
    """A column as the query makes it."""
    return pa.array(texts, pa.string()).dictionary_encode()


def test_series_are_cut_where_a_label_changes() -> None:
    """Also across chunks whose dictionaries differ; series come in the order asked for."""
    schema = pa.schema(
        [
            ("run_id", pa.dictionary(pa.int32(), pa.string())),
            ("branch", pa.uint32()),
            ("name", pa.dictionary(pa.int32(), pa.string())),
            ("rank", pa.uint16()),
            ("x", pa.float64()),
            ("value", pa.float64()),
            ("time", pa.timestamp("us", "UTC")),
        ]
    )
    chunks = [
        (labels("r", "r"), [0, 0], labels("a", "a"), [0, 0], [1.0, 2.0], [1.0, 2.0], [1, 2]),
        (
            labels("r", "r", "q", "q"),
            [0, 0, 0, 3],
            labels("a", "b", "b", "b"),
            [1, 1, 1, 1],
            [1.0, 1.0, 1.0, 1.0],
            [3.0, math.nan, 5.0, 6.0],
            [3, 4, 5, 6],
        ),
    ]
    batches = []
    for chunk in chunks:
        pairs = zip(chunk, schema, strict=True)
        columns = [one if isinstance(one, pa.Array) else pa.array(one, field.type) for one, field in pairs]
        batches.append(pa.record_batch(columns, schema=schema))
    order = {("q", 3, "b"): 0, ("q", 0, "b"): 1, ("r", 0, "b"): 2, ("r", 0, "a"): 3}
    table = pa.Table.from_batches(batches)
    found = json.loads(series_json(table, order, with_time=True))["series"]
    assert found == [
        {"run_id": "q", "branch": 3, "name": "b", "rank": 1, "x": [1.0], "value": [6.0], "time": [6]},
        {"run_id": "q", "branch": 0, "name": "b", "rank": 1, "x": [1.0], "value": [5.0], "time": [5]},
        {"run_id": "r", "branch": 0, "name": "b", "rank": 1, "x": [1.0], "value": ["NaN"], "time": [4]},
        {"run_id": "r", "branch": 0, "name": "a", "rank": 0, "x": [1.0, 2.0], "value": [1.0, 2.0], "time": [1, 2]},
        {"run_id": "r", "branch": 0, "name": "a", "rank": 1, "x": [1.0], "value": [3.0], "time": [3]},
    ]
    bare = json.loads(series_json(table, order, with_time=False))["series"]
    assert bare == [{key: value for key, value in one.items() if key != "time"} for one in found]


@pytest.mark.parametrize(
    "table", [None, pa.table({"run_id": labels(), "name": labels(), "x": pa.array([], pa.float64())})]
)
def test_no_rows_are_no_series(table: pa.Table | None) -> None:
    """An empty list."""
    assert json.loads(series_json(table, {}, with_time=False)) == {"series": []}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_arrow_pieces_are_one_stream(count: int) -> None:
    """The schema is there without a single batch."""
    schema = pa.schema([("name", pa.dictionary(pa.int32(), pa.string())), ("x", pa.float64())])
    batches = [pa.record_batch([labels("a", "b"), pa.array([1.0, float(n)])], schema=schema) for n in range(count)]
    pieces = list(arrow_bytes(iter(batches), schema))
    assert all(pieces)
    with pa.ipc.open_stream(io.BytesIO(b"".join(pieces))) as reader:
        assert reader.read_all() == pa.Table.from_batches(batches, schema)


@pytest.mark.parametrize("place", [("",), ("é\0'\U0001f4a9",), (0, "a"), (-(2**63), ""), (2**63 - 1, "x" * 1000)])
def test_a_cursor_names_its_place(place: tuple[str | int, ...]) -> None:
    """Whatever the names hold; its text needs no quoting in a URL."""
    cursor = to_cursor(*place)
    assert from_cursor(cursor, tuple(map(type, place))) == place
    assert cursor.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"{}",
        b'"a"',
        b"[]",
        b'["a"]',
        b'[1, "a", 2]',
        b'["a", 1]',
        b'[true, "a"]',
        b'[1.0, "a"]',
        b'[9223372036854775808, "a"]',
        b'[-9223372036854775809, "a"]',
        b'[1, "\\ud800"]',
        b"\xff",
        b"[" * 3000,
    ],
)
def test_a_cursor_that_is_none_is_refused(content: bytes) -> None:
    """Wrong types, wrong number, numbers and texts that the database cannot take."""
    cursor = base64.urlsafe_b64encode(content).decode().rstrip("=")
    with pytest.raises(RejectedError) as caught:
        from_cursor(cursor, (int, str))
    assert caught.value.code == "bad_cursor"
