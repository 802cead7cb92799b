"""Writes docs/openapi.json: the HTTP API as the code describes it. A test holds that the two are equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

from thalweg_tracker.access.doors import open_doors
from thalweg_tracker.api.application import make_api
from thalweg_tracker.engine.contract import Engine

PLACE = Path(__file__).parents[1] / "docs" / "openapi.json"


def document() -> str:
    """The OpenAPI document as text, of no version in particular: it changes when the API does."""
    api = make_api(cast(Engine, None), None, "1", None, open_doors())  # no route is called, so no engine is asked
    return json.dumps(api.openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PLACE.write_text(document())
