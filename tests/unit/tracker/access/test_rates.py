"""Limits of tokens and projects. Rates are so low that no test waits for one."""

from __future__ import annotations

import pytest

from thalweg_tracker.access.grants import Grant, Role
from thalweg_tracker.access.rates import BURST_S, DEBT_MOST_S, Limiter
from thalweg_tracker.errors import LimitedError
from thalweg_tracker.model.access import LimitSettings

ONE = Grant("tk-1", Role.WRITE, "p")
OTHER = Grant("tk-2", Role.WRITE, "p")
SLOW = 1e-3


def test_without_limits_all_goes() -> None:
    """Nothing is counted, nothing is waited for."""
    limiter = Limiter(LimitSettings())
    assert [limiter.points(ONE, "p", 10**9) for _ in range(3)] == [0, 0, 0]
    limiter.answered(ONE, "p", 1e9)
    limiter.request(ONE, "p")
    with limiter.stream(ONE, "p"), limiter.stream(ONE, "p"):
        pass


def test_a_burst_goes_through_and_then_its_rate() -> None:
    """What is taken beyond a bucket is a debt: told as the time until it is paid off."""
    limiter = Limiter(LimitSettings(points_per_s=10))
    assert limiter.points(ONE, "p", int(10 * BURST_S)) == 0
    assert limiter.points(ONE, "p", 30) == pytest.approx(3, abs=1)


def test_too_much_debt_is_refused_with_its_delay_and_not_counted() -> None:
    """The same may be asked again after that time, whoever has asked meanwhile."""
    limiter = Limiter(LimitSettings(points_per_s=10))
    assert limiter.points(ONE, "p", 100_000) > DEBT_MOST_S
    delays = []
    for _ in range(2):
        with pytest.raises(LimitedError, match="token tk-1 is past its points per s of 10") as caught:
            limiter.points(ONE, "p", 1_000_000)
        delays.append(caught.value.retry_after_s)
    assert delays[0] == pytest.approx((100_000 - 10 * BURST_S) / 10 - DEBT_MOST_S, rel=0.01)
    assert delays[1] <= delays[0]


def test_the_project_is_limited_over_all_its_tokens() -> None:
    """One token's points are another's delay; another project has its own."""
    limiter = Limiter(LimitSettings(points_per_s=10))
    limiter.points(ONE, "p", 1000)
    with pytest.raises(LimitedError, match="project p is past"):
        limiter.points(OTHER, "p", 1)
    assert limiter.points(OTHER, "q", 1) == 0


def test_a_token_has_limits_of_its_own() -> None:
    """Instead of the server's, higher or lower or none; those of its project stay."""
    limiter = Limiter(LimitSettings(requests_per_s=SLOW))
    free = Grant("tk-3", Role.READ, "p", limits={"requests_per_s": 0})
    for _ in range(5):
        limiter.request(free, None)
    limiter.request(ONE, None)
    with pytest.raises(LimitedError, match="requests per s"):
        limiter.request(ONE, None)


def test_queries_cost_what_they_take() -> None:
    """What is known afterwards delays what comes next."""
    limiter = Limiter(LimitSettings(query_seconds_per_s=0.5))
    limiter.request(ONE, "p")
    limiter.answered(ONE, "p", 100)
    with pytest.raises(LimitedError) as caught:
        limiter.request(ONE, "p")
    assert caught.value.retry_after_s == pytest.approx(198, abs=2)


def test_streams_are_counted_while_they_are_open() -> None:
    """One that ends makes room for the next, also when it ends with an error."""
    limiter = Limiter(LimitSettings(streams=2))
    with limiter.stream(ONE, "p"):
        with pytest.raises(ValueError, match="broken"), limiter.stream(ONE, "p"):
            raise ValueError("broken")
        with limiter.stream(ONE, "p"), pytest.raises(LimitedError, match="2 open streams"), limiter.stream(ONE, "p"):
            pass
        with limiter.stream(ONE, "p"):
            pass
    with limiter.stream(ONE, "p"), limiter.stream(ONE, "p"):
        pass
