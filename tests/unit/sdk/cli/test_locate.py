"""From what a user types to a run."""

from __future__ import annotations

import click
import pytest

from tests.unit.sdk.cli.canned_server import CannedRun, CannedServer
from thalweg.api_client import ApiClient
from thalweg.cli.locate import locate, split
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
