"""The environment variables of Thalweg by name, SDK and server alike. A test compares this list with the code."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final

PREFIX: Final = "THALWEG_"
OF_SDK: Final = frozenset(
    {
        "THALWEG_ATTEMPT",
        "THALWEG_CA_FILE",
        "THALWEG_CLIENT_CERT",
        "THALWEG_CLIENT_KEY",
        "THALWEG_GRPC",
        "THALWEG_MODE",
        "THALWEG_PROJECT",
        "THALWEG_RUN_ID",
        "THALWEG_SPOOL_DIR",
        "THALWEG_SPOOL_LIMIT_BYTES",
        "THALWEG_SYSTEM_INTERVAL_S",
        "THALWEG_TOKEN",
        "THALWEG_URL",
    }
)
OF_SERVER: Final = frozenset(
    {
        "THALWEG_ADMIN_TOKEN",
        "THALWEG_ADMIN_TOKEN_FILE",
        "THALWEG_AUTH",
        "THALWEG_CHECKPOINT_PLACES",
        "THALWEG_CORS_ORIGINS",
        "THALWEG_DATA",
        "THALWEG_DRAIN_S",
        "THALWEG_LIMIT_METRICS_PER_RUN",
        "THALWEG_LIMIT_POINTS_PER_S",
        "THALWEG_LIMIT_QUERY_SECONDS_PER_S",
        "THALWEG_LIMIT_REQUESTS_PER_S",
        "THALWEG_LIMIT_STREAMS",
        "THALWEG_LISTEN_GRPC",
        "THALWEG_LISTEN_HTTP",
        "THALWEG_LOG_FORMAT",
        "THALWEG_OBJECTS",
        "THALWEG_OPS",
        "THALWEG_S3_ENCRYPTION",
        "THALWEG_S3_ENDPOINT",
        "THALWEG_S3_PATH_STYLE",
        "THALWEG_S3_REGION",
        "THALWEG_STORE",
        "THALWEG_TLS_CERT",
        "THALWEG_TLS_CLIENT_CA",
        "THALWEG_TLS_KEY",
    }
)
KNOWN: Final = OF_SDK | OF_SERVER
_OF_KUBERNETES: Final = re.compile(
    r"THALWEG_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP)(_.+)?)?)"
)
"""What a cluster sets in every container of a namespace with a service of such a name."""


def unknown(names: Iterable[str]) -> list[str]:
    """Those that look like settings of Thalweg and are none, in order."""
    ours = (name for name in names if name.startswith(PREFIX))
    return sorted(name for name in ours if name not in KNOWN and not _OF_KUBERNETES.fullmatch(name))


def nearest(name: str) -> str | None:
    """The variable that was most likely meant."""
    found = difflib.get_close_matches(name, KNOWN, 1, 0.8)
    return found[0] if found else None
