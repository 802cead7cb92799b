"""The list of variables is that of the code; what looks like one of them is told from what is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from thalweg import variables

ROOT = Path(__file__).parents[3]


def test_the_list_is_that_of_the_code() -> None:
    """Each variable that the code names is in it, and the other way round."""
    own = Path(variables.__file__)
    sources = [path for folder in ("sdk", "tracker") for path in (ROOT / folder).rglob("*.py") if path != own]
    found = {name for path in sources for name in re.findall(r"\bTHALWEG_[A-Z0-9]+(?:_[A-Z0-9]+)*\b", path.read_text())}
    assert found == variables.KNOWN


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("THALWEG_SPOOLDIR", "THALWEG_SPOOL_DIR"),
        ("THALWEG_PROJEKT", "THALWEG_PROJECT"),
        ("THALWEG_URI", "THALWEG_URL"),
        ("THALWEG_LOGFORMAT", "THALWEG_LOG_FORMAT"),
        ("THALWEG_QQQ", None),
    ],
)
def test_what_was_meant(name: str, meant: str | None) -> None:
    """The nearest name, if any is near."""
    assert variables.unknown(["PATH", name, "THALWEG_URL"]) == [name]
    assert variables.nearest(name) == meant


@pytest.mark.parametrize(
    "name",
    [
        "THALWEG_SERVICE_HOST",
        "THALWEG_SERVICE_PORT",
        "THALWEG_PORT",
        "THALWEG_PORT_7411_TCP_ADDR",
        "THALWEG_API_SERVICE_HOST",
        "THALWEG_INGEST_SERVICE_PORT_GRPC",
        "THALWEG_INGEST_PORT_7411_TCP",
    ],
)
def test_what_kubernetes_sets_is_nobodys_mistake(name: str) -> None:
    """A service called thalweg is no reason for a warning."""
    assert variables.unknown([name]) == []
