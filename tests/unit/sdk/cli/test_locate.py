"""From what a user types to a run."""

from __future__ import annotations

import click
import pytest

from tests.unit.sdk.cli.canned_server import CannedRun, CannedServer
from thalweg.api_client import ApiClient
from thalweg.cli.locate import locate, locate_point, split
from thalweg.errors import InputError, NotFoundError


@pytest.mark.parametrize(
    ("text", "project", "parts"),
    [
        ("p/r", None, ("p", "r")),
        ("r", "p", ("p", "r")),
        ("p/r", "other", ("p", "r")),  # what is typed wins over the environment
        ("r", None, (None, "r")),
        ("r", "", (None, "r")),
    ],
)
def test_split(text: str, project: str | None, parts: tuple[str | None, str]) -> None:
    assert split(text, project) == parts


@pytest.mark.parametrize("text", ["", "/", "p/", "/r", "p/r/s"])
def test_what_is_no_run_is_a_usage_error(text: str) -> None:
    with pytest.raises(click.UsageError, match="wanted RUN_ID or PROJECT/RUN_ID"):
        split(text, "project")


@pytest.fixture
def client(canned: CannedServer) -> ApiClient:
    for project, run_id in [("a", "one"), ("a", "both"), ("b", "both"), ("b c", "ünï %2F")]:
        canned.add(project, CannedRun(run_id))
    return ApiClient(canned.url)


@pytest.mark.parametrize(
    ("text", "project", "found"),
    [
        ("one", None, ("a", "one")),
        ("b/both", None, ("b", "both")),
        ("both", "a", ("a", "both")),
        ("ünï %2F", None, ("b c", "ünï %2F")),
    ],
)
def test_locate(client: ApiClient, text: str, project: str | None, found: tuple[str, str]) -> None:
    run = locate(client, text, project)
    assert (run.project, run.run_id, run.document["run_id"]) == (*found, found[1])


def test_a_run_id_of_two_projects_is_ambiguous(client: ApiClient) -> None:
    with pytest.raises(InputError, match="there are a/both, b/both"):
        locate(client, "both", None)


@pytest.mark.parametrize(("text", "project"), [("none", None), ("one", "b"), ("b/one", None)])
def test_a_run_that_is_not_there(client: ApiClient, text: str, project: str | None) -> None:
    with pytest.raises(NotFoundError):
        locate(client, text, project)


@pytest.mark.parametrize(
    ("text", "project", "found"),
    [
        ("one", None, ("a", "one", None, False)),
        ("one@9", None, ("a", "one", 9.0, False)),
        ("b/both@-1.5e3", "a", ("b", "both", -1500.0, False)),
        ("both@latest-checkpoint", "b", ("b", "both", None, True)),
    ],
)
def test_locate_point(
    client: ApiClient, text: str, project: str | None, found: tuple[str, str, float | None, bool]
) -> None:
    run, point = locate_point(client, text, project)
    assert (run.project, run.run_id, point.step, point.latest_checkpoint) == found


@pytest.mark.parametrize("text", ["", "@9", "a/b/one@9", "a/@9"])
def test_what_is_no_point_is_a_usage_error(client: ApiClient, text: str) -> None:
    with pytest.raises(click.UsageError, match="wanted RUN, RUN@STEP or RUN@latest-checkpoint"):
        locate_point(client, text, None)


def test_the_document_is_that_of_the_branch_asked_for(client: ApiClient, canned: CannedServer) -> None:
    """The run is looked for by its id first: a branch that is missing is no missing run."""
    found = locate(client, "one", None, 3)
    assert (found.branch, found.document["branch"]) == (3, 3)
    assert canned.asked[-1] == "GET /api/v1/projects/a/runs/one?branch=3"
