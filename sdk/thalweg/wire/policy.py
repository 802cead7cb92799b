"""How both ends behave on the network: keepalive, deadlines, retries. Written down here alone."""

from __future__ import annotations

from random import Random
from typing import Final

from thalweg.wire import limits

KEEPALIVE_MS: Final = 20_000
KEEPALIVE_TIMEOUT_MS: Final = 10_000
DISCOVERY_TIMEOUT_S: Final = 5.0
HEARTBEAT_S: Final = 10.0
"""A writer without records says that it lives at least this often."""
COUNTERS_S: Final = 1.0
"""Changed counters of an idle writer are told after this time."""
LOST_AFTER_S: Final = 60.0
"""A writer from which nothing came for this long counts as lost."""

RETRY_AFTER: Final = "retry-after-ms"
"""Trailing metadata of RESOURCE_EXHAUSTED: so many milliseconds later the same may go."""
RETRY_AFTER_MOST_MS: Final = 600_000
"""A sender waits no longer, whatever it is told."""

BACKOFF_FIRST_MS: Final = 200
BACKOFF_MOST_MS: Final = 15_000

# gRPC status codes that will not get better by themselves. Everything else is retried.
FATAL_CODES: Final = frozenset(
    {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"}
)

CLIENT_OPTIONS: Final = (
    ("grpc.max_send_message_length", limits.MESSAGE_MAX_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.max_pings_without_data", 0),
)
SERVER_OPTIONS: Final = (
    ("grpc.max_receive_message_length", limits.MESSAGE_MAX_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
    ("grpc.so_reuseport", 0),
)


def next_delay_ms(attempt: int, random: Random) -> int:
    """Full-jitter back-off: uniform up to a bound that doubles. `attempt` counts from 0."""
    bound_ms = min(BACKOFF_MOST_MS, BACKOFF_FIRST_MS << min(attempt, 16))
    return random.randint(BACKOFF_FIRST_MS // 4, bound_ms)
