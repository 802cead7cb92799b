"""Checkpoints that a framework overwrites and deletes: what is said of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runs import logged, recorded_run
from thalweg.integrations.saved_paths import SavedPaths
from thalweg.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """An offline run."""
    with recorded_run(tmp_path / "spool") as one:
        yield one


def save(saved: SavedPaths, place: Path | str, step: float, *, content: str | None = "state") -> None:
    """What a framework does: writes (None: later) and tells."""
    if content is not None and isinstance(place, Path):
        place.write_text(content)
        os.utime(place, ns=(0, int(step) * 1000))  # as if time went on
    saved.record(str(place), step=step, kind="full", metrics={}, metadata={})


def said(tmp_path: Path) -> list[tuple[float, str, str]]:
    """Step, state and name of each word."""
    events = [event["checkpoint"] for event in logged(tmp_path / "spool").events if event["kind"] == "checkpoint"]
    return [(word["step"], word["state"], word["uri"].rstrip("/").rpartition("/")[2]) for word in events]


def test_a_file_is_said_once(run: Run, tmp_path: Path) -> None:
    """Looking again at what is unchanged says nothing."""
    saved = SavedPaths(run, upload=False)
    save(saved, tmp_path / "a", 1)
    saved.settle()
    saved.settle()
    assert said(tmp_path) == [(1, "durable", "a")]


def test_the_first_place_of_a_step_stands(run: Run, tmp_path: Path) -> None:
    """The best and the last of one step: the best is said; the last, which moves on, when the best is deleted."""
    saved = SavedPaths(run, upload=False)
    save(saved, tmp_path / "best", 1)
    save(saved, tmp_path / "last", 1)
    assert said(tmp_path) == [(1, "durable", "best")]
    (tmp_path / "best").unlink()
    saved.settle()
    assert said(tmp_path)[1:] == [(1, "durable", "last")]
    save(saved, tmp_path / "last", 2)
    assert said(tmp_path)[2:] == [(1, "staged", "last"), (2, "durable", "last")]


def test_what_is_deleted_is_taken_back(run: Run, tmp_path: Path) -> None:
    """A checkpoint whose only file is gone is staged again, once."""
    saved = SavedPaths(run, upload=False)
    save(saved, tmp_path / "a", 1)
    (tmp_path / "a").unlink()
    save(saved, tmp_path / "b", 2)
    saved.settle()
    assert said(tmp_path) == [(1, "durable", "a"), (1, "staged", "a"), (2, "durable", "b")]


def test_what_is_not_written_yet_is_staged(run: Run, tmp_path: Path) -> None:
    """A file that comes later, also in place of an older one, is durable when it is there."""
    saved = SavedPaths(run, upload=False)
    save(saved, tmp_path / "a", 1, content=None)
    assert said(tmp_path) == [(1, "staged", "a")]
    (tmp_path / "a").write_text("state")
    saved.settle()
    assert said(tmp_path)[1:] == [(1, "durable", "a")]
    save(saved, tmp_path / "a", 2, content=None)
    assert said(tmp_path)[2:] == [(1, "staged", "a"), (2, "staged", "a")]
    (tmp_path / "a").write_text("another")
    saved.settle()
    assert said(tmp_path)[4:] == [(2, "durable", "a")]


def test_folders_and_addresses(run: Run, tmp_path: Path) -> None:
    """A folder that is written again, and what lies elsewhere, count as written at once."""
    saved = SavedPaths(run, upload=False)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("state")
    save(saved, tmp_path / "folder", 1, content=None)
    (tmp_path / "folder" / "more").write_text("of another rank")
    save(saved, tmp_path / "folder", 2, content=None)
    save(saved, "s3://bucket/last", 2)
    save(saved, "s3://bucket/last", 3)
    assert said(tmp_path) == [
        (1, "durable", "folder"),
        (1, "staged", "folder"),
        (2, "durable", "folder"),
        (3, "durable", "last"),
    ]


def test_an_upload_that_does_not_succeed_is_not_repeated(run: Run, tmp_path: Path) -> None:
    """Offline nothing can be uploaded: the local place is said, once, and taken back when it is deleted."""
    saved = SavedPaths(run, upload=True)
    save(saved, tmp_path / "a", 1)
    saved.settle()
    assert said(tmp_path) == [(1, "durable", "a")]
    (tmp_path / "a").unlink()
    saved.settle()
    assert said(tmp_path)[1:] == [(1, "staged", "a")]
