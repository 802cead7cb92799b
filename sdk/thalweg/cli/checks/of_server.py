"""What is looked at where the server is installed, by the server's own code: its settings, and ClickHouse servers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import Final, cast

from thalweg import variables
from thalweg.cli.checks import settings
from thalweg.cli.checks.finding import FAIL, OK, WARN, Finding, State

ENTRY_POINT_GROUP: Final = "thalweg.checks"
STORE: Final = "store"
_VARIABLE: Final = "THALWEG_STORE"
_Look = Callable[..., Iterable[tuple[str, State, str, str]]]


def check_server_settings(environ: Mapping[str, str]) -> list[Finding]:
    """Findings on the server's settings, if there are any."""
    given = sorted(name for name in variables.OF_SERVER if environ.get(name))
    look = _load("settings") if given else None
    if look is None:
        return []
    wrong = [Finding(*one) for one in look(environ)]
    return wrong or [Finding(settings.CHECK, OK, f"set for the server: {', '.join(given)}")]


def check_store(store: str | None, environ: Mapping[str, str]) -> list[Finding]:
    """Findings on the ClickHouse servers that `store` names, else THALWEG_STORE."""
    key, text = ("--store", store) if store else (_VARIABLE, environ.get(_VARIABLE, ""))
    if not text:
        return []
    look = _load("store")
    if look is None:
        told = f"{key} is looked at where the server is installed"
        return [Finding(STORE, FAIL if store else WARN, told, "pip install 'thalweg[server]'")]
    return [Finding(*one) for one in look(key, text)]


def _load(name: str) -> _Look | None:
    """None: it is not installed, or not what it needs."""
    for entry in entry_points(group=ENTRY_POINT_GROUP, name=name):
        try:
            return cast(_Look, entry.load())
        except ImportError:
            continue
    return None
