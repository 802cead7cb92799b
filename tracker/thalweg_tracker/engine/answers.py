"""Arrow types of answers, alike for both engines. Pure."""

from __future__ import annotations

from typing import TypeVar

import pyarrow as pa

Answer = TypeVar("Answer", pa.Table, pa.RecordBatch)


def nullable(answer: Answer) -> Answer:
    """The same data, without `not null`: chDB says so of its columns, the driver never does."""
    fields = [(field.name, _nullable(field.type)) for field in answer.schema]
    return answer.cast(pa.schema(fields))  # copies no values


def _nullable(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_nullable(kind.value_type))
    if pa.types.is_map(kind):
        return pa.map_(kind.key_type, _nullable(kind.item_type))
    return kind
