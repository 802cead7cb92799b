"""Answers of both engines have the same Arrow types."""

import pyarrow as pa

from thalweg_tracker.engine.answers import nullable


def test_not_null_is_left_out_at_every_depth() -> None:
    """`not null` of fields, list items and map values goes away; names, order and values stay."""
    strict = pa.schema(
        [
            pa.field("a", pa.uint64(), nullable=False),
            pa.field("l", pa.list_(pa.field("item", pa.list_(pa.field("item", pa.float64(), nullable=False))))),
            pa.field("m", pa.map_(pa.string(), pa.field("value", pa.uint64(), nullable=False)), nullable=False),
        ]
    )
    plain = pa.schema(
        [
            ("a", pa.uint64()),
            ("l", pa.list_(pa.list_(pa.float64()))),
            ("m", pa.map_(pa.string(), pa.uint64())),
        ]
    )
    table = pa.Table.from_pylist([{"a": 1, "l": [[0.5]], "m": [("k", 2)]}], schema=strict)
    for answer in (table, table.to_batches()[0], strict.empty_table()):
        assert nullable(answer).schema.equals(plain, check_metadata=True)
        assert nullable(answer).to_pylist() == answer.to_pylist()
