"""The commands of forks, rewinds and checkpoints as processes, against a real server and real trainings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet
import pytest

from tests.integration.test_cli import PROJECT, call, call_json
from tests.support import training
from thalweg.testing import ServerProcess, running_server

BASE = """
import sys
from pathlib import Path
import thalweg
with thalweg.init(project="faults", run_id=sys.argv[1], config={"lr": 0.1, "model": {"depth": 3}},
                  tags=["mine"], system_interval_s=0) as run:
    for step in range(100):
        run.log({"val/loss": 1 / (1 + step)}, step=step)
        if step in (30, 60, 90):
            state = Path(f"{sys.argv[1]}-{step}.bin")
            state.write_bytes(bytes([step]) * step)
            run.save_checkpoint(state, step=step, metrics={"val/loss": 1 / (1 + step)})
"""
REWIND = """
import sys
import thalweg
with thalweg.init(project="faults", run_id=sys.argv[1], rewind_to=float(sys.argv[2]), system_interval_s=0) as run:
    for step in range(int(run.fork_step) + 1, int(run.fork_step) + 11):
        run.log({"val/loss": -1.0}, step=step)
"""
CONTINUE = """
import thalweg
{line}
with run:
    print(run.fork_step, run.config["lr"])
    run.log({{"val/loss": 7.0}})
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the run `base`, which is never changed."""
    with running_server(tmp_path_factory.mktemp("server") / "data") as running:
        train(running, tmp_path_factory.mktemp("base"), BASE, "base")
        yield running


def train(server: ServerProcess, folder: Path, script: str, run_id: str, *more: str) -> str:
    """Runs a script until all that it logged is on the server; gives what it printed."""
    status, out, err = training.run_to_end(folder, server.url, script, run_id, *more)
    assert status == 0, err
    training.wait_for_status(server.client, run_id, "finished")
    return out


def make_fork(server: ServerProcess, point: str, *options: str) -> list[str]:
    """Forks; gives the lines that are printed."""
    status, out, err = call(server, "fork", f"{PROJECT}/{point}", *options)
    assert (status, err) == (0, ""), err
    return out.splitlines()


def test_a_fork_is_made_and_the_printed_line_continues_it(server: ServerProcess, tmp_path: Path) -> None:
    options = ("--run-id", "child", "--name", "second try", "-c", "lr=0.01", "-t", "retry")
    printed = make_fork(server, "base@40.0", *options)
    assert printed[:4] == [
        "faults/child",
        "  parent  base",
        "  step    40",
        "  ahead   no: the parent stands at step 99",
    ]
    assert make_fork(server, "base@40", *options) == printed  # the same order again
    script = CONTINUE.format(line=printed[-1].strip())
    assert train(server, tmp_path, script, "child") == "40.0 0.01\n"
    call_json(server, "export", "child", "-m", "val/loss", cwd=tmp_path)
    table = pyarrow.parquet.read_table(tmp_path / "child.parquet")
    assert table.schema.names == ["run_id", "metric", "step", "time", "value"]
    assert sorted(zip(table["step"].to_pylist(), table["value"].to_pylist(), strict=True)) == [
        *((float(step), 1 / (1 + step)) for step in range(41)),
        (41.0, 7.0),
    ]
    status, out, err = call(server, "show", "child")
    assert (status, err) == (0, "")
    assert re.search(r"^  began +fork of base at step 40$", out, re.MULTILINE)
    assert "Config changes at step 40\n  lr  0.1 -> 0.01\n" in out
    assert re.search(r"^  tags +retry$", out, re.MULTILINE)


def test_a_fork_that_another_run_stands_in_the_way_of(server: ServerProcess) -> None:
    status, out, err = call(server, "fork", "base@40", "--run-id", "base")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("Error: cannot ")


def test_a_fork_ahead_and_a_fork_at_the_latest_checkpoint(server: ServerProcess) -> None:
    assert call_json(server, "fork", "base@500", "--run-id", "ahead")["is_ahead"] is True
    assert make_fork(server, "base@latest-checkpoint", "--run-id", "latest")[2] == "  step    90"


def test_branches_of_a_rewound_run(server: ServerProcess, tmp_path: Path) -> None:
    """The commands show the newest branch, or the one that is asked for."""
    train(server, tmp_path, BASE, "rewound")
    train(server, tmp_path, REWIND, "rewound", "70")
    make_fork(server, "rewound@20", "--run-id", "from-old", "--branch", "0")

    for options, last, value in ((), 80, "-1"), (("--branch", "0"), 99, "0.01"):
        out = call(server, "tail", "rewound", "-n", "1", *options)[1]
        assert out.split()[1:] == ["step", str(last), "val/loss", value]
        assert call_json(server, "show", "rewound", *options)["last_step"] == last
        document = call_json(server, "export", "rewound", "--force", *options, cwd=tmp_path)
        assert document["rows"] == last + 1
    status, out, err = call(server, "show", "rewound")
    assert (status, err) == (0, "")
    assert re.search(r"^  began +rewind of branch 0 to step 70$", out, re.MULTILINE)
    assert "rewind of branch 0 to step 70" in out.partition("\nBranches\n")[2]
    status, out, err = call(server, "show", "rewound", "--branch", "5")
    assert (status, out) == (1, "")
    assert "branch 5" in err

    status, out, err = call(server, "tree", PROJECT, "--run", "rewound", "--metric", "val/loss")
    assert (status, err) == (0, "")
    assert [re.split("  +", line) for line in out.splitlines()] == [
        ["run", "begins", "status", "val/loss", "at step", "min", "at step"],
        ["rewound (branch 0)", "finished", "0.01", "99", "0.01", "99"],
        ["|-- rewound (branch 1, newest)", "rewind to 70", "finished", "-1", "80", "-1", "71"],
        ["`-- from-old", "fork at 20", "created"],
    ]


def test_the_printed_line_continues_a_fork_of_an_older_branch(server: ServerProcess, tmp_path: Path) -> None:
    train(server, tmp_path, BASE, "asked")
    train(server, tmp_path, REWIND, "asked", "50")
    line = make_fork(server, "asked@60", "--run-id", "of-asked", "--branch", "0")[-1].strip()
    train(server, tmp_path, f"import thalweg\n{line}\nrun.log({{'val/loss': 7.0}})", "of-asked")
    assert training.exact(server.client, "of-asked", "val/loss")[60.0] == 1 / 61
    assert training.exact(server.client, "of-asked", "val/loss")[61.0] == 7.0


def test_the_printed_line_continues_a_fork_whose_parent_was_rewound_since(
    server: ServerProcess, tmp_path: Path
) -> None:
    train(server, tmp_path, BASE, "later")
    line = make_fork(server, "later@60", "--run-id", "of-later", "-c", "lr=3.0")[-1].strip()
    train(server, tmp_path, REWIND, "later", "50")
    assert train(server, tmp_path, CONTINUE.format(line=line), "of-later") == "60.0 3.0\n"
    assert call_json(server, "show", "of-later")["lineage"][0]["branch"] == 0


def test_a_tree_has_what_was_forked_and_json_has_all(server: ServerProcess) -> None:
    make_fork(server, "base@10", "--run-id", "tree-1")
    make_fork(server, "tree-1@11", "--run-id", "tree-2")
    nodes = {node["run_id"]: node for node in call_json(server, "tree", PROJECT)["nodes"]}
    assert (nodes["tree-2"]["parent_run_id"], nodes["tree-2"]["fork_step"]) == ("tree-1", 11.0)
    out = call(server, "tree", PROJECT, "--run", "tree-2")[1]
    assert re.search(r"^\|   `-- tree-2 +fork at 11 ", out, re.MULTILINE) or "    `-- tree-2" in out
    status, out, err = call(server, "tree", PROJECT, "--run", "none")
    assert (status, out) == (1, "")
    assert err == "Error: there is no run 'none' in project 'faults'\n"


def test_checkpoints_are_listed_and_restored_along_the_lineage(server: ServerProcess, tmp_path: Path) -> None:
    make_fork(server, "base@70", "--run-id", "restored")
    status, out, err = call(server, "checkpoints", "restored")
    assert (status, err) == (0, "")
    rows = [re.split("  +", line.strip()) for line in out.strip().splitlines()]
    assert rows[0] == ["step", "state", "kinds", "size", "saved at", "blocked", "metrics", "from", "where"]
    assert [(row[0], row[2], row[3], row[7]) for row in rows[1:3]] == [
        ("60", "full", "60 B", "base"),
        ("30", "full", "30 B", "base"),
    ]
    assert out.splitlines()[-1].startswith("No advice yet on how often to save: no training of this project")
    verified = call_json(server, "checkpoints", "restored", "--verify")
    assert [one["state"] for one in verified["checkpoints"]] == ["verified", "verified"]

    status, out, err = call(server, "restore", "restored@59", "--to", "state.bin", cwd=tmp_path)
    assert (status, out) == (0, f"{tmp_path / 'state.bin'}\n"), err
    assert (tmp_path / "state.bin").read_bytes() == bytes([30]) * 30
    assert "Restored the checkpoint of step 30 of faults/restored:" in err
    latest = call_json(server, "restore", "restored", "--to", "latest.bin", cwd=tmp_path)
    assert (latest["step"], (tmp_path / "latest.bin").read_bytes()) == (60.0, bytes([60]) * 60)
    status, out, err = call(server, "restore", "restored@29", "--to", "none.bin", cwd=tmp_path)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "has no complete checkpoint at or before step 29" in err


def test_advice_from_what_failed(server: ServerProcess, tmp_path: Path) -> None:
    script = BASE.replace('"faults"', '"failing"') + "\n    raise SystemExit(3)"
    assert training.run_to_end(tmp_path, server.url, script, "failed")[0] == 3
    training.wait_for_status(server.client, "failed", "failed", project="failing")
    advice = call_json(server, "checkpoints", "failing/failed")["advice"]
    assert (advice["failures"], advice["saves"]) == (1, 3)
    status, out, err = call(server, "checkpoints", "failing/failed")
    assert (status, err) == (0, "")
    told = out.partition("\n\n")[2].splitlines()
    assert re.fullmatch(r"Save every [0-9.]+m?s, or [0-9,]+ steps?", told[0])
    assert re.fullmatch(r"  a save costs  0\.[0-9]+s \(median of 3 saves\)", told[2])
    assert re.fullmatch(r"  failures      one in .+ \(1 failure in .+ of training\)", told[3])


def test_an_object_that_is_gone_is_found_out(server: ServerProcess, tmp_path: Path) -> None:
    train(server, tmp_path, BASE, "damaged")
    place = call_json(server, "checkpoints", "damaged", "--limit", "1")["checkpoints"][0]["kinds"][0]["uri"]
    Path(place.removeprefix("file://")).unlink()
    status, out, err = call(server, "checkpoints", "damaged", "--verify")
    assert status == 0
    assert [line.split()[:2] for line in out.splitlines()[1:4]] == [
        ["90", "missing"],
        ["60", "verified"],
        ["30", "verified"],
    ]
    assert err.startswith("full of step 90 is missing: ")


def test_prune_keeps_what_it_says(server: ServerProcess, tmp_path: Path) -> None:
    """What a fork began from stays; the rest goes only when that is wanted."""
    train(server, tmp_path, BASE, "pruned")
    make_fork(server, "pruned@35", "--run-id", "needs-30")
    arguments = ("checkpoints", "prune", "pruned", "--keep-last", "1")
    plan = call_json(server, *arguments, "--dry-run")
    assert [one["step"] for one in plan["deleted"]] == [60.0]
    status, out, err = call(server, *arguments)
    assert (status, out) == (2, "")
    assert "give --yes to delete" in err
    status, out, err = call(server, *arguments, "--yes")
    assert (status, err) == (0, "Deleted 1 checkpoint (60 B), kept 2.\n")
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [["30", "kept"], ["60", "deleted"], ["90", "kept"]]
    states = {one["step"]: one["state"] for one in call_json(server, "checkpoints", "pruned")["checkpoints"]}
    assert states[60.0] == "deleted"
    assert call(server, *arguments, "--dry-run")[2] == "Nothing to delete of 2 checkpoints.\n"
