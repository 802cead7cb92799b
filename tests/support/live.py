"""A listener of /live: what came so far, by a thread that reads all the time."""

from __future__ import annotations

import json
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support import wire
from tests.support.waiting import wait_until

Points = dict[tuple[str, int, str, int], dict[float, float | str]]


@dataclass
class Listening:
    """Events as (kind, data), in order, and the last id."""

    events: list[tuple[str, Any]] = field(default_factory=list)
    last_id: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    def told(self) -> list[tuple[str, int, str, int, float, float | str]]:
        """Each point that came, in order: run, branch, name, rank, step, value."""
        return [
            (one["run_id"], one["branch"], one["name"], one["rank"], step, value)
            for kind, data in list(self.events)
            if kind == "points"
            for one in data["series"]
            for step, value in zip(one["x"], one["value"], strict=True)
        ]

    def points(self) -> Points:
        """What came, by series and step; asserts that no value came twice in a row."""
        found: Points = defaultdict(dict)
        for run_id, branch, name, rank, step, value in self.told():
            series = found[run_id, branch, name, rank]
            assert series.get(step) != value, f"step {step} of {name} came twice"
            series[step] = value
        return dict(found)

    def steps(self, run_id: str, name: str, *, branch: int = 0, rank: int = 0) -> list[float]:
        """Steps of one series, in the order in which they came."""
        return [told[4] for told in self.told() if told[:4] == (run_id, branch, name, rank)]

    def statuses(self) -> list[tuple[str, int, str]]:
        """Statuses in the order in which they came."""
        return [(data["run_id"], data["branch"], data["status"]) for kind, data in self.events if kind == "status"]

    def wait_for_steps(self, steps: list[float], run_id: str, name: str, **which: Any) -> None:
        """Returns when exactly these steps of a series came; others fail the test."""
        try:
            wait_until(lambda: len(self.steps(run_id, name, **which)) >= len(steps), 20)
        except AssertionError:
            assert self.steps(run_id, name, **which) == steps
        assert self.steps(run_id, name, **which) == steps


@contextmanager
def listening(http: httpx.Client, *, last_id: str = "", **query: Any) -> Iterator[Listening]:
    """A listener for the time of the block, from when its first status has come."""
    found = Listening()
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with (
        httpx.Client(base_url=http.base_url, timeout=60) as client,
        client.stream("GET", f"/projects/{wire.PROJECT}/live", params=query, headers=headers) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        reader = threading.Thread(target=_read, args=(answer, found))
        reader.start()
        try:
            wait_until(lambda: found.events)
            yield found
        finally:
            with suppress(OSError):  # it may have ended
                answer.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            reader.join()


def _read(answer: httpx.Response, found: Listening) -> None:
    kind, one_id = "", ""
    try:
        for line in answer.iter_lines():
            name, _, text = line.partition(": ")
            if name == "event":
                kind = text
            elif name == "id":
                one_id = text
            elif name == "data":
                found.events.append((kind, json.loads(text)))
                found.last_id = one_id or found.last_id
        found.ended.set()
    except httpx.HTTPError:
        pass  # the block was left, or the server is gone
