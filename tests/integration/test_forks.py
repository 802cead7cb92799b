"""Forks and rewinds with a real server: over HTTP, over the protocol, and from real training processes."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import httpx
import pytest

from tests.integration.test_end_to_end import thalweg_command
from tests.support import training, wire
from tests.support.waiting import wait_until
from thalweg.spool import layout
from thalweg.testing import ServerProcess, running_server
from thalweg.wire.v1 import records_pb2 as pb

T = TypeVar("T")
PROJECT = "faults"
_writers = itertools.count(1)
BEGIN = f"""
import json, os, sys
import thalweg
def init(**more):
    return thalweg.init({PROJECT!r}, system_interval_s=0, **more)
def tell(**words):
    print(json.dumps(words), flush=True)
"""


@dataclass
class Service:
    """A server, and what tests say to it."""

    process: ServerProcess
    http: httpx.Client

    def post(self, path: str, status: int, **body: Any) -> Any:
        """The answer to POST, which must have this status."""
        answer = self.http.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json() if status < 300 else answer.json()["error"]

    def fork(self, parent: str, step: float | str, status: int = 201, **more: Any) -> Any:
        """Asks for a fork."""
        return self.post(f"/runs/{parent}/fork", status, step=step, **more)

    def rewind(self, run_id: str, step: float | str, attempt: str, status: int = 200, **more: Any) -> Any:
        """Asks for a rewind."""
        return self.post(f"/runs/{run_id}/rewind", status, step=step, attempt=attempt, **more)

    def get(self, path: str, **query: Any) -> Any:
        """The answer to GET, which must be 200."""
        answer = self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def curve(self, run_id: str, name: str = "loss", branch: int | None = None, **more: Any) -> dict[float, float]:
        """Points of a series by step."""
        run: Any = run_id if branch is None else {"run_id": run_id, "branch": branch}
        return training.exact(self.process.client, run, name, **more)

    def log(
        self,
        run_id: str,
        points: dict[float, float],
        *,
        name: str = "loss",
        writer: int | None = None,
        rank: int = 0,
        events: tuple[pb.Event, ...] = (),
        **greeting: Any,
    ) -> list[pb.Rejected]:
        """What a writer says on a stream of its own. Returns what was refused."""
        rows = [[value] for value in points.values()]
        with wire.writing(self.process.grpc, hello(run_id, writer, rank, **greeting)) as stream:
            return stream.commit(wire.batch(1, [name], list(points), rows, events=events))

    def refusal(self, run_id: str, **greeting: Any) -> tuple[grpc.StatusCode, str]:
        """How the server ends the stream of a writer that it does not take."""
        with wire.writing(self.process.grpc, hello(run_id, **greeting)) as stream:
            return stream.ending()

    def train(self, folder: Path, script: str, *arguments: str, **variables: str) -> list[dict[str, Any]]:
        """What a script that must succeed told."""
        status, out, err = training.run_to_end(folder, self.process.url, BEGIN + script, *arguments, **variables)
        assert status == 0, err
        return [json.loads(line) for line in out.splitlines()]

    def arrived(self, run_id: str, status: str = "finished") -> dict[str, Any]:
        """The run when all that its writers logged is there."""
        return training.wait_for_status(self.process.client, run_id, status, PROJECT)


def hello(run_id: str, writer: int | None = None, rank: int = 0, **more: Any) -> pb.Hello:
    """A greeting; without `writer` that of a new one."""
    greeting = wire.hello(run_id, next(_writers) if writer is None else writer, rank, PROJECT)
    greeting.MergeFrom(pb.Hello(**more))
    return greeting


def forked(parent: str, step: float, branch: int | None = None) -> pb.Origin:
    """The origin of a fork, as a sender tells it."""
    return pb.Origin(kind=pb.Origin.FORK, parent_run_id=parent, parent_branch=branch, step=step)


def rewound(step: float, attempt: str, branch: int | None = None) -> pb.Origin:
    """The origin of a rewind."""
    return pb.Origin(kind=pb.Origin.REWIND, step=step, attempt=attempt, branch=branch)


def at_once(*works: Callable[[], T]) -> list[T]:
    """What each returns, all of them started together."""
    barrier = threading.Barrier(len(works))

    def work(one: Callable[[], T]) -> T:
        barrier.wait()
        return one()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(work, works))


def line(first: int, last: int, offset: float = 0.0) -> dict[float, float]:
    """The points (step, step + offset), both ends included."""
    return {float(step): step + offset for step in range(first, last + 1)}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One server for all tests: each takes runs of its own."""
    with (
        running_server(tmp_path_factory.mktemp("forks") / "data") as process,
        httpx.Client(base_url=f"{process.url}/api/v1/projects/{PROJECT}", timeout=60) as http,
    ):
        yield Service(process, http)


# ---- forks by the SDK

PARENT = """
run = init(run_id=sys.argv[1], name="the parent", notes="n", tags=["good"],
           config={"lr": 0.1, "opt": {"a": 1, "b": 2}, "gone": 1})
for step in range(10):
    run.log({"loss": float(step), "system/of_parent": 1.0}, step=step)
run.finish(exit_code=3)
"""
CHILD = """
run = init(run_id=sys.argv[1], fork_from=sys.argv[2], config={"lr": 0.2, "new": {"x": True}})
inherited = dict(run.config)
run.config.pop("gone", None)
for value in range(4):
    run.log({"loss": 100.0 + value})
tell(step=run.fork_step, branch=run.branch, forked_from=run.forked_from, config=inherited)
"""


def test_a_fork_goes_on_with_its_parents_curve(service: Service, tmp_path: Path) -> None:
    """One curve; config inherited, changed, removed, with the difference shown; not tags, name, status or system/*."""
    status, _, err = training.run_to_end(tmp_path, service.process.url, BEGIN + PARENT, "parent")
    assert status == 0, err
    service.arrived("parent", "failed")
    (told,) = service.train(tmp_path, CHILD, "child", "parent@5")
    config = {"lr": 0.2, "opt.a": 1, "opt.b": 2, "gone": 1, "new.x": True}
    assert told == {"step": 5.0, "branch": 0, "forked_from": "parent", "config": config}
    child = service.arrived("child")
    assert service.curve("child") == line(0, 5) | {6.0: 100.0, 7.0: 101.0, 8.0: 102.0, 9.0: 103.0}
    assert service.curve("parent") == line(0, 9)
    assert child["config"] == {"lr": 0.2, "opt": {"a": 1, "b": 2}, "new": {"x": True}}
    assert (child["tags"], child["name"], child["notes"], child["last_step"]) == ([], "", "", 9.0)
    assert [one["name"] for one in service.get("/runs/child/metrics")["metrics"]] == ["loss"]
    assert service.curve("child", "system/of_parent") == {}
    lineage = service.get("/runs/child/lineage")
    root, own = lineage["lineage"]
    assert (root["run_id"], root["kind"], root["upto"], root["changes"], root["name"]) == (
        "parent",
        "start",
        5.0,
        {},
        "the parent",
    )
    assert (own["run_id"], own["kind"], own["upto"], own["fork_step"]) == ("child", "fork", None, 5.0)
    assert own["changes"] == {
        "lr": {"before": 0.1, "after": 0.2},
        "new.x": {"before": None, "after": True},
        "gone": {"before": 1, "after": None},
    }
    children = service.get("/runs/parent/lineage")["children"]
    assert [(one["run_id"], one["kind"], one["fork_step"]) for one in children] == [("child", "fork", 5.0)]
    (again,) = service.train(tmp_path, CHILD, "child", "parent@5")  # the same script after a restart
    assert again["config"].keys() == config.keys() - {"gone"}
    wait_until(lambda: service.curve("child").get(13.0) == 103.0)


def test_a_fork_of_a_missing_run_is_an_error_at_init(service: Service, tmp_path: Path) -> None:
    """It names the run; nothing is left in the spool."""
    script = BEGIN + "init(fork_from='nobody@5')"
    status, _, err = training.run_to_end(tmp_path, service.process.url, script)
    assert status == 1
    assert "NotFoundError" in err.splitlines()[-1]
    assert "'nobody'" in err.splitlines()[-1]
    assert layout.writer_folders(tmp_path / "spool") == []


def test_a_fork_ahead_of_its_parent(service: Service, tmp_path: Path) -> None:
    """It says so, and sees what the parent logs later up to the fork step; automatic steps begin after that."""
    service.log("slow", line(0, 3))
    script = "run = init(run_id='ahead', fork_from='slow@10')\nrun.log({'loss': -1.0})\nrun.log({'loss': -2.0})"
    status, _, err = training.run_to_end(tmp_path, service.process.url, BEGIN + script)
    assert status == 0
    assert "slow stands at step 3" in err
    service.arrived("ahead")
    assert service.curve("ahead") == line(0, 3) | {11.0: -1.0, 12.0: -2.0}
    service.log("slow", line(4, 14))
    assert service.curve("ahead") == line(0, 10) | {11.0: -1.0, 12.0: -2.0}
    assert service.fork("slow", 20, run_id="ahead2")["is_ahead"] is True
    assert service.fork("slow", 14, run_id="level")["is_ahead"] is False
    assert service.fork("slow", 20, run_id="ahead3")["parent_last_step"] == 14.0


def test_a_fork_of_a_run_without_points(service: Service, tmp_path: Path) -> None:
    """It is ahead of everything."""
    with wire.writing(service.process.grpc, hello("pointless")) as stream:
        stream.commit(wire.batch(1, events=[wire.started()]))
    script = "run = init(run_id='of-pointless', fork_from='pointless@2')\nrun.log({'loss': 1.0})"
    _, _, err = training.run_to_end(tmp_path, service.process.url, BEGIN + script)
    assert "pointless has no points yet" in err
    service.arrived("of-pointless")
    assert service.curve("of-pointless") == {3.0: 1.0}


def test_history_cannot_be_rewritten(service: Service, tmp_path: Path) -> None:
    """Points at or before the fork step: the SDK drops and counts them and says so once, the server refuses them."""
    service.log("old", line(0, 9))
    script = """
run = init(run_id='new', fork_from='old@5')
for step in (3, 5, 5.0, 5.5):
    run.log({'loss': -1.0, 'acc': -1.0}, step=step)
strict = init(run_id='new', fork_from='old@5', strict=True)
try:
    strict.log({'loss': 0.0}, step=5)
except thalweg.InputError as error:
    tell(error=str(error))
"""
    status, out, err = training.run_to_end(tmp_path, service.process.url, BEGIN + script)
    assert status == 0, err
    assert "step 5 is not after the step 5" in json.loads(out)["error"]
    assert err.count("is not after the step 5") == 1
    wait_until(lambda: service.get("/runs/new")["health"]["counters"].get("dropped_before_fork") == 7)
    assert service.curve("new") == line(0, 5) | {5.5: -1.0}
    refused = service.log("raw", line(4, 7, 0.5), origin=forked("old", 5.0))
    (one,) = refused
    assert (one.reason, one.points) == (pb.Rejected.REJECTED_BEFORE_FORK, 2)
    assert "step 4 is not after the fork step 5" in one.message
    assert service.curve("raw") == line(0, 5) | line(6, 7, 0.5)
    assert service.log("raw", {1.0: 1.0}, name="system/x", origin=forked("old", 5.0)) == []
    assert service.curve("raw", "system/x") == {1.0: 1.0}


def test_a_run_forks_itself_and_goes_on(service: Service, tmp_path: Path) -> None:
    """`run.fork()` right after the start, again later, and of the fork: all of them go on in one process."""
    script = """
import numpy
run = init(run_id="a", config={"lr": 1})
early = run.fork(run_id="early")
for step in range(5):
    run.log({"loss": float(step)})
b = run.fork(run_id="b", config={"lr": 2}, name="B", tags=["t"])
c = b.fork(numpy.int64(2), run_id="c")
for step in range(3):
    for number, one in enumerate((run, b, c, early)):
        one.log({"loss": 100.0 * number + step})
tell(steps=[one.fork_step for one in (run, early, b, c)], lr=[one.config["lr"] for one in (run, b, c)])
"""
    (told,) = service.train(tmp_path, script)
    assert told == {"steps": [None, -1.0, 4.0, 2.0], "lr": [1, 2, 2]}
    for run_id in ("a", "b", "c", "early"):
        service.arrived(run_id)
    assert service.curve("a") == line(0, 4) | {5.0: 0.0, 6.0: 1.0, 7.0: 2.0}
    assert service.curve("b") == line(0, 4) | {5.0: 100.0, 6.0: 101.0, 7.0: 102.0}
    assert service.curve("c") == line(0, 2) | {3.0: 200.0, 4.0: 201.0, 5.0: 202.0}
    assert service.curve("early") == {0.0: 300.0, 1.0: 301.0, 2.0: 302.0}
    b = service.get("/runs/b")
    assert (b["name"], b["tags"], b["config"]) == ("B", ["t"], {"lr": 2})
    assert [one["run_id"] for one in service.get("/runs/c")["lineage"]] == ["a", "b", "c"]


@pytest.mark.parametrize("step", ["float('nan')", "'five'", "float('inf')", "None or [1]"])
def test_a_step_to_fork_at_is_a_number(service: Service, tmp_path: Path, step: str) -> None:
    """Else InputError, before anything is made."""
    script = f"""
run = init(run_id="misused")
for offline in (False, True):
    try:
        run.fork({step}, run_id="misused-fork")
    except thalweg.InputError as error:
        tell(error=str(error))
"""
    assert [list(one) for one in service.train(tmp_path, script)] == [["error"]] * 2
    assert service.http.get("/runs/misused-fork").status_code == 404


# ---- rewinds by the SDK

REWINDING = """
step = float(sys.argv[2]) if len(sys.argv) > 2 else None
more = {} if step is None else {"rewind_to": step, "attempt": sys.argv[3]}
run = init(run_id=sys.argv[1], **more)
if step is None:
    run.config.update({"lr": 0.1})
    run.add_tags("kept")
    run.set_attributes("run", {"name": "kept", "notes": "kept"})
tell(branch=run.branch, fork_step=run.fork_step, config=dict(run.config))
for value in range(10 if step is None else 3):
    run.log({"loss": float(value)} if step is None else {"loss": 50.0 + value})
"""


def test_a_rewind_goes_on_from_an_earlier_step(service: Service, tmp_path: Path) -> None:
    """Later points vanish and stay readable on the old branch; config, tags, name and notes stay."""
    service.train(tmp_path, REWINDING, "again")
    service.arrived("again")
    (told,) = service.train(tmp_path, REWINDING, "again", "4", "second")
    assert told == {"branch": 1, "fork_step": 4.0, "config": {"lr": 0.1}}
    run = wait_until(lambda: (r := service.arrived("again"))["last_step"] == 7.0 and r)
    assert service.curve("again") == line(0, 4) | {5.0: 50.0, 6.0: 51.0, 7.0: 52.0}
    assert service.curve("again", branch=0) == line(0, 9)
    assert (run["config"], run["tags"], run["name"], run["notes"]) == ({"lr": 0.1}, ["kept"], "kept", "kept")
    assert (run["branch"], [one["kind"] for one in run["branches"]]) == (1, ["start", "rewind"])
    old = service.get("/runs/again", branch=0)
    assert (old["branch"], old["last_step"], old["lineage"][0]["upto"]) == (0, 9.0, None)
    (metric,) = service.get("/runs/again/metrics", branch=0)["metrics"]
    assert (metric["last"], metric["max"]) == (9.0, 9.0)
    (metric,) = service.get("/runs/again/metrics")["metrics"]
    assert (metric["last"], metric["max"], metric["argmax"]) == (52.0, 52.0, 7.0)
    assert service.http.get("/runs/again", params={"branch": 2}).json()["error"]["code"] == "branch_not_found"


def test_a_fork_of_an_old_branch(service: Service) -> None:
    """Sees what the rewind has hidden; without a branch the newest is forked."""
    service.log("rewound", line(0, 9))
    assert service.rewind("rewound", 4, "a")["branch"] == 1
    service.log("rewound", line(5, 7, 0.5), origin=rewound(4, "a"))
    assert service.fork("rewound", 8, branch=0, run_id="of-old")["parent"] == {"run_id": "rewound", "branch": 0}
    assert service.fork("rewound", 8, run_id="of-new")["parent"] == {"run_id": "rewound", "branch": 1}
    assert service.curve("of-old") == line(0, 8)
    assert service.curve("of-new") == line(0, 4) | line(5, 7, 0.5)
    assert service.fork("rewound", 8, 404, branch=7)["code"] == "branch_not_found"


LAUNCHERS = {
    "torchrun": lambda start: {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": start, "MASTER_PORT": "1"},
    "slurm": lambda start: {"SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_RESTART_COUNT": start},
}
RANKED = """
run = init(run_id=sys.argv[1], rewind_to=float(sys.argv[2]))
for _ in range(3):
    run.log({"loss": float(sys.argv[3]) + run.settings.rank})
tell(branch=run.branch, rank=run.settings.rank, fork_step=run.fork_step)
"""


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("late", [0, 3])
def test_all_ranks_of_an_attempt_are_on_one_branch(service: Service, tmp_path: Path, launcher: str, late: int) -> None:
    """Four processes at once, whoever is first; the run begins with them, and their second start is another branch."""
    run_id = f"ranks-{launcher}-{late}"
    for start in range(2):
        running = []
        for rank in sorted(range(4), key=lambda one: one == late):
            folder = tmp_path / f"{rank}"
            folder.mkdir(exist_ok=True)
            variables = {"RANK": str(rank), "SLURM_PROCID": str(rank), **LAUNCHERS[launcher](str(start))}
            script = BEGIN + RANKED
            arguments = (run_id, "1", str(100 * start))
            running.append(training.start(folder, service.process.url, script, *arguments, **variables))
        told = [json.loads(one.process.communicate(timeout=120)[0]) for one in running]
        assert [one.process.returncode for one in running] == [0] * 4
        assert {one["branch"] for one in told} == {start}
        assert {one["fork_step"] for one in told} == {1.0 if start else None}
        wait_until(lambda: len(service.arrived(run_id)["health"]["writers"]) == 4)
    first = {0.0: 1.5, 1.0: 1.5, 2.0: 1.5}
    second = {step: value for step, value in first.items() if step <= 1} | {2.0: 101.5, 3.0: 101.5, 4.0: 101.5}
    assert service.curve(run_id, branch=0) == first
    assert service.curve(run_id) == second


def test_ranks_must_know_their_attempt(service: Service, tmp_path: Path) -> None:
    """Without a word of the launcher, a rank above 0 cannot tell which start it belongs to."""
    script = BEGIN + "init(run_id='r', rewind_to=1)"
    status, _, err = training.run_to_end(tmp_path, service.process.url, script, RANK="1")
    assert (status, "attempt" in err.splitlines()[-1]) == (1, True)


def test_the_same_label_again_is_another_branch(service: Service, tmp_path: Path) -> None:
    """A launcher that says the same at each start: a rank that has written there begins another branch, others join."""
    service.train(tmp_path, REWINDING, "label")
    service.arrived("label")
    branches = [service.train(tmp_path, REWINDING, "label", "4", "same", RANK=rank)[0]["branch"] for rank in "01100"]
    assert branches == [1, 1, 2, 2, 3]
    wait_until(lambda: service.curve("label") == line(0, 4) | {5.0: 50.0, 6.0: 51.0, 7.0: 52.0})


# ---- writers that know less


def test_a_writer_of_an_old_branch_stays_on_it(service: Service) -> None:
    """Whether its stream goes on, or it comes again: with its origin, without one, with or without its begin."""
    service.log("zombie", line(0, 3), writer=501)
    with ExitStack() as streams:
        old = streams.enter_context(wire.writing(service.process.grpc, hello("zombie", 501)))
        assert service.rewind("zombie", 1, "b")["branch"] == 1
        assert service.log("zombie", line(2, 4, 0.5), writer=502, origin=rewound(1, "b", 1)) == []
        assert service.rewind("zombie", 3, "c")["branch"] == 2
        old.commit(wire.batch(2, ["loss"], [4.0], [[4.0]]))
    service.log("zombie", {5.0: 5.0}, writer=501)
    service.log("zombie", {6.0: 6.0}, writer=501, began_us=wire.START_US)
    assert service.log("zombie", {5.0: 5.5}, writer=503, origin=rewound(1, "b", 1)) == []
    assert service.log("zombie", {6.0: 6.5}, writer=504, origin=rewound(1, "b")) == []
    assert service.curve("zombie", branch=0) == line(0, 6)
    assert service.curve("zombie", branch=1) == line(0, 1) | line(2, 6, 0.5)
    assert service.curve("zombie", branch=2) == line(0, 1) | line(2, 3, 0.5)


def test_an_old_sdk_goes_to_the_newest_branch(service: Service) -> None:
    """It tells neither an origin nor when it began. One that tells goes to the branch of that time."""
    service.log("ancient", line(0, 9))
    assert service.rewind("ancient", 4, "a")["branch"] == 1
    refused = service.log("ancient", {4.0: -1.0, 5.0: 5.5})
    assert [one.reason for one in refused] == [pb.Rejected.REJECTED_BEFORE_FORK]
    service.log("ancient", {10.0: 10.0}, began_us=wire.START_US)
    assert service.curve("ancient") == line(0, 4) | {5.0: 5.5}
    assert service.curve("ancient", branch=0) == line(0, 10)


def test_a_wrong_number_of_a_branch_does_not_mix_attempts(service: Service) -> None:
    """The attempt counts: a writer never lands on the branch of another one."""
    service.log("mixed", line(0, 9))
    assert service.rewind("mixed", 4, "a")["branch"] == 1
    service.log("mixed", {5.0: 0.5}, origin=rewound(4, "a", 1))
    service.log("mixed", {5.0: 0.25}, origin=rewound(4, "b", 1))
    assert service.curve("mixed", branch=1)[5.0] == 0.5
    assert service.curve("mixed", branch=2)[5.0] == 0.25


def test_an_unsent_fork_does_not_cover_a_run_that_is_there(service: Service) -> None:
    """A plain run cannot become a fork: neither over HTTP nor by a folder that is delivered later."""
    service.log("plain", line(0, 9))
    service.log("other", line(0, 9, 0.5))
    assert service.fork("other", 5, 400, run_id="plain")["code"] == "run_exists"
    status, details = service.refusal("plain", origin=forked("other", 5.0))
    assert (status, "plain" in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    assert service.curve("plain") == line(0, 9)
    assert service.get("/runs/plain")["branches"][0]["kind"] == "start"


def test_what_a_server_refuses_of_origins(service: Service) -> None:
    """Rings, other forks under the same name."""
    service.log("x", line(0, 3), origin=forked("y", 2.0))
    status, details = service.refusal("y", origin=forked("x", 2.0))
    assert (status, "itself forked" in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    status, details = service.refusal("x", origin=forked("y", 1.0))
    assert (status, "a fork of y at step 2" in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_a_parent_that_comes_last(service: Service) -> None:
    """Grandchild, child, rewind of the parent, parent: in the end all see what they should."""
    late = {"began_us": wire.START_US + 200}
    service.log("grandchild", line(6, 8, 0.25), origin=forked("kid", 5.0, 0), **late)
    assert service.curve("grandchild") == line(6, 8, 0.25)
    service.log("kid", line(4, 9, 0.5), origin=forked("mum", 3.0), **late)
    assert service.curve("grandchild") == line(4, 5, 0.5) | line(6, 8, 0.25)
    service.log("mum", line(2, 9, 0.75), origin=rewound(1.0, "a"), began_us=wire.START_US + 100)
    assert service.curve("kid") == line(2, 3, 0.75) | line(4, 9, 0.5)
    service.log("mum", line(0, 9), began_us=wire.START_US)
    assert service.curve("kid") == line(0, 1) | line(2, 3, 0.75) | line(4, 9, 0.5)
    assert service.curve("grandchild") == line(0, 1) | line(2, 3, 0.75) | line(4, 5, 0.5) | line(6, 8, 0.25)
    assert service.curve("mum", branch=0) == line(0, 9)


# ---- without a server


def test_offline_forks_are_delivered_in_any_order(service: Service, tmp_path: Path) -> None:
    """Fork and rewind without a server, the child's folder before its parent's."""
    script = """
at = sys.argv[1]
if at == "parent":
    run = init(run_id="off", mode="offline", config={"lr": 1})
    steps = range(10)
elif at == "rewind":
    run = init(run_id="off", mode="offline", rewind_to=6, attempt="x")
    steps = range(7, 12)
else:
    run = init(run_id="off-child", mode="offline", fork_from="off@8", config={"lr": 2})
    steps = range(9, 12)
offset = {"parent": 0.0, "rewind": 0.5, "child": 0.25}[at]
tell(branch=run.branch, fork_step=run.fork_step, config=dict(run.config))
for step in steps:
    run.log({"loss": step + offset}, step=step)
run.log({"loss": -1.0}, step=2) if at != "parent" else None
"""
    folders = {name: tmp_path / name for name in ("parent", "rewind", "child")}
    told = []
    for name, folder in folders.items():
        folder.mkdir()
        told += service.train(folder, script, name)
    assert told == [
        {"branch": None, "fork_step": None, "config": {"lr": 1}},
        {"branch": None, "fork_step": 6.0, "config": {}},
        {"branch": 0, "fork_step": 8.0, "config": {"lr": 2}},
    ]
    for name in ("child", "rewind", "parent"):
        synced = thalweg_command("sync", str(folders[name] / "spool"))
        assert synced.returncode == 0, synced.stderr
    assert service.curve("off", branch=0) == line(0, 9)
    assert service.curve("off") == line(0, 6) | line(7, 11, 0.5)
    assert service.curve("off-child") == line(0, 6) | line(7, 8, 0.5) | line(9, 11, 0.25)
    assert service.get("/runs/off-child")["config"] == {"lr": 2}
    assert service.get("/runs/off-child")["health"]["counters"]["dropped_before_fork"] == 1


@pytest.mark.parametrize("how", ["fork_from='r@latest-checkpoint'", "run_id='r', rewind_to='latest-checkpoint'"])
def test_offline_there_is_no_latest_checkpoint(tmp_path: Path, how: str) -> None:
    """Only the server knows it: an error that asks for the step."""
    script = BEGIN + f"init(mode='offline', {how})"
    status, _, err = training.run_to_end(tmp_path, "http://127.0.0.1:9", script)
    assert (status, "give the step" in err.splitlines()[-1]) == (1, True)


def test_a_fork_while_the_server_is_away(tmp_path: Path) -> None:
    """The training runs; when the server is back, its sender delivers the fork and the rewind."""
    first = ServerProcess(tmp_path / "data")
    with wire.writing(first.grpc, hello("r")) as stream:
        stream.commit(wire.batch(1, ["loss"], range(10), [[float(n)] for n in range(10)]))
    first.kill()
    script = """
one = init(run_id="away", fork_from="r@5")
two = init(run_id="r", rewind_to=3)
for run in (one, two):
    run.log({"loss": -1.0})
tell(steps=[one.fork_step, two.fork_step], branches=[one.branch, two.branch])
sys.stdin.read()
"""
    run = training.start(tmp_path, first.url, BEGIN + script)
    assert run.process.stdout is not None
    assert json.loads(run.process.stdout.readline()) == {"steps": [5.0, 3.0], "branches": [0, None]}
    http, grpc_address = first.url.removeprefix("http://"), first.grpc
    with ServerProcess(tmp_path / "data", http=http, grpc=grpc_address) as second:
        wait_until(lambda: training.get_run(second.client, PROJECT, "away").get("last_step") == 6.0)
        wait_until(lambda: training.get_run(second.client, PROJECT, "r").get("last_step") == 4.0)
        assert training.exact(second.client, "away", "loss") == line(0, 5) | {6.0: -1.0}
        assert training.exact(second.client, "r", "loss") == line(0, 3) | {4.0: -1.0}
        run.kill()


# ---- HTTP clients at the same time


def test_rewinds_of_one_attempt_at_once(service: Service) -> None:
    """Eight ranks, one branch; so also where the run begins with them."""
    service.log("at-once", line(0, 9))
    for run_id, branch in (("at-once", 1), ("begun-at-once", 0)):
        works = [
            lambda rank=rank, run_id=run_id: service.rewind(run_id, 4, "a", rank=rank)["branch"] for rank in range(8)
        ]
        assert set(at_once(*works)) == {branch}


def test_rewinds_of_different_attempts_at_once(service: Service) -> None:
    """A branch each, one behind the other; a writer of each finds its own."""
    service.log("many", line(0, 9))
    works = [lambda one=one: service.rewind("many", 4, f"a{one}")["branch"] for one in range(8)]
    branches = at_once(*works)
    assert sorted(branches) == list(range(1, 9))
    for one, branch in enumerate(branches):
        service.log("many", {5.0: float(one)}, origin=rewound(4, f"a{one}", branch))
        assert service.curve("many", branch=branch) == line(0, 4) | {5.0: float(one)}


def test_forks_of_one_name_at_once(service: Service) -> None:
    """Of eight that ask for another step each, one gets its fork; of eight that ask for the same all do."""
    service.log("much-forked", line(0, 9))

    def ask(step: int, run_id: str) -> tuple[int, float | str]:
        answer = service.http.post("/runs/much-forked/fork", json={"run_id": run_id, "step": step})
        told = answer.json()
        return answer.status_code, told["fork_step"] if answer.status_code == 201 else told["error"]["code"]

    for number in range(3):
        run_id = f"name-{number}"
        told = at_once(*(lambda step=step, run_id=run_id: ask(step, run_id) for step in range(8)))
        lineage = service.get(f"/runs/{run_id}")["lineage"]
        assert sorted(told, key=str) == [(201, lineage[0]["upto"])] + [(400, "run_exists")] * 7
    assert set(at_once(*(lambda: ask(3, "same") for _ in range(8)))) == {(201, 3.0)}


# ---- orders over HTTP


def test_an_order_made_again_gives_the_same_run(service: Service) -> None:
    """Also when the parent was rewound meanwhile; another step, or parent, is refused."""
    service.log("made", line(0, 9))
    first = service.fork("made", 5, run_id="made-fork", config={"lr": 1})
    assert service.fork("made", 5, run_id="made-fork") == first
    service.rewind("made", 2, "a")
    assert service.fork("made", 5, run_id="made-fork") == first
    assert service.fork("made", 5, 400, run_id="made-fork", branch=1)["code"] == "run_exists"
    assert service.fork("made", 6, 400, run_id="made-fork")["code"] == "run_exists"
    assert service.fork("made", 6, 400, run_id="made")["code"] in ("own_fork", "run_exists")


def test_a_fork_order_is_taken_whole_or_not_at_all(service: Service) -> None:
    """What cannot be stored is refused before the run is made."""
    service.log("whole", line(0, 9))
    deep: Any = 1
    for _ in range(70):
        deep = [deep]
    bad: list[dict[str, Any]] = [
        {"config": {"x" * 2000: 1}},
        {"config": {"a": deep}},
        {"config": {"a": "x" * (3 << 20)}},
        {"tags": ["x" * 129]},
        {"step": "now"},
        {"step": None},
        {"unknown": 1},
        {"run_id": "a/b"},
        {"run_id": ".."},
    ]
    for more in bad:
        order = {"run_id": "never", "step": 5, **more}
        answer = service.http.post("/runs/whole/fork", json=order)
        assert 400 <= answer.status_code < 500, more
        assert set(answer.json()["error"]) == {"code", "message", "hint"}
        assert service.http.get("/runs/never").status_code == 404, more
    for step in (b"NaN", b"1e999", b'"\\ud800"', b"[]"):
        assert fork_raw(service, b'{"run_id": "never", "step": ' + step + b"}") == 422, step
    for deep_bytes in (b"[" * 5000 + b"]" * 5000, b"[" * 800 + b"]" * 800, b'{"a":' * 800 + b"1" + b"}" * 800):
        assert fork_raw(service, b'{"run_id": "never", "step": 5, "config": {"a": ' + deep_bytes + b"}}") == 400
    for config in (b'{"a": NaN}', b'{"\\ud800": 1}'):
        assert fork_raw(service, b'{"run_id": "never", "step": 5, "config": ' + config + b"}") == 400, config
    assert service.http.get("/runs/never").status_code == 404
    assert service.get("/runs/whole/lineage")["children"] == []
    assert fork_raw(service, b'{"run_id": "odd", "step": 5, "config": {"a": "\\ud800", "b/c": [], "d": {}}}') == 201
    assert service.get("/runs/odd")["config"] == {"a": "\ufffd", "b": {"c": []}, "d": {}}


def fork_raw(service: Service, body: bytes) -> int:
    """The status of an order as it stands."""
    headers = {"Content-Type": "application/json"}
    return service.http.post("/runs/whole/fork", content=body, headers=headers).status_code


def test_an_attempt_has_a_limit_in_bytes(service: Service) -> None:
    """The same as the protocol's: a label that was taken here is taken there."""
    service.log("labelled", line(0, 9))
    assert service.rewind("labelled", 1, "é" * 200, 400)["code"] == "bad_attempt"
    assert service.rewind("labelled", 1, "é" * 128)["branch"] == 1
    service.log("labelled", {2.0: 2.5}, origin=rewound(1, "é" * 128, 1))
    assert service.curve("labelled", branch=1) == line(0, 1) | {2.0: 2.5}


def test_a_rewind_to_nothing(service: Service) -> None:
    """Where there is no checkpoint yet, the run begins anew on another branch; it is ahead of nobody."""
    with wire.writing(service.process.grpc, hello("anew")) as stream:
        stream.commit(wire.batch(1, events=[wire.started()]))
    made = service.rewind("anew", "latest-checkpoint", "a")
    assert (made["branch"], made["fork_step"], made["is_ahead"]) == (1, "-Infinity", False)
    service.log("anew", line(-2, 2), origin=rewound(-float("inf"), "a", 1))
    assert service.curve("anew") == line(-2, 2)
    assert service.get("/runs/anew")["last_step"] == 2.0
    assert service.fork("anew", "latest-checkpoint", 404)["code"] == "no_checkpoint"


def test_a_created_fork_waits(service: Service) -> None:
    """Without a writer it is `created`, and shows its parent's history; the tree has all of it, oldest first."""
    service.log("tree-root", line(0, 9))
    service.fork("tree-root", 4, run_id="tree-a", name="A", tags=["t"])
    service.fork("tree-a", 2, run_id="tree-b")
    service.rewind("tree-root", 3, "a")
    run = service.get("/runs/tree-a")
    assert (run["status"], run["last_step"], run["name"], run["tags"]) == ("created", 4.0, "A", ["t"])
    pages: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = service.get("/lineage", limit=1, metric="loss", **({"cursor": cursor} if cursor else {}))
        pages += page["nodes"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    found = {(one["run_id"], one["branch"]): one for one in pages}
    assert len(found) == len(pages)
    mine = {label: one for label, one in found.items() if label[0].startswith("tree-")}
    told = {
        label: (one["kind"], one["parent_run_id"], one["parent_branch"], one["fork_step"])
        for label, one in mine.items()
    }
    assert told == {
        ("tree-root", 0): ("start", None, None, None),
        ("tree-a", 0): ("fork", "tree-root", 0, 4.0),
        ("tree-b", 0): ("fork", "tree-a", 0, 2.0),
        ("tree-root", 1): ("rewind", "tree-root", 0, 3.0),
    }
    assert [one["metric"] and one["metric"]["last"] for one in mine.values()] == [9.0, None, None, None]
    whole = service.get("/lineage")["nodes"]
    assert [(one["run_id"], one["branch"]) for one in whole] == [(one["run_id"], one["branch"]) for one in pages]
