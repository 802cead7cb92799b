"""The example's crash, restart and forks against a real server: what goes on is the very same training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from examples import digits
from thalweg.testing import ServerProcess, running_server

PROJECT = "digits"
STEPS_PER_EPOCH = 45
LAST_STEP = 8 * STEPS_PER_EPOCH
SAVED = [90, 180, 270, 360]
Train = Callable[..., dict[str, float]]
Curve = list[tuple[float, float]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server, with one undisturbed training, "whole"."""
    with running_server(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture
def train(server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Calls the example: 8 epochs with a checkpoint after every second."""
    monkeypatch.setenv("THALWEG_URL", server.url)
    monkeypatch.setenv("THALWEG_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("THALWEG_SYSTEM_INTERVAL_S", "0")

    def call(*arguments: str) -> dict[str, float]:
        return digits.main(["--quiet", "--save-epochs", "2", "--checkpoints", str(tmp_path / "saved"), *arguments])

    return call


BEGIN = ("--hidden", "16", "--epochs", "8", "--lr", "0.1", "--seed", "4")


def curves(server: ServerProcess, run_id: str, branch: int | None = None) -> dict[str, Curve]:
    """All series of a run, exact."""
    run = run_id if branch is None else {"run_id": run_id, "branch": branch}
    asked = {"runs": [run], "metrics": metric_names(server, run_id), "points": None}
    answer = server.client.post(f"/projects/{PROJECT}/series", asked)["series"]
    return {series["name"]: list(zip(series["x"], series["value"], strict=True)) for series in answer}


def metric_names(server: ServerProcess, run_id: str) -> list[str]:
    return [metric["name"] for metric in server.client.get(f"/projects/{PROJECT}/runs/{run_id}/metrics")["metrics"]]


def details(server: ServerProcess, run_id: str, branch: int | None = None) -> Any:
    return server.client.get(f"/projects/{PROJECT}/runs/{run_id}", branch=branch)


def until(curve: Curve, last: float) -> Curve:
    return [point for point in curve if point[0] <= last]


def test_a_crashed_training_goes_on_as_if_it_had_not_crashed(server: ServerProcess, train: Train) -> None:
    """Crash and restart give bit by bit the points of a training that nothing disturbed; the crash stays readable."""
    train("--run-id", "whole", *BEGIN)
    restart = ("--run-id", "crashing", "--rewind", "latest-checkpoint")
    with pytest.raises(RuntimeError, match="after step 250"):
        train(*restart, *BEGIN, "--crash-at", "250")  # the same command begins the run
    train(*restart)

    whole, crashing, crashed = curves(server, "whole"), curves(server, "crashing"), curves(server, "crashing", 0)
    assert [step for step, _ in whole["train/loss"]] == list(range(1, LAST_STEP + 1))
    assert crashing == whole
    assert crashed == {name: until(curve, 250) for name, curve in whole.items()}
    run = details(server, "crashing")
    assert (run["branch"], run["lineage"][0]["upto"], run["status"]) == (1, 180.0, "finished")
    assert details(server, "crashing", 0)["status"] == "failed"
    assert run["health"]["counters"].get("dropped_before_fork", 0) == 0
    found = server.client.get(f"/projects/{PROJECT}/runs/crashing/checkpoints")["checkpoints"]
    assert [(one["branch"], one["step"]) for one in found] == [(1, 360.0), (1, 270.0), (0, 180.0), (0, 90.0)]
    assert found[0]["metrics"] == {name: whole[name][-1][1] for name in found[0]["metrics"]} != {}


def test_a_fork_with_nothing_changed_repeats_its_parent(server: ServerProcess, train: Train) -> None:
    """It inherits the config, begins where a checkpoint is, and its own points are those of the parent."""
    train("--run-id", "parent", *BEGIN)
    train("--run-id", "same", "--fork-from", "parent@180")
    assert curves(server, "same") == curves(server, "parent")
    assert details(server, "same")["config"] == details(server, "parent")["config"]
    chain = server.client.get(f"/projects/{PROJECT}/runs/same/lineage")["lineage"]
    assert [(one["run_id"], one["upto"], one["changes"]) for one in chain] == [
        ("parent", 180.0, {}),
        ("same", None, {}),
    ]


@pytest.mark.parametrize(
    ("point", "step"), [("@200", 180.0), ("@269.5", 180.0), ("@90", 90.0), ("@latest-checkpoint", 360.0)]
)
def test_a_fork_begins_at_the_checkpoint_whose_weights_it_has(
    server: ServerProcess, train: Train, point: str, step: float
) -> None:
    """Between two checkpoints it is the earlier one; no point is missing after it, and none is refused."""
    parent = f"parent-{point[1:]}"
    train("--run-id", parent, *BEGIN)
    train("--run-id", f"fork-{point[1:]}", "--fork-from", parent + point, "--lr", "0.02", "--epochs", "10")
    fork = details(server, f"fork-{point[1:]}")
    assert fork["lineage"][0] == {"run_id": parent, "branch": 0, "upto": step}
    assert fork["health"]["counters"].get("dropped_before_fork", 0) == 0
    ours, theirs = curves(server, f"fork-{point[1:]}")["train/loss"], curves(server, parent)["train/loss"]
    assert [x for x, _ in ours] == list(range(1, 10 * STEPS_PER_EPOCH + 1))
    assert until(ours, step) == until(theirs, step)
    assert not set(ours[int(step) + 1 :]) & set(theirs[int(step) + 1 :])


def test_a_rewind_to_a_step_goes_on_from_the_checkpoint_before_it(server: ServerProcess, train: Train) -> None:
    """The finished run goes on anew, with what the command line changes; what it had stays on branch 0."""
    train("--run-id", "again", *BEGIN)
    before = curves(server, "again")
    train("--run-id", "again", "--rewind", "100", "--lr", "0.3")
    run, now = details(server, "again"), curves(server, "again")
    assert (run["branch"], run["lineage"][0]["upto"], run["config"]["lr"]) == (1, 90.0, 0.3)
    assert until(now["train/loss"], 90) == until(before["train/loss"], 90)
    assert now["train/loss"][-1] != before["train/loss"][-1]
    assert curves(server, "again", 0) == before
