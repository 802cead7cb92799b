"""`thalweg sync` as a command: folders, words, exit status. What it delivers is in test_sweep.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.sdk.cli.conftest import Command
from tests.unit.sdk.cli.spools import make_folder
from thalweg.sender import delivery
from thalweg.spool import layout


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once."""
    monkeypatch.setattr(delivery.policy, "next_delay_ms", lambda attempt, random: 0)


@pytest.mark.parametrize("exists", [True, False])
def test_nothing_to_do_is_said(thalweg: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool) -> None:
    spool = tmp_path if exists else tmp_path / "none"
    monkeypatch.setenv("THALWEG_SPOOL_DIR", str(spool))
    outcome = thalweg("sync")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", f"Nothing waits in {spool}.\n")


def test_a_folder_that_is_not_there_is_a_usage_error(thalweg: Command) -> None:
    assert thalweg("sync", "none").status == 2


def test_a_server_out_of_reach_fails_in_the_end(thalweg: Command, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "spool")
    outcome = thalweg("sync", "spool")
    assert outcome.status == 1
    assert outcome.out.splitlines()[1].split()[:3] == ["p/r1", "0", "failed"]
    assert "cannot reach http://127.0.0.1:1" in outcome.out
    assert folder.exists()


def test_one_writers_folder_alone(thalweg: Command, tmp_path: Path) -> None:
    wanted, other = make_folder(tmp_path / "spool", "r1"), make_folder(tmp_path / "spool", "r2")
    document = thalweg("sync", str(wanted), "--json").document
    assert [folder["run_id"] for folder in document["folders"]] == ["r1"]
    assert other.exists()


def test_json(thalweg: Command, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "spool", rank=3, mode="online")
    with layout.sender_lock(folder):
        outcome = thalweg("sync", "spool", "--json")
    assert outcome.status == 0
    (report,) = outcome.document["folders"]
    expected = {"project": "p", "run_id": "r1", "rank": 3, "state": "busy", "records": 0, "losses": {}, "reason": None}
    assert {key: report[key] for key in expected} == expected


def test_a_folder_in_work_is_told_in_words(thalweg: Command, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "spool", mode="online")
    with layout.sender_lock(folder):
        assert "being delivered by another process" in thalweg("sync", "spool").out
