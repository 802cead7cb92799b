"""Attempts to see another project, or to tell whether there is one: each is answered as if there were nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest

from tests.support import wire
from tests.support.access import NOBODYS, OURS, THEIRS, World, series, two_projects
from tests.support.checkpoints import forked
from thalweg.wire.v1 import records_pb2 as pb


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """See two_projects."""
    with two_projects(tmp_path_factory.mktemp("projects") / "data") as world:
        yield world


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "", None),
        ("GET", "/runs", None),
        ("GET", "/deleted", None),
        ("GET", "/runs/hidden", None),
        ("DELETE", "/runs/hidden", None),
        ("POST", "/runs/hidden/undelete", None),
        ("GET", "/runs/hidden/metrics", None),
        ("GET", "/runs/hidden/lineage", None),
        ("GET", "/runs/hidden/checkpoints", None),
        ("GET", "/runs/hidden/checkpoints/resolve", None),
        ("POST", "/runs/hidden/checkpoints/verify", {}),
        ("POST", "/runs/hidden/checkpoints/prune", {"keep_last": 1}),
        ("GET", "/lineage", None),
        ("GET", "/custom-metrics", None),
        ("GET", "/custom-metrics/doubled", None),
        ("PUT", "/custom-metrics/x", {"expression": "loss"}),
        ("DELETE", "/custom-metrics/doubled", None),
        ("GET", "/live?runs=hidden&metrics=loss", None),
        ("POST", "/series", series("hidden")),
        ("POST", "/runs/query", {"columns": ["last(loss)"]}),
        ("POST", "/expressions/check", {"expression": "loss"}),
        ("POST", "/runs/hidden/fork", {"step": 1}),
        ("POST", "/runs/hidden/rewind", {"step": 1, "attempt": "a"}),
        ("POST", "/runs/hidden/uploads", {}),
        ("POST", "/runs/hidden/uploads/complete", {}),
        ("POST", "/runs/hidden/uploads/abort", {}),
    ],
)
def test_another_project_is_not_there(world: World, method: str, path: str, body: dict[str, Any] | None) -> None:
    """The same answer for a project that is there, and for one that is not; for each role."""
    answers_of_projects(world, method, f"/projects/{{}}{path}", body)


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PUT", {"keep_s": 60}), ("PUT", {"keep_s": 1})])
def test_retention_of_another_project_is_not_there(world: World, method: str, body: dict[str, Any] | None) -> None:
    """The same where the project is named elsewhere in the path; and the body is not looked at."""
    answers_of_projects(world, method, "/admin/projects/{}/retention", body)
    kept = world.ask("GET", f"/admin/projects/{THEIRS}/retention", world.guarded.admin).json()
    assert kept == {"keep_s": None, "runs_due": 0}


def answers_of_projects(world: World, method: str, path: str, body: dict[str, Any] | None) -> None:
    """Asks for either project with each role; asserts that the answers are one, and 404."""
    for token in (world.read, world.write, world.project_admin):
        answers = set()
        for project in (THEIRS, NOBODYS):
            found = world.ask(method, path.format(project), token, json=body)
            answers.add((found.status_code, found.text.replace(project, "P")))
        assert len(answers) == 1, answers
        assert next(iter(answers))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/runs/hidden", None),
        ("GET", "/runs/hidden?branch=0", None),
        ("GET", "/runs/hidden/metrics", None),
        ("GET", "/runs/hidden/lineage", None),
        ("GET", "/runs/hidden/checkpoints", None),
        ("GET", "/runs/hidden/checkpoints/resolve", None),
        ("GET", "/live?runs=hidden&metrics=loss", None),
        ("GET", "/live?runs=run&runs=hidden&metrics=loss&from_now=false", None),
        ("POST", "/series", series("hidden")),
        ("POST", "/series", {"runs": ["run", "hidden"], "metrics": ["loss"]}),
        ("POST", "/runs/hidden/checkpoints/verify", {}),
        ("POST", "/runs/hidden/checkpoints/prune", {"keep_last": 1}),
        ("POST", "/runs/hidden/fork", {"step": 1}),
        ("POST", "/runs/hidden/fork", {"step": 1, "run_id": "child"}),
        ("POST", "/runs/hidden/undelete", None),
        ("DELETE", "/runs/hidden", None),
    ],
)
def test_a_run_of_another_project_is_not_in_ones_own(
    world: World, method: str, path: str, body: dict[str, Any] | None
) -> None:
    """By its name in one's own project: what is told of it is what is told of a run that is nowhere."""
    answers = set()
    for run in ("hidden", "none"):
        asked = json.loads(json.dumps(body).replace("hidden", run))
        path_of_run = f"/projects/{OURS}{path.replace('hidden', run)}"
        found = world.ask(method, path_of_run, world.project_admin, json=asked)
        answers.add((found.status_code, found.text.replace(run, "R")))
    assert len(answers) == 1, answers
    ((status, text),) = answers
    assert status == 404
    assert "4711" not in text


def test_another_project_over_grpc_is_not_there(world: World) -> None:
    """One answer for both, by the guess of a run as well as by a fork from one."""
    answers = set()
    for project in (THEIRS, NOBODYS):
        for run in ("hidden", "none"):
            for greeting in (wire.hello(run, project=project), fork_of(run, "child", project=project)):
                with wire.writing(world.guarded.server.grpc, greeting, world.write) as stream:
                    code, details = stream.ending()
                answers.add((code, details.replace(project, "P")))
    assert len(answers) == 1, answers
    assert next(iter(answers))[0] is grpc.StatusCode.PERMISSION_DENIED


def fork_of(parent: str, run_id: str, writer: int = 1, project: str = OURS) -> pb.Hello:
    """The greeting of a fork at step 1, of which the training knows by itself."""
    greeting = wire.hello(run_id, writer, project=project)
    greeting.origin.CopyFrom(forked(parent, 1))
    greeting.began_us = wire.START_US
    return greeting


def test_a_fork_over_grpc_gains_nothing_of_another_project(world: World) -> None:
    """In one's own project a parent may come after its child: one that is elsewhere is awaited like any, and unseen."""
    answers = set()
    for number, parent in enumerate(("hidden", "none")):
        greeting = fork_of(parent, f"of-{parent}", writer=50 + number)
        with wire.writing(world.guarded.server.grpc, greeting, world.write) as stream:
            told = stream.commit(wire.batch(1, ["loss"], [1, 2], [[0.5], [0.25]]))
        lineage = world.ask("GET", f"/projects/{OURS}/runs/of-{parent}/lineage", world.read)
        points = world.ask("POST", f"/projects/{OURS}/series", world.read, json=series(f"of-{parent}"))
        assert (lineage.status_code, points.json()["series"][0]["value"]) == (200, [0.25]), points.text
        answers.add(f"{told} {lineage.text} {points.text}".replace(parent, "R"))
    assert len(answers) == 1, answers


def test_projects_and_tokens_are_those_of_the_token(world: World) -> None:
    """Lists of everything have the part that the token is good for."""
    assert [one["project"] for one in world.ask("GET", "/projects", world.read).json()["projects"]] == [OURS]
    everyone = world.ask("GET", "/projects", world.guarded.admin).json()["projects"]
    assert [one["project"] for one in everyone] == [OURS, THEIRS]
    other = world.guarded.make("read", THEIRS)
    own = world.ask("GET", "/tokens", world.project_admin).json()["tokens"]
    assert {one["project"] for one in own} == {OURS}
    for token_id in (other["id"], "tk-000000000000"):
        answer = world.ask("DELETE", f"/tokens/{token_id}", world.project_admin)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "token_not_found"
    assert world.ask("GET", f"/projects/{THEIRS}/runs", other["token"]).status_code == 200  # it was not revoked


@pytest.mark.parametrize("project", [THEIRS, NOBODYS, None])
def test_an_administrator_of_a_project_makes_tokens_of_no_other(world: World, project: str | None) -> None:
    """Nor for the server as a whole."""
    answer = world.ask("POST", "/tokens", world.project_admin, json={"role": "read", "project": project})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "not_yours"
    mine = world.ask("POST", "/tokens", world.project_admin, json={"role": "read", "project": OURS})
    assert mine.status_code == 201


@pytest.mark.parametrize(
    ("there", "nowhere"),
    [
        ("hidden", "none"),
        ("theirs/hidden", "nobodys/none"),
        ("../theirs/runs/hidden", "../nobodys/runs/none"),
    ],
)
def test_expressions_see_nothing_of_another_project(world: World, there: str, nowhere: str) -> None:
    """One that names its run, however: each answer is that of a run that is not there."""
    answers = set()
    for run in (there, nowhere):
        text = f'run("{run}", loss)'
        asked = [
            world.ask("POST", f"/projects/{OURS}/series", world.read, json=series(expression=text)),
            world.ask("POST", f"/projects/{OURS}/series", world.read, json={**series(), "x": text}),
            world.ask("POST", f"/projects/{OURS}/runs/query", world.read, json={"columns": [f"last({text})"]}),
            world.ask("POST", f"/projects/{OURS}/runs/query", world.read, json={"filter": f"last({text}) > 0"}),
        ]
        assert {one.status_code for one in asked} == {404}, [one.text for one in asked]
        answers.add("".join(one.text.replace(run, "R") for one in asked))
    assert len(answers) == 1, answers


@pytest.mark.parametrize(
    ("there", "nowhere", "expression"),
    [("doubled", "nothing", "{} + 1"), ("hidden", "none", 'run("{}", loss)')],
)
def test_custom_metrics_see_nothing_of_another_project(world: World, there: str, nowhere: str, expression: str) -> None:
    """One that uses a custom metric or a run of theirs is taken, and read, as one that uses what is nowhere."""
    theirs = f"/projects/{THEIRS}/custom-metrics/doubled"
    assert world.ask("PUT", theirs, world.guarded.admin, json={"expression": "loss * 2"}).status_code == 200
    answers = set()
    for name in (there, nowhere):
        text = expression.format(name)
        made = world.ask("PUT", f"/projects/{OURS}/custom-metrics/mine", world.write, json={"expression": text})
        assert made.status_code == 200, made.text
        line = {key: value for key, value in made.json().items() if not key.endswith("_at")}
        points = world.ask("POST", f"/projects/{OURS}/series", world.read, json=series(expression="mine"))
        checked = world.ask("POST", f"/projects/{OURS}/expressions/check", world.read, json={"expression": "mine"})
        answers.add(f"{line} {points.status_code} {points.text} {checked.text}".replace(name, "N"))
    assert world.ask("DELETE", f"/projects/{OURS}/custom-metrics/mine", world.write).status_code == 204
    assert len(answers) == 1, answers


def test_paths_do_not_lead_around_the_check(world: World) -> None:
    """Encoded slashes, dots and doubled ones: each is refused, or is of no project."""
    base = world.guarded.server.url
    for path in (
        f"/api/v1/projects/{OURS}%2F..%2F{THEIRS}/runs",
        f"/api/v1/projects/{OURS}/../{THEIRS}/runs",
        f"/api/v1//projects/{THEIRS}/runs",
        f"/api/v1/projects//{THEIRS}/runs",
        f"/api/v1/projects/{THEIRS}%00/runs",
        f"/api/v1/projects/{THEIRS.upper()}/runs",
        f"/API/V1/projects/{THEIRS}/runs",
    ):
        with httpx.Client(base_url=base) as client:
            request = client.build_request("GET", "/", headers={"Authorization": f"Bearer {world.read}"})
            request.url = request.url.copy_with(raw_path=path.encode())
            answer = client.send(request)
        assert answer.status_code in (307, 401, 403, 404), (path, answer.status_code, answer.text)
        assert "hidden" not in answer.text
