"""ClickHouse's error numbers as our classes, alike for both engines. Pure."""

from __future__ import annotations

from typing import Final

from thalweg_tracker.errors import EngineBusyError, EngineError

TOO_MANY_ROWS: Final = 158
CANNOT_COMPILE_REGEXP: Final = 427
TIMEOUT_EXCEEDED: Final = 159
UNKNOWN_DATABASE: Final = 81
SOCKET_TIMEOUT: Final = 209
NETWORK_ERROR: Final = 210
ABORTED: Final = 236
TABLE_IS_READ_ONLY: Final = 242
"""A replica that has lost its keeper."""
ALL_CONNECTION_TRIES_FAILED: Final = 279
KEEPER_EXCEPTION: Final = 999

_BUSY_CODES: Final = frozenset(
    {
        75,  # CANNOT_WRITE_TO_FILE_DESCRIPTOR: the disk is full
        TIMEOUT_EXCEEDED,
        ABORTED,
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES
        SOCKET_TIMEOUT,
        NETWORK_ERROR,
        241,  # MEMORY_LIMIT_EXCEEDED
        TABLE_IS_READ_ONLY,
        243,  # NOT_ENOUGH_SPACE
        252,  # TOO_MANY_PARTS
        ALL_CONNECTION_TRIES_FAILED,
        285,  # TOO_FEW_LIVE_REPLICAS: fewer than the quorum of an insert
        286,  # UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
        319,  # UNKNOWN_STATUS_OF_INSERT
        425,  # SYSTEM_ERROR
        KEEPER_EXCEPTION,
    }
)


_HOST_IS_GONE: Final = frozenset({NETWORK_ERROR, ABORTED, TABLE_IS_READ_ONLY})
_OF_THE_HOST: Final = _HOST_IS_GONE | {ALL_CONNECTION_TRIES_FAILED, KEEPER_EXCEPTION}


def engine_error(code: int, message: str) -> EngineError:
    """EngineBusyError where trying again makes sense, else EngineError."""
    return EngineBusyError(message, code) if code in _BUSY_CODES else EngineError(message, code)


def took_too_long(error: EngineError) -> bool:
    """Whether a statement was ended at its time limit."""
    return error.code == TIMEOUT_EXCEEDED


def read_too_much(error: EngineError) -> bool:
    """Whether a query was ended at its limit of rows to read."""
    return error.code == TOO_MANY_ROWS


def has_no_database(error: EngineError) -> bool:
    """Whether there is no database of the name that was asked for."""
    return error.code == UNKNOWN_DATABASE


def host_is_gone(error: EngineError) -> bool:
    """Whether the next statement should go to another host too."""
    return error.code in _HOST_IS_GONE


def is_of_the_host(error: EngineError) -> bool:
    """Whether a statement failed with its host: another host may answer it at once. Whether it was run is not known."""
    return error.code in _OF_THE_HOST
