"""The id of an event: what it says comes back, and what nobody wrote is refused."""

from __future__ import annotations

import pytest

from thalweg_tracker.errors import RejectedError
from thalweg_tracker.model import limits
from thalweg_tracker.query.live_marks import Marks, read_marks


@pytest.mark.parametrize("marks", [Marks(), Marks(7), Marks(0, {1: 2}), Marks(2**62, {2**64 - 1: 2**62, 0: 0})])
def test_marks_come_back(marks: Marks) -> None:
    """An id holds all marks, in characters that a header can have."""
    text = marks.to_text()
    assert read_marks(text) == marks
    assert text.replace("-", "").replace("_", "").isalnum()


def test_a_writer_that_is_not_named() -> None:
    """It has the mark of the rest."""
    marks = Marks(5, {1: 9})
    assert (marks.of(1), marks.of(2)) == (9, 5)


def test_more_writers_than_an_id_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with the latest times are named; the others have the latest of theirs together."""
    monkeypatch.setattr(limits, "LIVE_ID_WRITERS_MAX", 2)
    assert read_marks(Marks(0, {1: 10, 2: 40, 3: 30, 4: 20}).to_text()) == Marks(20, {2: 40, 3: 30})


@pytest.mark.parametrize("text", ["", "?", "é", "AAAA", "A" * 13, "AAAAAAAAAAA", "A" * 20])
def test_an_id_of_nobody(text: str) -> None:
    """Whatever has not the length of an id is refused."""
    if text == "AAAAAAAAAAA":
        assert read_marks(text) == Marks()
        return
    with pytest.raises(RejectedError):
        read_marks(text)
