"""The server's own limits. Those that both sides keep to are in thalweg.wire.limits."""

from typing import Final

INGEST_BUFFER_BYTES: Final = 256 << 20
"""Batches decoded and not yet committed, over all streams. Past it, streams are not read: back-pressure."""
COMMIT_MAX_ROWS: Final = 1_000_000
COMMIT_AFTER_MS: Final = 50
"""The oldest batch waits at most this long for company, if an insert is free to start."""
GREETINGS_AT_ONCE: Final = 1000
"""Writers that are placed, or whose names are registered, with one call."""
COMMITS_IN_FLIGHT: Final = 2
DELETIONS_POLL_S: Final = 2.0
"""An ingest process looks so often which runs were deleted, and ends the streams of their writers."""
COMMIT_TRIES: Final = 3
"""Points are inserted so often, where one host of the database goes away after the other."""
UNACKED_BATCHES_PER_STREAM: Final = 64

KNOWN_NAMES_MAX: Final = 4_000_000
"""Metric names remembered as registered. Past it they are registered again, which changes nothing."""

KNOWN_RUN_METRICS_MAX: Final = 1_000_000
"""The same of metrics of runs."""

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

EXPRESSION_MAX_CHARS: Final = 4096
EXPRESSION_MAX_DEPTH: Final = 64
EXPRESSION_MAX_NODES: Final = 1000
"""After custom metrics were put in their places."""
EXPRESSION_MAX_INPUTS: Final = 32
"""Different metrics that one expression reads."""
WINDOW_MAX_POINTS: Final = 10_000
"""Points that a rolling window or a lag spans."""
EXPRESSIONS_PER_REQUEST: Final = 64
CUSTOM_METRICS_MAX: Final = 1000
"""Custom metrics of one project."""

STREAM_SORT_ROWS: Final = 4_000_000
"""Points of a stream that are sorted at once, some 45 bytes each."""

EXPRESSION_ROWS_MAX: Final = 1_000_000_000
"""Stored rows that one query of expressions may read. The engine reads granules of 8,192 rows: of short series, most of
what is read belongs to others."""

STREAM_TIMEOUT_S: Final = 600
"""The engine ends an answer that is streamed after this time, however slowly it is taken."""
COMPRESS_FROM_BYTES: Final = 4096
"""Answers in JSON from this size on are compressed where the client takes that."""

LIVE_LISTENERS_MAX: Final = 200
"""Open event streams of one process."""
LIVE_LISTENERS_PER_PROJECT: Final = LIVE_LISTENERS_MAX // 2
"""Of these, what those of one project may take."""
LIVE_RUNS_MAX: Final = 200
LIVE_SERIES_MAX: Final = 2000
"""Runs, and runs times metrics, of one event stream."""
LIVE_POLL_MS: Final = 100
LIVE_POLL_SLOWLY_MS: Final = 200
"""What listeners ask about is looked at so often, by one query for all: the latter where nothing comes, or too much."""
LIVE_QUIET_MS: Final = 2000
LIVE_STATES_MS: Final = 2000
"""So often for what nobody writes: that a run is lost, or has a new branch."""
LIVE_SETTLE_MS: Final = 3000
"""What was told in this time, twice it at most, is read again with what is new: commits may change places."""
LIVE_QUERY_TIMEOUT_S: Final = 10
LIVE_READ_POINTS: Final = 50_000
"""Points read at once for one listener; the rest follow when these were taken."""
LIVE_EVENT_POINTS: Final = 5_000
LIVE_KEEP_ALIVE_S: Final = 10.0
LIVE_STALL_S: Final = 10.0
"""A listener that does not take an event for so long is dropped."""
LIVE_FAREWELL_S: Final = 60.0
"""So long is waited until it takes the word that it was dropped, without any work for it."""
LIVE_ID_EVERY_MS: Final = 1000
LIVE_ID_WRITERS_MAX: Final = 512
"""Writers of which the id of an event says by name up to where they were told."""

CACHE_AFTER_S: Final = 60
"""Answers about runs that ended get a validator so long after their last word: what was under way is there then."""
