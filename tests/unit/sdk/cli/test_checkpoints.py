"""`thalweg checkpoints`: the table, the advice, and what it takes to delete."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.sdk.cli.canned_server import CannedRun, CannedServer
from tests.unit.sdk.cli.conftest import Command
from thalweg.cli import checkpoints as checkpoints_module

PATH = "/projects/p/runs/r1/checkpoints"
ADVICE = {
    "interval_s": 1390.0,
    "interval_steps": 1400,
    "young_s": 1400.0,
    "daly_s": 1390.0,
    "save_cost_s": 12.5,
    "saves": 40,
    "mtbf_s": 22_200.0,
    "failures": 7,
    "observed_s": 155_400.0,
    "current_interval_s": 5400.0,
    "seconds_per_step": 1.0,
    "note": "Daly's interval from 7 failures.",
}
FEW = {**ADVICE, "failures": 1, "saves": 1, "interval_steps": None, "current_interval_s": None, "note": "x\x1b[2J"}


def kind(name: str = "full", state: str = "verified", **more: Any) -> dict[str, Any]:
    usual = {"uri": f"s3://b/{name}", "shards": 1, "shards_done": 1, "size_bytes": 1024, "digest": "", "detail": ""}
    times = {"saved_at": "2026-01-02T03:04:05Z", "staged_at": None, "checked_at": None}
    return {"kind": name, "state": state, **usual, **times, **more}


def checkpoint(step: float, *kinds: dict[str, Any], state: str = "verified", **more: Any) -> dict[str, Any]:
    usual = {"run_id": "r1", "branch": 0, "created_at": "2026-01-02T03:04:00Z", "blocked_s": 0.25}
    told = {"size_bytes": 3 << 20, "metrics": {}, "metadata": {}}
    return {**usual, **told, "step": step, "state": state, "kinds": list(kinds) or [kind()], **more}


class Checkpoints:
    """Those of p/r1, in pages of two, and the answer of prune."""

    def __init__(self, canned: CannedServer) -> None:
        self.found: list[dict[str, Any]] = []
        self.advice: dict[str, Any] | None = None
        self.plan: dict[str, Any] = {"kept": [], "deleted": [], "failed": []}
        canned.add("p", CannedRun("r1"))
        canned.answers[f"GET {PATH}"] = self._page
        canned.answers[f"POST {PATH}/verify"] = self._verify
        for query in ("", "?branch=1"):
            canned.answers[f"POST {PATH}/prune{query}"] = lambda order: {**self.plan, "dry_run": order["dry_run"]}

    def _page(self, query: dict[str, str]) -> Any:
        start = int(query.get("cursor", "0"))
        end = start + min(2, int(query["limit"]))
        return {
            "checkpoints": self.found[start:end],
            "next_cursor": str(end) if end < len(self.found) else None,
            "advice": None if start else self.advice,
            "advice_missing": "it is on the first page" if start else "no training has failed yet",
        }

    def _verify(self, order: dict[str, Any]) -> Any:
        return {"checkpoints": [{**one, "state": "missing"} for one in self.found if one["step"] in order["steps"]]}


@pytest.fixture
def there(canned: CannedServer) -> Checkpoints:
    return Checkpoints(canned)


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_table_of_checkpoints(there: Checkpoints, thalweg: Command) -> None:
    there.found = [
        checkpoint(300.0, kind("model"), kind("optimizer"), metrics={"val": 0.123456789, "tag": "a\x1b"}),
        checkpoint(200.5, run_id="root", branch=1, blocked_s=0, size_bytes=0),
    ]
    lines = words(thalweg("checkpoints", "p/r1").out)
    assert lines[0] == ["step", "state", "kinds", "size", "saved", "at", "blocked", "metrics", "from", "where"]
    told = ["tag", '"a\\u001b",', "val", "0.123457", "s3://b/model,", "s3://b/optimizer"]
    assert lines[1][:5] == ["300", "verified", "model,", "optimizer", "3.0"]
    assert lines[1][8:] == ["0.25s", *told]
    assert lines[2][:3] == ["200.5", "verified", "full"]
    assert lines[2][5:] == ["root", "(branch", "1)", "s3://b/full"]


def test_what_is_not_whole_is_told(there: Checkpoints, thalweg: Command) -> None:
    """No columns for what no checkpoint has."""
    there.found = [
        checkpoint(
            2.0, kind("full", "incomplete", shards=4, shards_done=3, detail="shard 2 is missing"), state="incomplete"
        ),
        checkpoint(1.0, kind("full", "missing", detail="no such\nobject"), state="missing"),
    ]
    outcome = thalweg("checkpoints", "p/r1")
    lines = words(outcome.out)
    assert lines[0] == ["step", "state", "kinds", "size", "saved", "at", "blocked", "where"]
    assert lines[1][:5] == ["2", "incomplete", "(3", "of", "4"]
    assert outcome.err.splitlines() == [
        "full of step 2 is incomplete: shard 2 is missing",
        "full of step 1 is missing: no such\\nobject",
    ]


@pytest.mark.parametrize(
    ("advice", "lines"),
    [
        (
            ADVICE,
            [
                "Save every 23m 10s, or 1,400 steps",
                "  now           every 1h 30m",
                "  a save costs  12s (median of 40 saves)",
                "  failures      one in 6h 10m (7 failures in 1d 19h of training)",
                "  how           Daly's interval from 7 failures.",
            ],
        ),
        (
            FEW,
            [
                "Save every 23m 10s",
                "  a save costs  12s (median of 1 save)",
                "  failures      one in 6h 10m (1 failure in 1d 19h of training)",
                "  how           x\\x1b[2J",
            ],
        ),
        (None, ["No advice yet on how often to save: no training has failed yet."]),
    ],
)
def test_the_advice_names_its_numbers(
    there: Checkpoints, thalweg: Command, advice: dict[str, Any] | None, lines: list[str]
) -> None:
    there.found, there.advice = [checkpoint(float(step)) for step in range(5, 0, -1)], advice
    out = thalweg("checkpoints", "p/r1").out.splitlines()
    assert out[6:] == ["", *lines]


def test_list_may_be_said_or_left_out(there: Checkpoints, canned: CannedServer, thalweg: Command) -> None:
    there.found = [checkpoint(1.0)]
    short = thalweg("checkpoints", "p/r1").out
    assert short == thalweg("checkpoints", "list", "p/r1").out == thalweg("checkpoints", "-p", "p", "r1").out
    canned.add("p", CannedRun("prune"))
    canned.answers["GET /projects/p/runs/prune/checkpoints"] = canned.answers[f"GET {PATH}"]
    assert thalweg("checkpoints", "list", "prune").status == 0
    text = thalweg("checkpoints", "--help").out
    assert "checkpoints [OPTIONS] RUN | COMMAND [ARGS]..." in text
    assert "short for `thalweg checkpoints list RUN`" in text
    assert "Example: thalweg checkpoints" in thalweg("checkpoints", "list", "--help").out
    assert "Example: thalweg checkpoints prune" in thalweg("checkpoints", "prune", "--help").out


def test_a_limit_is_told(there: Checkpoints, canned: CannedServer, thalweg: Command) -> None:
    there.found = [checkpoint(float(step)) for step in range(9, 0, -1)]
    outcome = thalweg("checkpoints", "p/r1", "--limit", "3")
    assert [line[0] for line in words(outcome.out)[1:4]] == ["9", "8", "7"]
    assert outcome.err == "Only the newest 3 checkpoints are shown. For more: --limit\n"
    assert thalweg("checkpoints", "p/r1", "--limit", "9").err == ""


def test_json_has_all_pages(there: Checkpoints, thalweg: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints_module, "SHOWN_DEFAULT", 2)
    there.found, there.advice = [checkpoint(float(step)) for step in range(5)], ADVICE
    assert thalweg("checkpoints", "p/r1", "--json").document == {
        "project": "p",
        "run_id": "r1",
        "branch": 0,
        "checkpoints": there.found,
        "advice": ADVICE,
        "advice_missing": "no training has failed yet",
    }


def test_verify_looks_at_those_that_are_listed(there: Checkpoints, canned: CannedServer, thalweg: Command) -> None:
    there.found = [checkpoint(float(step)) for step in range(9, 0, -1)]
    lines = words(thalweg("checkpoints", "p/r1", "--verify", "-n", "3").out)
    assert [line[:2] for line in lines[1:4]] == [["9", "missing"], ["8", "missing"], ["7", "missing"]]
    assert canned.orders == [(f"{PATH}/verify", {"steps": [9.0, 8.0, 7.0]})]


def test_no_checkpoints(there: Checkpoints, canned: CannedServer, thalweg: Command) -> None:
    outcome = thalweg("checkpoints", "p/r1", "--verify")
    assert (outcome.status, outcome.out, canned.orders) == (0, "", [])
    assert outcome.err.startswith("Run p/r1 has no checkpoints.")


PLAN = {
    "kept": [{"step": 300.0, "reasons": ["newest", "best"]}],
    "deleted": [{"step": 1000.0, "bytes": 1 << 30, "objects": 3}, {"step": 200.5, "bytes": 1 << 29, "objects": 1}],
    "failed": [],
}
KEEP = ("--keep-last", "2")


def test_a_dry_run_shows_what_would_go_and_why_the_rest_stays(
    there: Checkpoints, canned: CannedServer, thalweg: Command
) -> None:
    there.plan = PLAN
    options = ("--keep-every", "100", "--keep-best", "val/acc", "--mode", "max", "--best", "3", "--yes", "--dry-run")
    outcome = thalweg("checkpoints", "prune", "p/r1", *KEEP, *options)
    assert outcome.out.splitlines() == [
        " step  what         size  why",
        "200.5  delete  512.0 MiB",
        "  300  keep               newest, best",
        " 1000  delete    1.0 GiB",
    ]
    assert (outcome.status, outcome.err) == (0, "Would delete 2 checkpoints (1.5 GiB) and keep 1.\n")
    best = {"keep_best": {"metric": "val/acc", "mode": "max"}, "best": 3}
    order = {"keep_last": 2, "keep_every": 100.0, **best, "dry_run": True}
    assert canned.orders == [(f"{PATH}/prune", order)]


def test_yes_deletes_at_once(there: Checkpoints, canned: CannedServer, thalweg: Command) -> None:
    there.plan = PLAN
    outcome = thalweg("checkpoints", "prune", "p/r1", *KEEP, "--yes", "--branch", "1")
    assert " 1000  deleted    1.0 GiB" in outcome.out.splitlines()
    assert (outcome.status, outcome.err) == (0, "Deleted 2 checkpoints (1.5 GiB), kept 1.\n")
    order = {"keep_last": 2, "keep_every": None, "keep_best": None, "best": 1, "dry_run": False}
    assert canned.orders == [(f"{PATH}/prune?branch=1", order)]


@pytest.mark.parametrize(
    ("answer", "status", "orders", "last"),
    [("y", 0, 2, "Deleted 2 checkpoints (1.5 GiB), kept 1."), ("n", 1, 1, ""), ("", 1, 1, "")],
)
def test_a_person_is_asked(
    there: Checkpoints,
    canned: CannedServer,
    thalweg: Command,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    status: int,
    orders: int,
    last: str,
) -> None:
    there.plan = PLAN
    terminal = Terminal(answer)
    monkeypatch.setattr("sys.stdin", terminal)
    monkeypatch.setattr("click.termui.visible_prompt_func", terminal.ask)
    outcome = thalweg("checkpoints", "prune", "p/r1", *KEEP)
    assert (outcome.status, len(canned.orders)) == (status, orders)
    assert terminal.asked == "Delete 2 checkpoints (1.5 GiB) of p/r1? [y/N]: "
    assert "  300  keep               newest, best" in outcome.out.splitlines()
    assert outcome.err.splitlines()[-1:] == ([last] if last else outcome.err.splitlines()[-1:])


class Terminal:
    """A person at standard input, who says one thing."""

    def __init__(self, answer: str) -> None:
        self.asked = ""
        self._answer = answer

    def isatty(self) -> bool:
        return True

    def ask(self, prompt: str) -> str:
        self.asked += prompt
        return self._answer


def test_what_fails_is_told_with_exit_status_1(there: Checkpoints, thalweg: Command) -> None:
    there.plan = {**PLAN, "failed": [{"step": 5.0, "detail": "access\ndenied"}]}
    outcome = thalweg("checkpoints", "prune", "p/r1", *KEEP, "-y")
    assert outcome.status == 1
    assert outcome.err.splitlines()[-1] == "Step 5 is not deleted: access\\ndenied"
    document = thalweg("checkpoints", "prune", "p/r1", *KEEP, "-y", "--json").document
    assert document == {"project": "p", "run_id": "r1", "branch": 0, **there.plan, "dry_run": False}


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        ({"kept": PLAN["kept"]}, "Nothing to delete of 1 checkpoint."),
        ({}, "Run p/r1 has no checkpoints of its own."),
    ],
)
def test_nothing_to_delete(there: Checkpoints, thalweg: Command, plan: dict[str, Any], told: str) -> None:
    there.plan |= plan
    for option in ("--yes", "--dry-run"):
        outcome = thalweg("checkpoints", "prune", "p/r1", *KEEP, option)
        assert (outcome.status, outcome.err) == (0, f"{told}\n")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--yes",), "cannot prune: what is to be kept?"),
        ((*KEEP, "--mode", "min", "--yes"), "--mode and --best say which of --keep-best METRIC are kept"),
        ((*KEEP, "--best", "2", "--yes"), "--mode and --best say which of --keep-best METRIC are kept"),
        (KEEP, "cannot ask where there is no terminal: give --yes to delete, or --dry-run to look"),
        ((*KEEP, "--json"), "cannot ask with --json"),
        (("--keep-last", "0"), "--keep-last"),
        (("--keep-every", "0"), "--keep-every"),
    ],
)
def test_usage(
    there: Checkpoints,
    canned: CannedServer,
    thalweg: Command,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    told: str,
) -> None:
    if "--json" not in options:
        monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    outcome = thalweg("checkpoints", "prune", "p/r1", *options)
    assert (outcome.status, outcome.out, canned.asked) == (2, "", [])
    assert told in " ".join(outcome.err.split())
