"""The shared page: every field, reopening, and what survives `kill -9`."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from thalweg.spool import state as module
from thalweg.spool.state import COUNTERS, SENDER_COUNTERS, STATE_BYTES, WRITER_COUNTERS, State

FIELDS = [
    ("acked", 2**63),
    ("sent", 2**64 - 1),
    ("highest_step", -1.5e300),
    ("losses_counted_to", 12),
    ("damage_counted_to", 2**40 + 8),
]


@pytest.mark.parametrize(("name", "value"), FIELDS)
def test_field_is_zero_then_survives_reopening(tmp_path: Path, name: str, value: Any) -> None:
    """Each field starts at 0, keeps what was set, and does not touch another."""
    state = State(tmp_path)
    assert getattr(state, name) == 0
    setattr(state, name, value)
    state.close()
    again = State(tmp_path)
    assert getattr(again, name) == value
    assert {other: getattr(again, other) for other, _ in FIELDS if other != name} == {
        other: 0 for other, _ in FIELDS if other != name
    }
    assert again.counters() == {}
    again.close()


@pytest.mark.parametrize("name", COUNTERS)
def test_counter_adds_up_alone(tmp_path: Path, name: str) -> None:
    """Each counter adds up, is seen through another mapping, and is the only one that changed."""
    state, other = State(tmp_path), State(tmp_path)
    state.count(name, 3)
    state.count(name, 2**40)
    assert other.counter(name) == 2**40 + 3
    assert other.counters() == {name: 2**40 + 3}
    assert [getattr(other, field) for field, _ in FIELDS] == [0] * len(FIELDS)
    state.close()
    other.close()


def test_counters_fit_the_page_and_have_one_writer_each() -> None:
    """No counter has two writing processes, and all lie inside the page."""
    assert not set(WRITER_COUNTERS) & set(SENDER_COUNTERS)
    assert len(set(COUNTERS)) == len(COUNTERS)
    assert max(module._OFFSETS.values()) + 8 <= STATE_BYTES


def test_unknown_counter_is_our_fault(tmp_path: Path) -> None:
    """A name that is no counter is a KeyError."""
    state = State(tmp_path)
    with pytest.raises(KeyError):
        state.count("no such counter", 1)
    state.close()


def test_page_survives_kill_9(tmp_path: Path) -> None:
    """What a process wrote to the page is there after it was killed."""
    script = (
        "import sys; from pathlib import Path; from thalweg.spool.state import State\n"
        "state = State(Path(sys.argv[1])); state.count('logged', 41); state.acked = 7\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    state = State(tmp_path)
    assert (state.counter("logged"), state.acked) == (41, 7)
    state.close()


@pytest.mark.parametrize("bit", range(64))
def test_damaged_ack_acknowledges_nothing(tmp_path: Path, bit: int) -> None:
    """A flipped bit in the acknowledged sequence must not delete what was never sent: it counts as 0."""
    state = State(tmp_path)
    state.acked = 1000
    state.close()
    page = bytearray((tmp_path / "state").read_bytes())
    page[8 + bit // 8] ^= 1 << bit % 8
    (tmp_path / "state").write_bytes(page)
    assert State(tmp_path).acked == 0
