"""Settings of the server: one frozen object, made once from arguments and environment."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from thalweg_tracker.errors import SettingError

DEFAULT_GRPC: Final = "127.0.0.1:7411"
DEFAULT_HTTP: Final = "127.0.0.1:7412"


@dataclass(frozen=True, slots=True)
class Address:
    """A host and port to listen on; port 0 takes any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class EmbeddedStore:
    """The embedded engine: a folder is the database."""

    data_dir: Path

    def __str__(self) -> str:
        return str(self.data_dir)


@dataclass(frozen=True, slots=True)
class ServerStore:
    """A ClickHouse server, or several that hold the same data."""

    hosts: tuple[tuple[str, int], ...]
    database: str
    user: str
    password: str = field(repr=False)

    def __str__(self) -> str:
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"clickhouse://{hosts}/{self.database}"


Store = EmbeddedStore | ServerStore


def parse_address(key: str, text: str) -> Address:
    """`host:port` on loopback. Raises SettingError."""
    wanted = "host:port, such as 127.0.0.1:7411"
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise SettingError(key, text, wanted)
    if not _is_loopback(host):
        raise SettingError(
            key, text, "a loopback address: without authentication the server does not listen on a network"
        )
    return Address(host, int(port))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_store(key: str, text: str) -> Store:
    """A folder, or clickhouse://user:password@host1:9000,host2:9000/database. Raises SettingError."""
    if "://" not in text:
        return EmbeddedStore(Path(text).expanduser().absolute())
    wanted = "a folder, or clickhouse://user:password@host:9000/database"
    parts = urlsplit(text)
    shown = text.replace(parts.password, "***") if parts.password else text
    hosts = tuple(_host_port(key, shown, entry) for entry in parts.netloc.rpartition("@")[2].split(","))
    database = parts.path.strip("/") or "thalweg"
    if parts.scheme != "clickhouse" or not database.isidentifier() or parts.query:
        raise SettingError(key, shown, wanted)
    return ServerStore(hosts, database, parts.username or "default", parts.password or "")


def _host_port(key: str, shown: str, entry: str) -> tuple[str, int]:
    host, _, port = entry.partition(":")
    if not host or not (port or "9000").isdecimal():
        raise SettingError(key, shown, "hosts as host:port, separated by commas")
    return host, int(port or 9000)
