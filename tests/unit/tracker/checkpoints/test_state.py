"""Words and checks to states, in columns of cases."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from thalweg_tracker.checkpoints.state import Check, Checkpoint, CheckState, Place, Word, assemble
from thalweg_tracker.model.keys import RunKey

HERE = Place(RunKey(1), 10.0)


def word(shard: int = 0, shards: int = 1, **fields: Any) -> Word:
    """A durable word of time 100."""
    plain: dict[str, Any] = {
        "place": HERE,
        "kind": "full",
        "shard": shard,
        "shards": shards,
        "uri": f"s3://b/run/step/{shard}",
        "is_durable": True,
        "size_bytes": 0,
        "digest": "",
        "staged_us": 0,
        "saved_us": 0,
        "blocked_s": 0.0,
        "time_us": 100,
    }
    return Word(**{**plain, **fields})


def check(state: CheckState, shard: int = 0, **fields: Any) -> Check:
    """A check of that word, of time 100."""
    plain: dict[str, Any] = {
        "place": HERE,
        "kind": "full",
        "shard": shard,
        "uri": f"s3://b/run/step/{shard}",
        "state": state,
        "detail": "",
        "size_bytes": 0,
        "etag": "",
        "version": "",
        "told_us": 100,
        "checked_us": 7,
    }
    return Check(**{**plain, **fields})


def only(words: list[Word], checks: list[Check] | None = None) -> Checkpoint:
    (one,) = assemble(words, checks or [])
    return one


def staged(shard: int = 0, shards: int = 1, **fields: Any) -> Word:
    return word(shard, shards, is_durable=False, **fields)


@pytest.mark.parametrize(
    ("words", "checks", "state", "done"),
    [
        ([word()], [], "complete", 1),
        ([word()], [check("verified")], "verified", 1),
        ([word()], [check("unchecked")], "complete", 1),
        ([word()], [check("missing")], "missing", 1),
        ([word()], [check("changed")], "changed", 1),
        ([word()], [check("deleted")], "deleted", 1),
        ([staged()], [], "staged", 0),
        ([staged()], [check("deleted")], "deleted", 0),
        ([word(0, 2)], [], "incomplete", 1),
        ([word(0, 2)], [check("verified")], "incomplete", 1),
        ([word(0, 2)], [check("missing")], "missing", 1),
        ([word(0, 2), staged(1, 2)], [], "staged", 1),
        ([staged(0, 3), word(1, 3)], [], "staged", 1),
        ([word(0, 2), word(1, 2)], [], "complete", 2),
        ([word(0, 2), word(1, 2)], [check("verified")], "complete", 2),
        ([word(0, 2), word(1, 2)], [check("verified"), check("verified", 1)], "verified", 2),
        ([word(0, 2), word(1, 2)], [check("verified"), check("missing", 1)], "missing", 2),
        ([word(0, 2), word(1, 2)], [check("deleted"), check("missing", 1)], "deleted", 2),
        ([word(0, 2), word(1, 2)], [check("changed"), check("missing", 1)], "missing", 2),
    ],
)
def test_the_state_of_one_kind(words: list[Word], checks: list[Check], state: str, done: int) -> None:
    """Whatever the order in which words and checks come."""
    for order in permutations(words):
        found = only(list(order), checks[::-1])
        assert (found.state, found.kinds[0].shards_done) == (state, done)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, "missing"),
        ({"checked_us": 10_000}, "missing"),  # clocks do not count
        ({"told_us": 99}, "complete"),  # of an earlier word
        ({"told_us": 101}, "complete"),  # of one that is not here
        ({"uri": "s3://b/elsewhere"}, "complete"),
        ({"kind": "model"}, "complete"),
        ({"shard": 1}, "complete"),
        ({"place": Place(RunKey(1), 11.0)}, "complete"),
        ({"place": Place(RunKey(2), 10.0)}, "complete"),
    ],
)
def test_which_checks_count(fields: dict[str, Any], state: str) -> None:
    """Those of this very pointer that are not older than its word."""
    assert only([word()], [check("missing", **fields)]).state == state


def test_the_later_word_stands() -> None:
    """A "staged" that arrives after its "durable" undoes nothing; one that was said later does."""
    assert only([word(time_us=100), staged(time_us=99)]).state == "complete"
    assert only([staged(time_us=99), word(time_us=100)]).state == "complete"
    assert only([word(time_us=100), staged(time_us=101)]).state == "staged"


def test_another_number_of_shards() -> None:
    """A step that is saved again by fewer or more processes: the shards of the latest word count."""
    eight = [word(n, 8, time_us=100) for n in range(8)]
    four = [word(n, 4, time_us=200 + n) for n in range(4)]
    found = only([*eight, *four])
    assert (found.state, found.kinds[0].shards, found.kinds[0].shards_done) == ("complete", 4, 4)
    begun = only([*eight, four[0]])
    assert (begun.state, begun.kinds[0].shards, begun.kinds[0].shards_done) == ("incomplete", 4, 1)


@pytest.mark.parametrize(
    ("kinds", "state"),
    [
        ({"full": "verified", "model": "verified"}, "verified"),
        ({"full": "verified", "model": "unchecked"}, "complete"),
        ({"full": "verified", "model": "missing"}, "missing"),
        ({"full": "changed", "model": "deleted"}, "deleted"),
    ],
)
def test_the_state_of_a_checkpoint(kinds: dict[str, CheckState], state: str) -> None:
    """The worst of its kinds."""
    words = [word(kind=kind) for kind in kinds]
    assert only(words, [check(found, kind=kind) for kind, found in kinds.items()]).state == state
    assert only([*words, staged(kind="optimizer")], []).state == "staged"


def test_one_checkpoint_a_step() -> None:
    """Ordered by run, then step."""
    places = [Place(RunKey(2), 1.0), Place(RunKey(1), 3.0), Place(RunKey(1), -3.0)]
    assert [one.place for one in assemble([word(place=place) for place in places], [])] == sorted(places)
    assert assemble([], [check("missing")]) == []


@pytest.mark.parametrize(
    ("uris", "common"),
    [
        (["s3://b/a", "s3://b/a"], "s3://b/a"),
        (["s3://b/x/0", "s3://b/x/1"], "s3://b/x/"),
        (["s3://b/x10/f", "s3://b/x1/f"], "s3://b/"),
        (["s3://b/x", "s3://c/x"], "s3://"),
        (["s3://b/x", "gs://b/x"], ""),
    ],
)
def test_the_uri_of_a_kind(uris: list[str], common: str) -> None:
    """What its shards have in common, by whole levels."""
    found = only([word(n, len(uris), uri=uri) for n, uri in enumerate(uris)])
    assert found.kinds[0].uri == common


def test_sums_and_times() -> None:
    """Shards are saved side by side, kinds one after the other; a size that was not told may have been found."""
    words = [
        word(0, 2, blocked_s=2.0, size_bytes=5, saved_us=50, staged_us=40),
        word(1, 2, blocked_s=3.0, saved_us=60, time_us=70),
        word(kind="model", blocked_s=1.0, size_bytes=1, digest="sha256:d"),
    ]
    found = only(words, [check("verified", 1, size_bytes=7, told_us=70)])
    assert (found.blocked_s, found.size_bytes, found.created_us) == (4.0, 13, 100)
    full, model = found.kinds
    assert (full.size_bytes, full.saved_us, full.staged_us, full.checked_us, full.digest) == (12, 60, 40, 0, "")
    assert (model.digest, model.saved_us) == ("sha256:d", 0)


def test_the_detail_is_that_of_the_worst() -> None:
    """Of the checks with a word, and where nothing was looked at, how far the saving is."""
    checks = [
        check("unchecked", detail="cannot look"),
        check("missing", 1, detail="gone"),
        check("changed", 2, detail="x"),
    ]
    assert only([word(n, 3) for n in range(3)], checks).detail == "gone"
    assert only([word(0, 3)]).detail == "full: 1 of 3 shards are written"
    assert only([word()]).detail == ""
