"""Recording: the fast way and the slow one, bad input, full spools, threads, forks, and the sender's life."""

from __future__ import annotations

import itertools
import math
import os
import signal
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.runs import counters, logged, other_folders, recorded_run, run_script, settings_for
from tests.support.spools import bits, read_all, the_folder
from tests.support.waiting import wait_until
from thalweg.errors import InputError
from thalweg.recorder import Recorder
from thalweg.spool import layout
from thalweg.spool.state import State
from thalweg.wire import limits


class Raising:
    """Its conversion raises what no caller expects."""

    def __float__(self) -> float:
        raise KeyError("float")


class RaisingMapping(Mapping[str, float]):
    """A mapping whose values cannot be read the second time."""

    def __init__(self) -> None:
        self.reads = 0

    def __getitem__(self, key: str) -> float:
        self.reads += 1
        if self.reads > 1:
            raise OSError(key)
        return 1.0

    def __iter__(self) -> Iterator[str]:
        yield "a"

    def __len__(self) -> int:
        return 1


NUMBERS = st.one_of(
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.booleans(),
    st.floats(width=32).map(np.float32),
    st.integers(-128, 127).map(np.int8),
    st.floats().map(np.array),
)
LEAVES = st.one_of(NUMBERS, st.none(), st.text(max_size=3), st.just(10**400), st.just([1.0]))
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(st.text("ab/", max_size=2), inner, max_size=3), max_leaves=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), NUMBERS, min_size=1), min_size=1, max_size=8))
def test_fast_and_slow_path_record_the_same(
    tmp_path_factory: pytest.TempPathFactory, frames: list[dict[str, Any]]
) -> None:
    """A flat mapping of numbers gives the same frame whether its names are known or come nested for the first time."""
    fast, slow = tmp_path_factory.mktemp("fast"), tmp_path_factory.mktemp("slow")
    with recorded_run(fast) as run:
        for values in frames:
            run.log({f"x/{name}": value for name, value in values.items()})
            run.log({f"x/{name}": value for name, value in values.items()})
    with recorded_run(slow) as run:
        for values in frames:
            run.log({"x": values})
            run.log({"x": values})
    one, other = logged(fast), logged(slow)
    assert one.steps == other.steps == list(range(2 * len(frames)))
    assert [list(values) for values in one.points] == [list(values) for values in other.points]
    assert [bits(values.values()) for values in one.points] == [bits(values.values()) for values in other.points]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.text("ab/", max_size=2), TREES, max_size=3), max_size=6))
def test_anything_may_be_logged(tmp_path_factory: pytest.TempPathFactory, trees: list[dict[str, Any]]) -> None:
    """Whatever is handed to log(), it never raises, the first and the second time give the same, losses are counted."""
    spool = tmp_path_factory.mktemp("spool")
    with recorded_run(spool) as run:
        for tree in trees:
            run.log(tree)
            run.log(tree)
    content = logged(spool)
    by_step: dict[float, list[Any]] = {}
    for step, _, values in content.frames:
        by_step.setdefault(step, []).append((list(values), bits(values.values())))
    for index in range(len(trees)):
        assert by_step.get(2 * index) == by_step.get(2 * index + 1)
    assert counters(spool).get("logged", 0) == sum(map(len, content.points))


BAD: list[tuple[Any, str, str]] = [
    ({"a": "x"}, "dropped_bad_value", "cannot log 'a': its value 'x' is a str, not a number"),
    ({"a": None}, "dropped_bad_value", "cannot log 'a': its value None is a NoneType"),
    ({"a": Raising()}, "dropped_bad_value", "cannot log 'a'"),
    ({"a": 10**400}, "dropped_bad_value", "cannot log 'a'"),
    ({"a": np.array([1.0, 2.0])}, "dropped_bad_value", "cannot log 'a'"),
    ({"": 1.0}, "dropped_bad_name", "the name has 0 bytes"),
    ({7: 1.0}, "dropped_bad_name", "a name must be text, not int"),
    ({"\udc80": 1.0}, "dropped_bad_name", "not valid Unicode"),
    (None, "dropped_bad_value", "cannot be read as a mapping"),
    ([1.0], "dropped_bad_value", "cannot be read as a mapping"),
    (0.5, "dropped_bad_value", "cannot be read as a mapping"),
]


@pytest.mark.parametrize(("values", "counter", "message"), BAD)
def test_bad_input_is_told_once_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], values: Any, counter: str, message: str
) -> None:
    """Bad input does not raise; one line names the metric, the reason and the call site; every case is counted."""
    with recorded_run(tmp_path) as run:
        for _ in range(3):
            run.log(values)
        told = capsys.readouterr().err
    assert told.count("thalweg: ") == 1
    assert message in told
    assert f"{Path(__file__).name}:" in told
    assert counters(tmp_path) == {counter: 3}


@pytest.mark.parametrize(("values", "counter", "message"), BAD)
def test_bad_input_raises_where_strict(tmp_path: Path, values: Any, counter: str, message: str) -> None:
    """With `strict` the same is an InputError, counted too, and the run goes on."""
    with recorded_run(tmp_path, strict=True) as run:
        with pytest.raises(InputError) as caught:
            run.log(values)
        run.log({"good": 1.0})
    assert message in str(caught.value)
    assert counters(tmp_path) == {counter: 1, "logged": 1}


def test_good_values_of_a_frame_are_kept(tmp_path: Path) -> None:
    """One bad value does not take the others with it, on a known schema neither."""
    with recorded_run(tmp_path) as run:
        run.log({"a": 1.0, "b": 2.0})
        run.log({"a": 1.0, "b": "bad"})
        run.log({"a": 3.0, "b": Raising()})
        run.log({"a": 1.0, "b": 4.0})
    assert logged(tmp_path).points == [{"a": 1.0, "b": 2.0}, {"a": 1.0}, {"a": 3.0}, {"a": 1.0, "b": 4.0}]
    assert counters(tmp_path) == {"logged": 6, "dropped_bad_value": 2}


def test_mapping_that_fails_on_the_second_reading(tmp_path: Path) -> None:
    """A mapping may raise whatever it likes at any time: log() does not."""
    values = RaisingMapping()
    with recorded_run(tmp_path) as run:
        for _ in range(3):
            run.log(values)
    assert counters(tmp_path) == {"logged": 1, "dropped_bad_value": 2}


@pytest.mark.parametrize("step", [math.nan, math.inf, -math.inf, "3", b"3", 10**400, [1], Raising(), 1j, object()])
def test_bad_step_drops_the_frame(tmp_path: Path, capsys: pytest.CaptureFixture[str], step: Any) -> None:
    """A step that is no finite number is told once and counted by points, for known names too."""
    with recorded_run(tmp_path) as run:
        run.log({"a": 1.0, "b": 2.0}, step=step)
        run.log({"a": 1.0, "b": 2.0})
        run.log({"a": 1.0, "b": 2.0}, step=step)
        told = capsys.readouterr().err
    assert told.count("is not a finite number") == 1
    assert counters(tmp_path) == {"logged": 2, "dropped_bad_step": 4}
    assert logged(tmp_path).steps == [0]


@pytest.mark.parametrize(
    ("given_steps", "steps"),
    [
        ([None, None, None], [0, 1, 2]),
        ([5, None, None], [5, 6, 7]),
        ([5, 2, None], [5, 2, 6]),
        ([0.5, None], [0.5, 1.5]),
        ([-3, None], [-3, 0]),
        ([np.int8(127), None, None], [127, 128, 129]),
        ([np.float32(1.5), None], [1.5, 2.5]),
        ([np.array(4), None], [4, 5]),
        ([True, None], [1, 2]),
        ([math.nan, None], [0]),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_automatic_steps_continue(tmp_path: Path, given_steps: list[Any], steps: list[float], known: bool) -> None:
    """Without a step, a frame comes one after the highest so far, whatever type the steps had."""
    with recorded_run(tmp_path) as run:
        if known:
            run.log({"a": 0.0}, step=-1e9)
        for step in given_steps:
            run.log({"a": 1.0}, step=step)
    assert logged(tmp_path).steps == [-1e9] * known + steps


def test_times_strictly_increase(tmp_path: Path) -> None:
    """Of two values for one step the later wins, so no two frames have the same time."""
    with recorded_run(tmp_path) as run:
        for _ in range(5000):
            run.log({"a": 1.0}, step=1)
    times = [time_us for _, time_us, _ in logged(tmp_path).frames]
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    assert len(times) == 5000


def test_frame_over_the_limit_is_split(tmp_path: Path) -> None:
    """More points than a frame may hold, and names too long for one schema, make several frames of one step."""
    wide = {f"m{index}": float(index) for index in range(limits.FRAME_MAX_POINTS + 5)}
    long = {f"{index:01000}": float(index) for index in range(9000)}
    with recorded_run(tmp_path) as run:
        run.log(wide, step=1)
        run.log(long, step=2)
    content = logged(tmp_path)
    for step, values in ((1, wide), (2, long)):
        parts = [found for at, _, found in content.frames if at == step]
        assert len(parts) > 1
        assert {name: value for part in parts for name, value in part.items()} == values
        assert sum(map(len, parts)) == len(values)
    assert counters(tmp_path) == {"logged": len(wide) + len(long)}


def test_full_spool_drops_counts_and_recovers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Past the quota new points are dropped, counted and told of once; with room again logging goes on."""
    wide = {f"m{index}": 0.0 for index in range(100_000)}
    with recorded_run(tmp_path, THALWEG_SPOOL_LIMIT_BYTES=str(64 << 20)) as run:
        for _ in range(100):
            run.log(wide)
        dropped = counters(tmp_path)["dropped_spool_full"]
        kept = counters(tmp_path)["logged"]
        assert dropped > 0
        assert dropped + kept == 100 * len(wide)
        folder = the_folder(tmp_path)
        layout.segment_path(folder, 1).unlink()  # as the sender does after an ack

        def goes_on() -> bool:
            run.log(wide)
            return counters(tmp_path)["logged"] > kept

        wait_until(goes_on)
        told = capsys.readouterr().err
    assert told.count("the spool is full") == 1


@pytest.mark.parametrize(("most", "most_bytes"), [(3, 64 << 20), (1000, 3 * 1000)])
def test_events_that_wait_are_bounded(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    most_bytes: int,
) -> None:
    """Of the events without room some wait, by number and bytes; the others are counted, and told of once."""
    monkeypatch.setattr("thalweg.recorder._UNSAID_MAX", most)
    monkeypatch.setattr("thalweg.recorder._UNSAID_MAX_BYTES", most_bytes)
    with recorded_run(tmp_path) as run:
        recorder = run._recorder
        assert recorder is not None
        append = recorder._writer.append_event

        def refuse(text: bytes) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(recorder._writer, "append_event", refuse)
        for number in range(6):
            assert recorder.event("attributes", {"attributes": {f"config.{number}": "1" * 900}}) is False
        assert counters(tmp_path)["dropped_spool_full"] == 3
        told = capsys.readouterr().err
        assert told.count("cannot record attributes: 3 events wait for room in the spool already") == 1
        monkeypatch.setattr(recorder._writer, "append_event", append)
        assert recorder.event("attributes", {"attributes": {"config.last": "1"}}) is True
    assert [path for path in logged(tmp_path).attributes() if path.startswith("config.")] == [
        "config.0",
        "config.1",
        "config.2",
        "config.last",
    ]


def test_log_after_finish_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After finish() nothing is written, nothing raises, and one line says so."""
    with recorded_run(tmp_path) as run:
        run.log({"a": 1.0})
        run.finish()
        capsys.readouterr()
        for _ in range(3):
            run.log({"a": 2.0})
            run.log({"new": 2.0})
            run.set_attributes("config", {"x": 1})
        run.finish()
    assert capsys.readouterr().err.count("the run is finished") == 1
    content = logged(tmp_path)
    assert content.points == [{"a": 1.0}]
    assert content.events[-1]["kind"] == "ended"


def test_threads_lose_and_tear_nothing(tmp_path: Path) -> None:
    """Eight threads at once: every frame is there once and whole, automatic steps have no gap, times increase."""
    calls = 2000
    with recorded_run(tmp_path) as run:
        start = threading.Barrier(8)

        def work(number: int) -> None:
            start.wait()
            for index in range(calls):
                value = float(number * calls + index)
                run.log({"a": value, "b": -value} if index % 7 else {f"own/{number}": value})

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    content = logged(tmp_path)
    assert content.steps == list(range(8 * calls))
    assert content.sequences == list(range(1, len(content.sequences) + 1))
    assert all(values.get("a", 0.0) == -values.get("b", 0.0) for values in content.points)
    assert sorted(next(iter(values.values())) for values in content.points) == list(range(8 * calls))
    times = [time_us for _, time_us, _ in content.frames]
    assert times == sorted(set(times))


def in_child(work: Any) -> int:
    """Runs `work` in a forked child and gives its exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_forked_child_records_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """Frames of a forked child land in its own folder, not primary; the parent's are not touched."""
    with recorded_run(tmp_path) as run:
        run.log({"a": 1.0})
        parent = the_folder(tmp_path)

        def work() -> None:
            for _ in range(3):
                run.log({"a": 7.0})
            run.finish()

        assert in_child(work) == 0
        run.log({"a": 2.0})
    assert read_all(parent, writer_ended=False).points == [{"a": 1.0}, {"a": 2.0}]
    (child,) = other_folders(tmp_path, parent)
    assert layout.read_identity(child).primary is False
    content = read_all(child, writer_ended=False)
    assert content.points == [{"a": 7.0}] * 3
    assert content.events[0]["kind"] == "started"
    assert State(child).counters() == {"logged": 3}


def test_fork_while_the_lock_is_held(tmp_path: Path) -> None:
    """A child forked in the middle of another thread's log() does not wait for a lock that nobody will give back."""
    with recorded_run(tmp_path) as run:
        recorder = run._recorder
        assert recorder is not None
        with recorder._lock:
            assert in_child(lambda: run.log({"a": 7.0})) == 0
        run.log({"a": 1.0})
        (child,) = other_folders(tmp_path, recorder.folder)
        assert read_all(child, writer_ended=False).points == [{"a": 7.0}]
    assert read_all(recorder.folder).points == [{"a": 1.0}]


def test_threads_of_a_forked_child_share_one_folder(tmp_path: Path) -> None:
    """Threads of a child that log at the same time open one folder, and none writes into the parent's."""

    def work() -> None:
        start = threading.Barrier(8)

        def log() -> None:
            start.wait()
            for _ in range(200):
                run.log({"a": 7.0})

        threads = [threading.Thread(target=log) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with recorded_run(tmp_path) as run:
        run.log({"a": 1.0})
        parent = the_folder(tmp_path)
        assert in_child(work) == 0
    assert read_all(parent).points == [{"a": 1.0}]
    (child,) = other_folders(tmp_path, parent)
    assert read_all(child, writer_ended=False).points == [{"a": 7.0}] * 1600


def test_forked_child_without_a_folder_drops_and_says_so(tmp_path: Path) -> None:
    """Where a child cannot make its folder it says so, raises nothing, and leaves the parent's alone."""
    spool = tmp_path / "spool"
    with recorded_run(spool) as run:
        run.log({"a": 1.0})
        parent = the_folder(spool)
        hidden = tmp_path / "hidden"
        spool.rename(hidden)
        spool.touch()
        try:
            assert in_child(lambda: (run.log({"a": 7.0}), run.log({"a": 7.0}), run.finish())) == 0
        finally:
            spool.unlink()
            hidden.rename(spool)
        run.log({"a": 2.0})
    assert read_all(parent).points == [{"a": 1.0}, {"a": 2.0}]


MULTIPROCESSING = """
import multiprocessing, os, sys
import thalweg

def work(run, number):
    run.log({"child": float(number)}, step=number)

run = thalweg.init("p", run_id="r")
run.log({"parent": 0.0}, step=0)
context = multiprocessing.get_context("fork")
processes = [context.Process(target=work, args=(run, number)) for number in range(3)]
for process in processes:
    process.start()
for process in processes:
    process.join()
    assert process.exitcode == 0, process.exitcode
run.log({"parent": 1.0}, step=1)
"""


def test_multiprocessing_children_by_fork(tmp_path: Path) -> None:
    """Children of multiprocessing's fork each have a folder; the run's end is the parent's alone."""
    spool = tmp_path / "spool"
    done = run_script(spool, MULTIPROCESSING)
    assert done.returncode == 0, done.stderr
    contents = {layout.read_identity(folder): read_all(folder) for folder in layout.writer_folders(spool)}
    assert len(contents) == 4
    for identity, content in contents.items():
        names = {name for values in content.points for name in values}
        assert names == ({"parent"} if identity.primary else {"child"})
    steps = [content.steps for identity, content in contents.items() if not identity.primary]
    assert sorted(steps) == [[0], [1], [2]]


SPAWN = """
import multiprocessing
import thalweg

def work(number):
    with thalweg.init("p", run_id="r", rank=number) as run:
        run.log({"child": float(number)}, step=number)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(number,)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0, process.exitcode
"""


def test_multiprocessing_children_by_spawn(tmp_path: Path) -> None:
    """Spawned children that call init() with the run's id are writers of their own, with their rank."""
    spool = tmp_path / "spool"
    done = run_script(spool, SPAWN)
    assert done.returncode == 0, done.stderr
    found = {layout.read_identity(folder).rank: read_all(folder).points for folder in layout.writer_folders(spool)}
    assert found == {0: [{"child": 0.0}], 1: [{"child": 1.0}]}


def test_killed_sender_is_started_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sender that is killed during the run is replaced, which is told once."""
    recorder = Recorder(settings_for(tmp_path, THALWEG_MODE="online"), "r", next_step=0.0, strict=False)
    sender = recorder._sender
    assert sender is not None
    os.kill(sender.pid, signal.SIGKILL)

    def replaced() -> bool:
        recorder.check_sender()
        return recorder._sender is not sender

    wait_until(replaced)
    assert recorder._sender is not None
    assert recorder._sender.is_running()
    assert capsys.readouterr().err.count("is started again") == 1
    recorder.close()
    os.kill(recorder._sender.pid, signal.SIGKILL)
    wait_until(lambda: not recorder._sender.is_running())


def test_training_may_change_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative spool stays where it was when the working directory changes, new segments too."""
    monkeypatch.chdir(tmp_path)
    wide = {f"m{index}": 0.0 for index in range(100_000)}
    with recorded_run(Path("spool")) as run:
        run.log(wide)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        for _ in range(50):
            run.log(wide)
    assert counters(tmp_path / "spool") == {"logged": 51 * len(wide)}


SIGNALS = """
import itertools, signal
import thalweg

run = thalweg.init("p", run_id="r")
numbers = itertools.count()
handled = []

def on_signal(number, frame):  # another signal may interrupt it anywhere
    mine = next(numbers)
    run.log({"signal": float(mine)}, step=mine)
    handled.append(mine)

signal.signal(signal.SIGALRM, on_signal)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
calls = 0
while len(handled) < 500:
    run.log({"loop": {"value": float(calls)}}, step=calls)
    run.log({"flat": float(calls)}, step=calls)
    calls += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print(calls, len(handled), flush=True)
"""


def test_signal_handler_may_log(tmp_path: Path) -> None:
    """A handler that logs, as for a preemption notice, neither waits for its own thread nor tears a record."""
    spool = tmp_path / "spool"
    done = run_script(spool, SIGNALS)
    assert done.returncode == 0, done.stderr
    calls, handled = map(int, done.stdout.split())
    content = read_all(the_folder(spool))
    assert content.sequences == list(range(1, len(content.sequences) + 1))
    assert [values["flat"] for values in content.points if "flat" in values] == list(range(calls))
    assert [values["loop/value"] for values in content.points if "loop/value" in values] == list(range(calls))
    assert sorted(values["signal"] for values in content.points if "signal" in values) == list(range(handled))
    times = [time_us for _, time_us, _ in content.frames]
    assert times == sorted(set(times))


def test_values_are_little_endian_doubles(tmp_path: Path) -> None:
    """What lies in the file is what the wire carries."""
    with recorded_run(tmp_path) as run:
        run.log({"a": 1.5})
    data = layout.segment_path(the_folder(tmp_path), 1).read_bytes()
    assert struct.pack("<d", 1.5) in data
