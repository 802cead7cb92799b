"""`thalweg show RUN --health`: what became of a run's points, and of each writer's."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from tests.unit.sdk.cli.canned_server import CannedRun, CannedServer
from tests.unit.sdk.cli.conftest import Command
from thalweg.cli.health import health_document, print_health
from thalweg.cli.locate import LocatedRun

COUNTERS = {
    "logged": 1000,
    "accepted": 900,
    "rejected_step": 50,
    "rejected_name": 10,
    "rejected_time": 0,
    "dropped_spool_full": 7,
    "records_missing": 2,
}


@pytest.fixture
def run(canned: CannedServer) -> CannedRun:
    """A run one of whose writers lives and lags."""
    lives = {"rank": 1, "outcome": None, "exit_code": None, "counters": COUNTERS}
    ended = CannedRun("r1").document()["health"]["writers"][0] | {"counters": {"logged": 5, "accepted": 5}}
    writers = [ended, ended | lives]
    totals = COUNTERS | {"logged": 1005, "accepted": 905}
    return canned.add("p", CannedRun("r1", fields={"health": {"counters": totals, "writers": writers}}))


def test_as_json(run: CannedRun, thalweg: Command) -> None:
    document = thalweg("show", "p/r1", "--health", "--json").document
    losses = {"rejected": {"name": 10, "step": 50}, "dropped": {"spool_full": 7}, "damaged": {"missing": 2}}
    tally = {"logged": 1005, "accepted": 905, "waiting": 40, **losses}
    assert tally.items() <= document.items()
    assert (document["project"], document["run_id"], document["branch"]) == ("p", "r1", 0)
    ended, lives = document["writers"]
    assert (ended["accepted"], ended["waiting"], ended["rejected"], ended["silent_s"]) == (5, 0, {}, None)
    assert (lives["rank"], lives["waiting"], lives["dropped"]) == (1, 40, {"spool_full": 7})
    assert lives["silent_s"] > 0
    assert "metrics" not in document


def test_for_people(run: CannedRun, canned: CannedServer, thalweg: Command) -> None:
    lines = [line.split() for line in thalweg("show", "p/r1", "--health").out.splitlines()]
    for line in (
        ["logged", "1,005"],
        ["accepted", "905"],
        ["on", "their", "way", "40"],
        ["rejected", "10", "name,", "50", "step"],
        ["dropped", "7", "spool_full"],
        ["damaged", "2", "missing"],
    ):
        assert line in lines
    (row,) = [line for line in lines if line[:2] == ["1", "training"]]
    assert row[2:6] == ["gpu1", "running", "900", "40"]
    text = " ".join(row)
    assert text.endswith("rejected: 10 name, 50 step; dropped: 7 spool_full; damaged: 2 missing")
    assert not [asked for asked in canned.asked if "/metrics" in asked], "nothing else is asked for"


def test_how_long_ago_each_writer_was_heard_of(capsys: pytest.CaptureFixture[str]) -> None:
    """Those that ended too, which nobody calls silent. A clock behind the server's makes it no less than 0."""
    seen = {"rank": 0, "last_seen_at": "2026-01-02T05:00:00Z"}
    ended, lives, never, ahead = (
        CannedRun("r1", writer=fields).document()["health"]["writers"][0]
        for fields in (
            seen,
            seen | {"rank": 1, "outcome": None},
            {"rank": 2, "outcome": None, "last_seen_at": None},
            {"rank": 3, "outcome": None, "last_seen_at": "2026-01-02T05:01:06Z"},
        )
    )
    health = {"counters": {}, "writers": [ended, lives, never, ahead]}
    found = LocatedRun("p", "r1", CannedRun("r1", fields={"health": health}).document())
    now = datetime(2026, 1, 2, 5, 1, 5, tzinfo=timezone.utc)
    told = [(one["last_seen_ago_s"], one["silent_s"]) for one in health_document(found, now)["writers"]]
    assert told == [(65.0, None), (65.0, 65.0), (None, None), (0.0, 0.0)]
    print_health(found, now)
    rows = [line for line in capsys.readouterr().out.splitlines() if " gpu1 " in line]
    assert [row.endswith("  1m 05s ago") for row in rows] == [True, True, False, False]
    assert "ago" not in rows[2]
    assert rows[3].endswith("  0s ago")


def test_a_run_that_nobody_has_written_to(canned: CannedServer, thalweg: Command) -> None:
    canned.add("p", CannedRun("r1", fields={"health": {"counters": {}, "writers": []}}))
    outcome = thalweg("show", "r1", "--health")
    assert outcome.status == 0
    assert "Writers" not in outcome.out
    assert ["accepted", "0"] in [line.split() for line in outcome.out.splitlines()]
