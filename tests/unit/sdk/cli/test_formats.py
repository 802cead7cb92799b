"""How numbers, times and text read."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from thalweg.cli import formats

NOW = datetime(2026, 1, 2, 4, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456789, "0.123457"), (1e-9, "1e-09"), (2.0, "2"), ("NaN", "NaN"), ("-Infinity", "-Infinity"), (None, "")],
)
def test_number(value: float | str | None, text: str) -> None:
    assert formats.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (123456789.0, "123456789"), (0.5, "0.5"), (1e300, "1e+300"), (float("inf"), "inf"), (None, "")],
)
def test_step_keeps_all_its_digits(value: float | None, text: str) -> None:
    assert formats.step(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (59.9, "59s"), (61, "1m 01s"), (3600, "1h 00m"), (90_000, "1d 01h"), (864_000, "10d 00h")],
)
def test_duration(seconds: float, text: str) -> None:
    assert formats.duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 30, "5.0 GiB"), (1 << 53, "8192.0 TiB")]
)
def test_size(value: int, text: str) -> None:
    assert formats.size(value) == text


@pytest.mark.parametrize(
    ("status", "ended_at", "text"),
    [
        ("running", None, "1h 00m"),  # until now
        ("finished", "2026-01-02T03:10:00Z", "10m 00s"),  # until its end
        ("lost", None, "30m 00s"),  # until it was last seen
        ("created", None, ""),  # a fork that nobody trains
    ],
)
def test_run_duration(status: str, ended_at: str | None, text: str) -> None:
    run = {
        "status": status,
        "created_at": "2026-01-02T03:00:00Z",
        "last_seen_at": "2026-01-02T03:30:00Z",
        "ended_at": ended_at,
    }
    assert formats.run_duration(run, NOW) == text


@pytest.mark.parametrize(
    ("span_s", "text"),
    [(0.0, "0s"), (0.0123456, "0.0123s"), (2.5, "2.5s"), (9.999, "10s"), (61, "1m 01s"), (90_000, "1d 01h")],
)
def test_seconds(span_s: float, text: str) -> None:
    assert formats.seconds(span_s) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a b", "a b"), ("\x1b[31m", "\\x1b[31m"), ("a\nb", "a\\nb"), ("ü€", "ü€"), ("\u202e", "\\u202e")],
)
def test_plain_text_cannot_move_the_cursor(text: str, shown: str) -> None:
    assert formats.plain(text) == shown


def test_leaves_have_dotted_paths() -> None:
    tree = {"a": 1, "b": {"c": [1], "d": {"": 2, "e": {}}}}
    assert list(formats.leaves(tree)) == [("a", 1), ("b.c", [1]), ("b.d", 2), ("b.d.e", {})]


@pytest.mark.parametrize(("value", "text"), [(0, "0 points"), (1, "1 point"), (1234567, "1,234,567 points")])
def test_count(value: int, text: str) -> None:
    assert formats.count(value, "point") == text


@pytest.mark.parametrize(("text", "shown"), [("12345", "12345"), ("123456", "1234…")])
def test_shorten(text: str, shown: str) -> None:
    assert formats.shorten(text, 5) == shown
