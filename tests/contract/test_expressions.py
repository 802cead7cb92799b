"""The expression language by scripts of data (tests/expressions), on every engine, over HTTP, beside the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.support.engines import on_clusters_too
from tests.support.expression_runner import Session
from tests.support.expression_scripts import parse
from tests.support.tracker import answering
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.migrate import migrate

pytestmark = on_clusters_too

SCRIPTS: Final = sorted((Path(__file__).parents[1] / "expressions").glob("*.test"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script(engine: Engine, script: Path) -> None:
    """Server, oracle and script say the same of every expression."""
    migrate(engine)
    with answering(engine) as http:
        session = Session(engine, http)
        session.run(parse(script.read_text()))
    assert not session.complaints, "\n".join(session.complaints)
