"""`init()` and the end of the interpreter, with real scripts that have no `__main__` guard."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.support.runs import NOBODY, run_script, sealed_word
from tests.support.spools import read_all, the_folder
from thalweg.spool import layout
from thalweg.wire.run_ids import generate_run_id

PREAMBLE = """
import os, signal, sys, threading
import thalweg
run = thalweg.init("p", run_id="r", name="n", tags=["t"], config={"lr": 0.1})
run.log({"a": 1.0})
"""

ENDS = [
    ("end of script", "", 0, {"outcome": "finished", "exit_code": 0}),
    ("uncaught exception", "raise ValueError('no')", 1, {"outcome": "failed", "exception": "ValueError: no"}),
    ("sys.exit(3)", "sys.exit(3)", 3, {"outcome": "failed", "exit_code": 3}),
    ("sys.exit(0)", "sys.exit(0)", 0, {"outcome": "finished", "exit_code": 0}),
    ("sys.exit(text)", "sys.exit('no data')", 1, {"outcome": "failed", "exit_code": 1}),
    ("raise SystemExit", "raise SystemExit(4)", 4, {"outcome": "failed", "exit_code": 4}),
    ("caught exit", "try:\n    sys.exit(3)\nexcept SystemExit:\n    pass", 0, {"outcome": "finished", "exit_code": 0}),
    (
        "exit of a thread",
        "thread = threading.Thread(target=sys.exit, args=(3,)); thread.start(); thread.join()",
        0,
        {"outcome": "finished", "exit_code": 0},
    ),
    ("Ctrl-C", "signal.raise_signal(signal.SIGINT)", -2, {"outcome": "killed", "signal": 2}),
    ("os._exit(5)", "os._exit(5)", 5, {"outcome": "failed", "exit_code": 5}),
    ("os._exit(0)", "os._exit(0)", 0, {"outcome": "finished", "exit_code": 0}),
    ("SIGKILL", "os.kill(os.getpid(), signal.SIGKILL)", -9, {"outcome": "killed", "signal": 9}),
    ("SIGTERM", "os.kill(os.getpid(), signal.SIGTERM)", -15, {"outcome": "killed", "signal": 15}),
    ("explicit finish", "run.finish(); sys.exit(3)", 3, {"outcome": "finished", "exit_code": 0}),
    ("with block", "with run:\n    raise KeyError('k')", 1, {"outcome": "failed", "exception": "KeyError: 'k'"}),
    ("early stop", "with run:\n    sys.exit(0)", 0, {"outcome": "finished", "exit_code": 0}),
    ("odd exit code", "sys.exit(2**40 + 7)", 7, {"outcome": "failed", "exit_code": 7}),
    ("name that is no text", "open(b'/no/\\xff')", 1, {"outcome": "failed", "exit_code": 1}),
]


@pytest.mark.parametrize(("ending", "status", "word"), [end[1:] for end in ENDS], ids=[end[0] for end in ENDS])
def test_every_end_is_recorded(tmp_path: Path, ending: str, status: int, word: dict[str, object]) -> None:
    """However a script ends, the spool says so, and has what was logged."""
    spool = tmp_path / "spool"
    done = run_script(spool, PREAMBLE + ending, before_reaping=lambda: sealed_word(the_folder(spool), **word))
    assert done.returncode == status, done.stderr
    content = read_all(the_folder(spool), writer_ended=False)
    assert content.points == [{"a": 1.0}]
    assert content.damages == []


def test_what_init_is_given_is_recorded(tmp_path: Path) -> None:
    """Project, run, name, notes, tags, config and the environment are in the spool; rank 0 records all of `env`."""
    spool = tmp_path / "spool"
    script = """
import thalweg
run = thalweg.init("p", run_id="r", name="n", notes="why", tags=["t"], config={"a": {"b": 1}})
print(run.run_id, run.project, run.url, run)
"""
    done = run_script(spool, script)
    assert done.stdout == f"r p {NOBODY} <thalweg.Run p/r (offline)>\n"
    found = read_all(the_folder(spool), writer_ended=False).attributes()
    wanted = {"run.name": '"n"', "run.notes": '"why"', "tags.t": "true", "config.a.b": "1"}
    assert wanted.items() <= found.items()
    assert sum(path.startswith("env.") for path in found) > 5
    identity = layout.read_identity(the_folder(spool))
    assert (identity.project, identity.run_id, identity.rank, identity.primary) == ("p", "r", 0, True)


def test_other_ranks_record_host_and_process_alone(tmp_path: Path) -> None:
    """A rank above 0 does not repeat the environment a thousand times."""
    spool = tmp_path / "spool"
    run_script(spool, PREAMBLE, RANK="3")
    found = read_all(the_folder(spool), writer_ended=False).attributes()
    env = {path for path in found if path.startswith("env.")}
    assert env == {"env.ranks.3.host.name", "env.ranks.3.process.pid"}
    assert layout.read_identity(the_folder(spool)).rank == 3


def test_disabled_writes_no_file_and_starts_no_process(tmp_path: Path) -> None:
    """With mode "disabled" nothing at all happens."""
    spool = tmp_path / "spool"
    script = PREAMBLE + "import psutil; print(len(psutil.Process().children()), threading.active_count())"
    done = run_script(spool, script, THALWEG_MODE="disabled")
    assert (done.stdout, done.stderr, done.returncode) == ("0 1\n", "", 0)
    assert list(spool.iterdir()) == []


def test_disabled_keeps_the_config_for_the_training(tmp_path: Path) -> None:
    """A script that reads `run.config` runs with mode "disabled" too; so do its forks."""
    script = PREAMBLE + "print(run.config['lr'], run.fork(config={'lr': 0.2}).config['lr'])"
    done = run_script(tmp_path / "spool", script, THALWEG_MODE="disabled")
    assert (done.stdout, done.stderr, done.returncode) == ("0.1 0.2\n", "", 0)


def test_greeting_says_where_it_goes(tmp_path: Path) -> None:
    """One line at the start names run and place; at the end, offline, one names the command that sends it."""
    spool = tmp_path / "spool"
    done = run_script(spool, PREAMBLE)
    assert f"thalweg: run p/r (rank 0): offline, in {the_folder(spool)}" in done.stderr
    assert f"thalweg sync {spool}" in done.stderr


def test_server_that_is_away_delays_little(tmp_path: Path) -> None:
    """With a run to continue and no server, automatic steps begin at 0, which is said; the points are kept."""
    spool = tmp_path / "spool"
    script = PREAMBLE + "print(run._recorder._sender.pid)"
    done = run_script(spool, script, THALWEG_MODE="online")
    assert done.returncode == 0, done.stderr
    os.kill(int(done.stdout), signal.SIGKILL)  # it would go on trying for ten minutes
    assert "automatic steps of run r start at 0" in done.stderr
    assert "is not delivered yet" in done.stderr
    assert read_all(the_folder(spool), writer_ended=False).steps == [0]


def test_several_runs_in_one_process(tmp_path: Path) -> None:
    """Each run has a folder of its own; those still open at the end are finished."""
    spool = tmp_path / "spool"
    script = """
import thalweg
for number in range(3):
    run = thalweg.init("p", run_id=f"r{number}")
    run.log({"a": float(number)})
    if number == 0:
        run.finish(exit_code=2)
"""
    assert run_script(spool, script).returncode == 0
    found = {}
    for folder in layout.writer_folders(spool):
        content = read_all(folder, writer_ended=False)
        word = content.last_word
        found[layout.read_identity(folder).run_id] = (content.points, word["outcome"], word["exit_code"])
    assert found == {
        "r0": ([{"a": 0.0}], "failed", 2),
        "r1": ([{"a": 1.0}], "finished", 0),
        "r2": ([{"a": 2.0}], "finished", 0),
    }


def test_warnings_as_errors_do_not_matter(tmp_path: Path) -> None:
    """Under `-W error`, as in a test suite, neither a run nor its collection warns of anything."""
    script = PREAMBLE + "run.finish(); del run; import gc; gc.collect()"
    done = run_script(tmp_path / "spool", script, PYTHONWARNINGS="error", PYTHONDEVMODE="1")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


def test_generated_run_ids_differ() -> None:
    """A run id is a date and eight letters that are hard to misread."""
    made = {generate_run_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"\d{8}-[a-hj-km-np-z2-9]{8}", run_id) for run_id in made)
