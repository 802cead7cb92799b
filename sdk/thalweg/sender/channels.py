"""gRPC channels to a server's ingest: plain, or with the TLS that the environment names."""

from __future__ import annotations

import ipaddress
import os

import grpc

from thalweg.tls import TlsFiles, grpc_place
from thalweg.wire import policy


def open_channel(address: str) -> grpc.aio.Channel:
    """A channel to host:port, or grpcs://host:port. Raises SettingError, OSError where TLS cannot be set up."""
    place, credentials = _target(address)
    if credentials is None:
        return grpc.aio.insecure_channel(place, options=policy.CLIENT_OPTIONS)
    return grpc.aio.secure_channel(place, credentials, options=policy.CLIENT_OPTIONS)


def open_blocking_channel(address: str) -> grpc.Channel:
    """The same for callers without an event loop."""
    place, credentials = _target(address)
    if credentials is None:
        return grpc.insecure_channel(place, options=policy.CLIENT_OPTIONS)
    return grpc.secure_channel(place, credentials, options=policy.CLIENT_OPTIONS)


def is_private(address: str) -> bool:
    """Whether nobody on the way can read what is said there: with TLS, or on this machine."""
    place, is_secure = grpc_place(address)
    host = place.rpartition(":")[0].strip("[]")
    return is_secure or _is_loopback(host)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bearer_metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """What a call carries to show a token."""
    return (("authorization", f"Bearer {token}"),) if token else ()


def _target(address: str) -> tuple[str, grpc.ChannelCredentials | None]:
    place, is_secure = grpc_place(address)
    if not is_secure:
        return place, None
    ca, certificate, key = TlsFiles.read(os.environ).contents()
    return place, grpc.ssl_channel_credentials(ca, key, certificate)
