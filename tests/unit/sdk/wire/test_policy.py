"""Back-off and the options of both ends."""

from __future__ import annotations

from random import Random

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.wire import limits, policy


@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_delay_is_bounded(attempt: int, random: Random) -> None:
    """However many attempts, the delay stays between its bounds."""
    assert policy.BACKOFF_FIRST_MS // 4 <= policy.next_delay_ms(attempt, random) <= policy.BACKOFF_MOST_MS


@pytest.mark.parametrize(("attempt", "most_ms"), [(0, 200), (1, 400), (2, 800), (6, 12_800), (7, 15_000), (99, 15_000)])
def test_bound_doubles_and_is_used_fully(attempt: int, most_ms: int) -> None:
    """Full jitter: delays fill the range up to a bound that doubles."""
    delays = [policy.next_delay_ms(attempt, Random(seed)) for seed in range(500)]
    assert max(delays) <= most_ms
    assert max(delays) > 0.9 * most_ms
    assert min(delays) < 0.3 * most_ms


def test_fatal_codes_are_codes() -> None:
    """Each fatal code is one that gRPC knows; codes of a passing trouble are not among them."""
    known = {code.name for code in grpc.StatusCode}
    assert known >= policy.FATAL_CODES
    assert not policy.FATAL_CODES & {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED", "INTERNAL"}


def test_server_permits_the_pings_of_the_client() -> None:
    """A client that pings as told is not sent away for pinging too often."""
    client, server = dict(policy.CLIENT_OPTIONS), dict(policy.SERVER_OPTIONS)
    least_ms = server["grpc.http2.min_recv_ping_interval_without_data_ms"]
    assert client["grpc.keepalive_time_ms"] >= least_ms


def test_signs_of_life_come_in_time() -> None:
    """Several heartbeats may be lost before a writer counts as lost."""
    assert 3 * policy.HEARTBEAT_S < policy.LOST_AFTER_S
    assert policy.COUNTERS_S < policy.HEARTBEAT_S


def test_largest_message_holds_any_batch() -> None:
    """A batch is at most its target and one record more: the largest frame, schema, or attributes."""
    largest = max(
        8 * limits.FRAME_MAX_POINTS,
        limits.SCHEMA_NAMES_MAX_BYTES,
        2 * limits.ATTRIBUTE_JSON_MAX_BYTES + limits.ATTRIBUTE_PATH_MAX_BYTES,
    )
    assert limits.BATCH_TARGET_BYTES + largest < limits.MESSAGE_MAX_BYTES
