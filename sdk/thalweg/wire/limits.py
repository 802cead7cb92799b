"""The limits of the protocol: one file for both sides.

The SDK keeps to them before it writes a record; the server enforces them where the bytes enter.
"""

from typing import Final

PROTOCOL: Final = 1

PROJECT_MAX_BYTES: Final = 128
RUN_ID_MAX_BYTES: Final = 128
METRIC_NAME_MAX_BYTES: Final = 1024
RANK_MAX: Final = 65_535
ATTEMPT_MAX_BYTES: Final = 256
SYSTEM_PREFIX: Final = "system/"
"""Metrics of the host: no part of a run's history, so not inherited. Their steps are seconds, not the training's."""

FRAME_MAX_POINTS: Final = 131_072
SCHEMA_NAMES_MAX_BYTES: Final = 8 << 20
SCHEMAS_MAX_NAMES_PER_STREAM: Final = 8_000_000

ATTRIBUTE_PATH_MAX_BYTES: Final = 1024
ATTRIBUTE_JSON_MAX_BYTES: Final = 2 << 20
ATTRIBUTE_MAX_DEPTH: Final = 64
"""Parts of a path, and levels of brackets in a value: what all JSON libraries can read."""
TRACEBACK_MAX_BYTES: Final = 64 << 10
"""Also of the message of an exception."""
HOST_MAX_BYTES: Final = 1024

CHECKPOINT_URI_MAX_BYTES: Final = 4096
CHECKPOINT_PATH_MAX_BYTES: Final = 1024
CHECKPOINT_FILES_MAX: Final = 100_000
CHECKPOINT_JSON_MAX_BYTES: Final = 64 << 10
"""Of its metrics, and of its metadata."""
CHECKPOINT_SHARDS_MAX: Final = 65_536
CHECKPOINT_RECORD_MAX_BYTES: Final = 24 << 20
"""A checkpoint with its manifest as JSON in the spool: with a batch before it below MESSAGE_MAX_BYTES and a segment."""

TIME_MIN_US: Final = 0
TIME_MAX_US: Final = 7_258_118_400_000_000  # 2200-01-01, the end of DateTime64(6) with room to spare

BATCH_TARGET_BYTES: Final = 1 << 20
"""Size at which the sender closes a batch. Loopback gRPC carries about 760 MB/s at 1 MiB."""
BATCH_MAX_PARTS: Final = 131_072
"""Schemas, groups and events in a batch: four times what the smallest ones make of the target."""
MESSAGE_MAX_BYTES: Final = 32 << 20
"""Largest gRPC message. Above any batch that the sender can make: target + largest record."""
