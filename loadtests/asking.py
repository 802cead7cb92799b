"""Requests to a server's project over one kept connection, and how long they take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import httpx
import orjson


class Asking:
    """Requests over one connection."""

    def __init__(self, client: httpx.Client) -> None:
        """`client`: its base is the address of the project."""
        self._http = client

    @classmethod
    def of(cls, url: str, project: str) -> Asking:
        """Asks a server, without compression, as the SDK does."""
        plain = {"Accept-Encoding": "identity"}
        base = f"{url}/api/v1/projects/{project}"
        return cls(httpx.Client(base_url=base, headers=plain, timeout=120, trust_env=False))

    def get(self, path: str, **query: Any) -> Any:
        """The answer to GET."""
        return orjson.loads(self.fetch("GET", path, params=query))

    def post(self, path: str, body: Any) -> Any:
        """The answer to POST."""
        return orjson.loads(self.fetch("POST", path, json=body))

    def put(self, path: str, body: Any) -> Any:
        """The answer to PUT."""
        return orjson.loads(self.fetch("PUT", path, json=body))

    def fetch(self, method: str, path: str, **options: Any) -> bytes:
        """The answer as it comes. `options`: as those of httpx."""
        answer = self._http.request(method, path, **options)
        assert answer.is_success, answer.text
        return answer.content

    def drain(self, path: str, body: Any, accept: str) -> None:
        """Reads the answer to POST and forgets it."""
        with self._http.stream("POST", path, json=body, headers={"Accept": accept}) as answer:
            answer.raise_for_status()
            for _ in answer.iter_raw():
                pass

    def series(self, run_id: str, points: int | None) -> Any:
        """The one series `loss` of a run."""
        (found,) = self.post("/series", {"runs": [run_id], "metrics": ["loss"], "points": points})["series"]
        return found


def timed_ms(call: Callable[[], Any], repeats: int, check: Callable[[Any], None]) -> float:
    """Median over calls in a row, after one that warms up. Each answer is checked, outside of the time."""
    check(call())
    took = []
    for _ in range(repeats):
        begin = time.perf_counter()
        answer = call()
        took.append((time.perf_counter() - begin) * 1e3)
        check(answer)
    return statistics.median(took)
