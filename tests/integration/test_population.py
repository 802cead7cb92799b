"""A small population against a real server: each fork continues whom the example says, with the config it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import population
from examples.reading import Project
from thalweg.testing import ServerProcess, running_server

STEPS_PER_ROUND = 45
ROUNDS = 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running_server(tmp_path / "data") as running:
        yield running


def test_a_population_is_one_history(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Members, lineages, changes of config and series on the server are those of the process."""
    monkeypatch.setenv("THALWEG_URL", server.url)
    monkeypatch.setenv("THALWEG_SPOOL_DIR", str(tmp_path / "spool"))
    project = Project(server.client, "people")
    arguments = ["--members", "5", "--rounds", str(ROUNDS), "--epochs", "1", "--seed", "2", "--project", project.name]
    found = population.main(arguments)

    forks = [member for member in found.members if member.parent]
    assert [member.number for member in found.members] == list(range(5))
    assert forks
    nodes = server.client.get(f"/projects/{project.name}/lineage")["nodes"]
    assert {node["status"] for node in nodes} == {"finished"}
    assert len(nodes) == 5 + ROUNDS - 1  # a quarter of five is one, replaced after each round but the last
    for member in found.members:
        check_member(project, member)
    for member in forks:
        check_fork(project, member)
    printed = capsys.readouterr().out
    for node in nodes:
        assert node["run_id"] in printed
    assert f"How {found.best().run.run_id} came about" in printed


def check_member(project: Project, member: population.Member) -> None:
    """Its curve goes from the first step to the last, whoever logged it, and is what was logged."""
    run_id = member.run.run_id
    assert project.points(run_id, "val/accuracy") == member.curve()
    assert [step for step, _ in member.curve()] == [STEPS_PER_ROUND * number for number in range(1, ROUNDS + 1)]
    losses = project.points(run_id, "train/loss")
    assert [step for step, _ in losses] == list(range(1, ROUNDS * STEPS_PER_ROUND + 1))
    run = project.run(run_id)
    assert (run["config"]["lr"], run["config"]["momentum"]) == (member.lr, member.momentum)
    assert run["health"]["counters"].get("dropped_before_fork", 0) == 0
    rates = {step: value for step, value in project.points(run_id, "train/lr") if step > (member.run.fork_step or 0)}
    assert set(rates.values()) == {member.lr}


def check_fork(project: Project, member: population.Member) -> None:
    """Its lineage is that of its parent and itself; the changes are those of lr and momentum."""
    ancestors = [member]
    while (parent := ancestors[-1].parent) is not None:
        ancestors.append(parent)
    chain = project.lineage(member.run.run_id)
    assert [one["run_id"] for one in chain] == [one.run.run_id for one in reversed(ancestors)]
    assert [one["fork_step"] for one in chain] == [one.run.fork_step for one in reversed(ancestors)]
    for one, child in zip(chain[1:], list(reversed(ancestors))[1:], strict=True):
        assert child.parent is not None
        before = {"lr": child.parent.lr, "momentum": child.parent.momentum}
        after = {"lr": child.lr, "momentum": child.momentum}
        assert one["changes"] == {name: {"before": before[name], "after": after[name]} for name in before}


@pytest.mark.parametrize("arguments", [["--members", "1"], ["--rounds", "0"], ["--epochs", "0"]])
def test_a_population_that_cannot_be_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        population.parse(arguments)
