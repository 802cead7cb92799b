"""Settings of the server: one frozen object, made once from arguments and environment."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from thalweg_tracker.errors import SettingError

DEFAULT_GRPC: Final = "127.0.0.1:7411"
DEFAULT_HTTP: Final = "127.0.0.1:7412"
DRAIN_S: Final = 10.0


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


@dataclass(frozen=True, slots=True)
class FileObjects:
    """Checkpoints lie in a folder of the server's disk."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)


@dataclass(frozen=True, slots=True)
class Encryption:
    """Server-side encryption that is asked for each object. `kms_key_id`: None for the account's own key."""

    algorithm: Literal["AES256", "aws:kms"]
    kms_key_id: str | None = None


@dataclass(frozen=True, slots=True)
class S3Objects:
    """Checkpoints lie in a bucket. Credentials are not settings of ours: they come from AWS' own chain."""

    bucket: str
    prefix: str
    """Without slashes at its ends; may be empty."""
    endpoint: str | None
    """URL; None for AWS itself."""
    region: str | None
    """None: AWS' own settings tell, else us-east-1."""
    path_style: bool
    """The bucket is in the path of a URL, not in its host."""
    encryption: Encryption | None

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


ObjectSettings = FileObjects | S3Objects


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """All that a server process is told: which roles it has, and what they stand on."""

    store: Store
    grpc: Address | None = None
    """Where the ingest listens; None: this process does not have that role."""
    http: Address | None = None
    """Where the API listens; None: this process does not have that role."""
    told: str | None = None
    """gRPC address that the API names to senders where another process has the ingest."""
    objects: ObjectSettings | None = None
    """Where checkpoints go; None: nowhere."""
    drain_s: float = DRAIN_S
    """From the order to stop to the end of the process, at most."""


_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_PREFIX: Final = re.compile(r"[A-Za-z0-9!_.*'()=+-]+(/[A-Za-z0-9!_.*'()=+-]+)*")
_PREFIX_MAX_CHARS: Final = 256
_REGION: Final = re.compile(r"[a-z0-9-]{1,64}")
_KMS_KEY: Final = re.compile(r"[A-Za-z0-9:/_-]{1,2048}")


def parse_objects(key: str, text: str | None, environ: Mapping[str, str], store: Store) -> ObjectSettings | None:
    """`s3://bucket/prefix` or a folder; `text` None takes THALWEG_OBJECTS, THALWEG_S3_* say how to reach a bucket.

    Without any: `objects` in the folder of the embedded engine, None for servers. Raises SettingError.
    """
    if text is None and (text := environ.get("THALWEG_OBJECTS", "")):
        key = "THALWEG_OBJECTS"
    if not text:
        return FileObjects(store.data_dir / "objects") if isinstance(store, EmbeddedStore) else None
    if "://" not in text:
        return FileObjects(Path(text).expanduser().absolute())
    scheme, _, rest = text.partition("://")
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.rstrip("/")
    is_path = not {".", ".."} & set(prefix.split("/"))
    is_prefix = not prefix or (_PREFIX.fullmatch(prefix) and is_path and len(prefix) <= _PREFIX_MAX_CHARS)
    if scheme != "s3" or not _BUCKET.fullmatch(bucket) or not is_prefix:
        shown = re.sub(r"://.*@", "://***@", text)  # no place for a secret, but someone may have written one
        raise SettingError(key, shown, "a folder, or s3://bucket/prefix of letters, digits and !_.*'()=+-")
    endpoint = _endpoint(environ)
    return S3Objects(bucket, prefix, endpoint, _region(environ), _path_style(environ, endpoint), _encryption(environ))


def _endpoint(environ: Mapping[str, str]) -> str | None:
    name = "THALWEG_S3_ENDPOINT"
    if not (text := environ.get(name, "")):
        return None
    try:
        parts = urlsplit(text)
        is_plain = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, or an open bracket
        is_plain = False
    if not is_plain or "@" in text or parts.path.strip("/") or parts.query or parts.fragment:
        shown = re.sub(r"://.*@", "://***@", text)
        raise SettingError(name, shown, "http://host:port or https://host:port, without user and path")
    return text.rstrip("/")


def _region(environ: Mapping[str, str]) -> str | None:
    name = "THALWEG_S3_REGION"
    text = environ.get(name, "")
    if text and not _REGION.fullmatch(text):
        raise SettingError(name, text, "a region, such as eu-west-1")
    return text or None


def _path_style(environ: Mapping[str, str], endpoint: str | None) -> bool:
    """Without the setting: yes for an endpoint of one's own, which has seldom a host name for each bucket."""
    name = "THALWEG_S3_PATH_STYLE"
    text = environ.get(name, "")
    if text not in ("", "true", "false"):
        raise SettingError(name, text, "true or false")
    return text == "true" if text else endpoint is not None


def _encryption(environ: Mapping[str, str]) -> Encryption | None:
    name = "THALWEG_S3_ENCRYPTION"
    text = environ.get(name, "")
    if text in ("", "none"):
        return None
    if text == "AES256":
        return Encryption("AES256")
    if text == "aws:kms":
        return Encryption("aws:kms")
    key_id = text.removeprefix("aws:kms:")
    if key_id == text or not _KMS_KEY.fullmatch(key_id):
        raise SettingError(name, text, "none, AES256, aws:kms or aws:kms:KEY_ID")
    return Encryption("aws:kms", key_id)
