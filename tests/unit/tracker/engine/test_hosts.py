"""Which host comes first, for whom, and what becomes of one that went away."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from tests.support.waiting import wait_until
from thalweg_tracker.engine import hosts as module
from thalweg_tracker.engine.hosts import Host, Hosts

A, B, C = ("a", 1), ("b", 2), ("c", 3)


def never(host: Host) -> bool:
    """No host answers."""
    return False


def test_places_are_spread() -> None:
    """Each begins with another host, and goes on with those after it."""
    hosts = Hosts([A, B, C], never)
    assert [hosts.order(place) for place in range(4)] == [[A, B, C], [B, C, A], [C, A, B], [A, B, C]]
    assert set(Counter(hosts.order(place)[0] for place in range(15)).values()) == {5}


def test_one_that_went_away_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried where nothing else is left; the others keep their order. It comes back when it answers."""
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.01)
    answers = threading.Event()
    asked: list[Host] = []

    def ask(host: Host) -> bool:
        asked.append(host)
        return answers.is_set()

    hosts = Hosts([A, B, C], ask)
    try:
        hosts.went_away(B)
        hosts.went_away(B)
        assert [hosts.order(place) for place in range(3)] == [[A, C, B], [C, A, B], [C, A, B]]
        assert hosts.away == [B]
        wait_until(lambda: len(asked) > 2)
        assert hosts.away == [B]
        answers.set()
        wait_until(lambda: not hosts.away)
        assert hosts.order(1) == [B, C, A]
        assert set(asked) == {B}
        answers.clear()
        hosts.went_away(C)  # looked for by a thread of its own again
        wait_until(lambda: C in asked)
    finally:
        hosts.close()


def test_a_lone_host_never_went_away() -> None:
    """There is no choice, so nobody looks for it."""
    hosts = Hosts([A], never)
    hosts.went_away(A)
    assert hosts.away == []
    hosts.close()


def test_close_ends_the_looking() -> None:
    """No thread is left; what goes away afterwards is not looked for."""
    hosts = Hosts([A, B], never)
    hosts.went_away(A)
    hosts.close()
    hosts.went_away(B)
    assert not [one for one in threading.enumerate() if one.name == "hosts"]
