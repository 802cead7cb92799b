"""The server's own limits. Those that both sides keep to are in thalweg.wire.limits."""

from typing import Final

INGEST_BUFFER_BYTES: Final = 256 << 20
"""Batches decoded and not yet committed, over all streams. Past it, streams are not read: back-pressure."""
COMMIT_MAX_ROWS: Final = 500_000
COMMIT_AFTER_MS: Final = 50
"""The oldest batch waits at most this long for company, if an insert is free to start."""
COMMITS_IN_FLIGHT: Final = 2
UNACKED_BATCHES_PER_STREAM: Final = 64

KNOWN_NAMES_MAX: Final = 4_000_000
"""Metric names remembered as registered. Past it they are registered again, which changes nothing."""

LINEAGE_MAX: Final = 10_000
"""Branches on the way from a root. The rows of a chain of n forks hold n * n / 2 of them."""

BODY_MAX_BYTES: Final = 16 << 20
"""Body of an HTTP request: SERIES_MAX_PER_REQUEST names of the greatest length, and room to spare."""
PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1000
TREE_PAGE_MAX: Final = 20_000
"""Branches in one answer about a project's tree."""
REGEX_MAX_CHARS: Final = 512
SERIES_MAX_PER_REQUEST: Final = 10_000
BUCKETS_MAX: Final = 10_000
EXACT_POINTS_MAX: Final = 20_000_000
"""Points in one exact answer. More are read in parts, with `from` and `to`."""
QUERY_TIMEOUT_S: Final = 60
"""The engine ends a query of the HTTP API after this time."""
