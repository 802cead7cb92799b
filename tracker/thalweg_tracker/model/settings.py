"""Settings of the server: one frozen object, made once from arguments and environment."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from thalweg_tracker.errors import SettingError
from thalweg_tracker.model.access import EVERYBODY_HERE, AccessSettings

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
    cluster: str | None = None
    """Name of the cluster over whose hosts the tables lie; None: each host has all of them."""
    secure: bool = False
    """Whether to speak TLS."""
    verify: bool = True
    """Whether a host has to show a certificate for its name that `ca` has signed."""
    ca: Path | None = None
    """Certificates of authorities; None: those that this machine trusts."""
    quorum: int | None = None
    """Replicas of a shard that must have a row before its insert returns; None: engine/cluster.py chooses."""

    def __str__(self) -> str:
        hosts = ",".join(str(Address(host, port)) for host, port in self.hosts)
        options = {"cluster": self.cluster, "secure": "true" if self.secure else None}
        shown = "&".join(f"{name}={value}" for name, value in options.items() if value)
        return f"clickhouse://{hosts}/{self.database}" + (f"?{shown}" if shown else "")


Store = EmbeddedStore | ServerStore


def parse_address(key: str, text: str) -> Address:
    """`host:port`. Raises SettingError."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise SettingError(key, text, "host:port, such as 127.0.0.1:7411")
    return Address(host, int(port))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_STORE_WANTED: Final = (
    "a folder, or clickhouse://user:password@host:9000/database with the options"
    " ?cluster=NAME&quorum=N&secure=true&verify=false&ca=PATH"
)
_CLUSTER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def parse_store(key: str, text: str) -> Store:
    """A folder, or clickhouse://user:password@host1:9440,host2:9440/database?cluster=main&secure=true.

    What a URL cannot hold is percent-encoded. Raises SettingError, in which no password stands.
    """
    if "://" not in text:
        return EmbeddedStore(Path(text).expanduser().absolute())
    shown = _without_secrets(text)
    try:
        parts = urlsplit(text)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)) if parts.query else {}
    except ValueError as error:
        raise SettingError(key, shown, _STORE_WANTED) from error
    database = unquote(parts.path.strip("/")) or "thalweg"
    unknown = options.keys() - {"cluster", "quorum", "secure", "verify", "ca"}
    if parts.scheme != "clickhouse" or not database.isidentifier() or unknown or parts.fragment:
        raise SettingError(key, shown, _STORE_WANTED)
    secure = _flag(key, shown, options, "secure", default=False)
    verify = _flag(key, shown, options, "verify", default=True)
    if not secure and options.keys() & {"verify", "ca"}:
        raise SettingError(key, shown, "verify and ca together with secure=true: without TLS they mean nothing")
    cluster = options.get("cluster")
    if cluster is not None and not _CLUSTER.fullmatch(cluster):
        raise SettingError(key, shown, "cluster=NAME with a name of letters, digits and underscores")
    quorum = options.get("quorum")
    if quorum is not None and (cluster is None or not re.fullmatch("[1-9][0-9]?", quorum)):
        raise SettingError(key, shown, "quorum=N, a number of replicas, together with cluster=NAME")
    return ServerStore(
        tuple(_host_port(key, shown, one, secure=secure) for one in parts.netloc.rpartition("@")[2].split(",")),
        database,
        unquote(parts.username or "default"),
        unquote(parts.password or ""),
        cluster,
        secure,
        verify,
        Path(options["ca"]).expanduser().absolute() if options.get("ca") else None,
        int(quorum) if quorum else None,
    )


def _without_secrets(text: str) -> str:
    """A URL as it may be told: whatever could be a password, also of one that is written wrongly, is left out."""
    scheme, _, rest = text.partition("://")
    before, at, after = rest.rpartition("@")
    user = before.partition(":")[0] + ":***" if ":" in before else "" if re.search(r"[^\w.%-]", before) else before
    after = re.sub(r":(?!\d{1,5}(?:[,/?#]|$))[^,/?#]*", ":***", after)  # a port that is none: the host was forgotten
    after = re.sub(r"([?&#])(?!(?:cluster|quorum|secure|verify|ca)=)[^&#]+", r"\1***", after)
    return f"{scheme}://{user}{at}{after}"


def _flag(key: str, shown: str, options: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = options.get(name)
    if text not in (None, "true", "false"):
        raise SettingError(key, shown, f"{name}=true or {name}=false")
    return default if text is None else text == "true"


def _host_port(key: str, shown: str, entry: str, *, secure: bool) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+))(?::(\d{1,5}))?", entry)
    if not found or int(found[3] or 1) not in range(1, 65_536):
        raise SettingError(key, shown, "hosts as host:port, separated by commas")
    return found[1] or found[2], int(found[3] or (9440 if secure else 9000))


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
    """gRPC address that the API names to senders, where it is not that of this process."""
    objects: ObjectSettings | None = None
    """Where checkpoints go; None: nowhere."""
    access: AccessSettings = EVERYBODY_HERE
    ops: Address | None = None
    """Where probes and metrics are served beside the roles, also off loopback; None: with the API alone."""
    drain_s: float = DRAIN_S
    """From the order to stop to the end of the process, at most."""


def check_exposure(settings: ServerSettings) -> None:
    """That nobody can reach the server from a network without a token. Raises SettingError."""
    for key, address in (("--grpc", settings.grpc), ("--http", settings.http)):
        if address is not None and not settings.access.tokens and not is_loopback(address.host):
            raise SettingError(
                key, str(address), "a loopback address, or --auth tokens: others could read and write everything"
            )


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
