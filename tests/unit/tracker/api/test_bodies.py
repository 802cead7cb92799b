"""The limit of a request's body."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from thalweg_tracker.api.bodies import BodyLimit
from thalweg_tracker.model import limits

LIMIT = limits.BODY_MAX_BYTES


def read(told: str | None, *sizes: int) -> tuple[int, int]:
    """Status and number of messages taken from the network, for a body in pieces of these sizes."""
    taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": bytes(sizes[taken - 1]), "more_body": taken < len(sizes)}

    async def send(message: Any) -> None:
        raise AssertionError("the application answers, not the limit")

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass

    headers = [] if told is None else [(b"content-length", told.encode())]
    scope = {"type": "http", "headers": headers}
    try:
        asyncio.run(BodyLimit(application)(scope, receive, send))
    except HTTPException as error:
        return error.status_code, taken
    return 200, taken


@pytest.mark.parametrize(
    ("told", "sizes", "wanted"),
    [
        (None, [0], (200, 1)),
        ("0", [0], (200, 1)),
        (str(LIMIT), [LIMIT], (200, 1)),
        (None, [LIMIT // 2, LIMIT // 2], (200, 2)),
        (str(LIMIT + 1), [1], (413, 0)),
        ("9" * 30, [1], (413, 0)),
        (None, [LIMIT + 1], (413, 1)),
        (None, [LIMIT, 1, 1, 1], (413, 2)),
        ("1", [LIMIT, 1, 1], (413, 2)),
        ("x", [LIMIT, 1], (413, 2)),
        ("-1", [1], (200, 1)),
    ],
)
def test_a_body_past_the_limit_is_not_read(told: str | None, sizes: list[int], wanted: tuple[int, int]) -> None:
    """By what its header tells before the first byte, else as soon as the limit is passed."""
    assert read(told, *sizes) == wanted
