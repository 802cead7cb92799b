"""The expression language by scripts of data (tests/expressions), on every engine, over HTTP, beside the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support.engines import opened, store_of
from tests.support.expression_runner import Session
from tests.support.expression_scripts import parse
from tests.support.tracker import answering
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import migrate

SCRIPTS: Final = sorted((Path(__file__).parents[1] / "expressions").glob("*.test"))


@pytest.fixture(scope="module", params=["embedded", "server", "cluster"])
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Engine, httpx.Client]]:
    """One of each kind for all scripts, and the API over it."""
    with opened(store_of(request, tmp_path_factory.mktemp("scripts"), "expression_scripts")) as engine:
        migrate(engine)
        with answering(engine) as http:
            yield engine, http


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script(database: tuple[Engine, httpx.Client], script: Path) -> None:
    """Server, oracle and script say the same of every expression."""
    session = Session(*database, project=script.stem)
    session.run(parse(script.read_text()))
    assert not session.complaints, "\n".join(session.complaints)
