"""The gRPC address that a server told, as it is seen from here. Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

_ALL_ADDRESSES: Final = ("0.0.0.0", "[::]")  # noqa: S104  # they are looked for, not listened on


def seen_from_here(told: str, url: str) -> str:
    """`told`; of a server that listens on all its addresses, as in a container, its port on the host of `url`."""
    scheme, mark, place = told.rpartition("://")
    host, _, port = place.rpartition(":")
    if host not in _ALL_ADDRESSES:
        return told
    name = urlsplit(url).hostname or ""
    return f"{scheme}{mark}{f'[{name}]' if ':' in name else name}:{port}"
