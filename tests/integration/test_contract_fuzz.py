"""What the OpenAPI document says holds: requests that fit it, and many that do not, get an answer that it describes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.engines import opened
from thalweg_tracker.access.doors import open_doors
from thalweg_tracker.api.application import make_api
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.model.settings import EmbeddedStore

DOCUMENT: Final = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())
ENDLESS: Final = "/api/v1/projects/{project}/live"  # an answer without an end: tests/integration/test_live.py
WRITING: Final = "/api/v1/admin/backups"  # files, wherever a request says: tests/integration/test_backup.py
OPERATIONS: Final = [
    (path, method)
    for path, methods in DOCUMENT["paths"].items()
    for method in methods
    if path not in (ENDLESS, WRITING)
]
HERE: Final = {"Host": "localhost"}
CHECKS: Final = [
    schemathesis.checks.not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The document as the application serves it, over a database with some points."""
    with opened(EmbeddedStore(tmp_path_factory.mktemp("fuzz") / "data")) as engine:
        migrate(engine)
        api = make_api(engine, None, "test", None, open_doors())
        yield schemathesis.openapi.from_asgi("/api/v1/openapi.json", api, headers=HERE)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_answers_are_as_described(document: Any, path: str, method: str) -> None:
    """No request makes the server fail, and each answer has a status, a type and a shape that the document names."""

    @settings(max_examples=12, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(document[path][method].as_strategy())
    def ask(case: Any) -> None:
        answer = case.call_and_validate(checks=CHECKS, headers=HERE)
        assert "from_elsewhere" not in answer.text  # else nothing was asked

    ask()
