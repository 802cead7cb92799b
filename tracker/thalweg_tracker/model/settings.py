"""Settings of the server: one frozen object, made once from arguments and environment."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

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
    shown = re.sub(r"(?<=://)([^:]*):.*@", r"\1:***@", text)  # whatever `urlsplit` takes for the password
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise SettingError(key, shown, wanted) from error
    hosts = tuple(_host_port(key, shown, entry) for entry in parts.netloc.rpartition("@")[2].split(","))
    database = parts.path.strip("/") or "thalweg"
    if parts.scheme != "clickhouse" or not database.isidentifier() or parts.query or parts.fragment:
        raise SettingError(key, shown, wanted)
    user, password = unquote(parts.username or "default"), unquote(parts.password or "")
    return ServerStore(hosts, database, user, password)


def _host_port(key: str, shown: str, entry: str) -> tuple[str, int]:
    host, _, port = entry.partition(":")
    if not host or not (port or "9000").isdecimal() or int(port or 9000) > 65_535:
        raise SettingError(key, shown, "hosts as host:port, separated by commas")
    return host, int(port or 9000)
