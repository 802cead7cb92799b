"""Events and counters to rows."""

from __future__ import annotations

import json
import math

import pytest

from tests.support import wire
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.ingest.events import WriterNews, attribute_rows, ended_json, writer_rows
from thalweg_tracker.runs.attributes import as_number

WRITER = wire.writer(wire.hello("r", writer=5, rank=2))
SEEN_US = wire.START_US + 99


def news(*events: pb.Event, **counters: int) -> WriterNews:
    """What a batch said."""
    return WriterNews(WRITER, list(events), counters, SEEN_US)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1.0),
        ("-0.5e3", -500.0),
        ("1e400", math.inf),
        ("1" + "0" * 400, math.nan),
        ("true", math.nan),
        ("null", math.nan),
        ('"1"', math.nan),
        ("[1]", math.nan),
        ("", math.nan),
    ],
)
def test_numbers_of_attributes(text: str, number: float) -> None:
    """A JSON number that fits a double; anything else is NaN."""
    assert as_number(text) == number or math.isnan(as_number(text)) is math.isnan(number) is True


def test_one_row_for_each_attribute() -> None:
    """In the order in which they were set, with the time of their event."""
    rows = attribute_rows(
        [news(wire.attributes(1, config__a="1", config__b=""), wire.started(), wire.attributes(2, tags__t="{}"))]
    )
    told = [(row["path"], row["json"], row["time"].timestamp() * 1e6, row["run"]) for row in rows.to_pylist()]
    assert told == [
        ("config.a", "1", 1.0, WRITER.run),
        ("config.b", "", 1.0, WRITER.run),
        ("tags.t", "{}", 2.0, WRITER.run),
    ]


def test_one_row_a_batch_for_the_writer() -> None:
    """A sign of life without events too; then start and end are left to other rows."""
    rows = writer_rows([news(), news(wire.started(7), wire.ended(pb.WriterEnded.FAILED, 8), logged=3)]).to_pylist()
    assert [(row["rank"], row["writer"], row["primary"], row["pid"]) for row in rows] == [(2, 5, 0, 0), (2, 5, 1, 7)]
    assert [row["ended"] == "" for row in rows] == [True, False]
    assert rows[0]["started_at"].timestamp() == 0
    assert dict(rows[1]["counters"]) == {"logged": 3}


def test_the_later_word_is_the_greater_text() -> None:
    """So that max() over texts takes the latest, at any number of digits."""
    words = [ended_json(wire.ended(pb.WriterEnded.FAILED, time_us)) for time_us in (0, 9, 10, 10**15, 7 * 10**15)]
    assert words == sorted(words)
    assert json.loads(words[0])["outcome"] == "failed"


def test_a_word_keeps_what_is_not_known_apart_from_zero() -> None:
    """Exit code 0 is 0; an exit code that nobody told is null."""
    event = pb.Event(ended=pb.WriterEnded(outcome=pb.WriterEnded.KILLED, signal=9, exception='"\n', traceback="é"))
    word = json.loads(ended_json(event))
    assert (word["exit_code"], word["signal"], word["exception"], word["traceback"]) == (None, 9, '"\n', "é")
