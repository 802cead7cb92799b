"""Settings: what is taken, and what a person is told of the rest; never a password."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from thalweg_tracker.errors import SettingError
from thalweg_tracker.model.access import AccessSettings, LimitSettings, parse_access
from thalweg_tracker.model.settings import (
    Address,
    EmbeddedStore,
    ServerSettings,
    ServerStore,
    check_exposure,
    parse_address,
    parse_store,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7411", Address("127.0.0.1", 7411)),
        ("127.9.9.9:0", Address("127.9.9.9", 0)),
        ("localhost:65535", Address("localhost", 65_535)),
        ("[::1]:80", Address("::1", 80)),
    ],
)
def test_addresses_on_loopback(text: str, address: Address) -> None:
    """host:port; the text of an address can be read again."""
    assert parse_address("--http", text) == address
    assert parse_address("--http", str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "7411", ":7411", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:65536"]
)
def test_what_is_no_address(text: str) -> None:
    """The error names key, value and wanted form."""
    with pytest.raises(SettingError, match=r"cannot use --http='.*': wanted host:port"):
        parse_address("--http", text)


NETWORK = ["0.0.0.0:7411", "192.168.0.1:80", "[::]:80", "example.org:80", "8.8.8.8:0"]
DATA = EmbeddedStore(Path("/data"))


@pytest.mark.parametrize("text", NETWORK)
@pytest.mark.parametrize("role", ["grpc", "http"])
def test_a_network_is_served_with_tokens_only(text: str, role: str) -> None:
    """What is wanted instead is told, with the option that it is about."""
    settings = ServerSettings(DATA, **{role: parse_address(f"--{role}", text)})
    with pytest.raises(SettingError, match=f"--{role}=.*or --auth tokens"):
        check_exposure(settings)
    check_exposure(replace(settings, access=AccessSettings(tokens=True)))


@pytest.mark.parametrize("text", ["127.0.0.1:1", "localhost:1", "[::1]:1"])
def test_this_machine_is_served_without(text: str) -> None:
    """As a person alone wants it."""
    check_exposure(ServerSettings(DATA, grpc=parse_address("--grpc", text), http=parse_address("--http", text)))


def test_the_first_token_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    """It is long enough, and is shown nowhere."""
    token = "t" * 32
    (tmp_path / "token").write_text(f"{token}\n")
    for environ in ({"THALWEG_ADMIN_TOKEN": token}, {"THALWEG_ADMIN_TOKEN_FILE": str(tmp_path / "token")}):
        access = parse_access(environ, auth="tokens")
        assert (access.initial, access.tokens) == (token, True)
        assert token not in repr(ServerSettings(DATA, access=access))
    assert parse_access({}, auth="none") == AccessSettings()
    for bad in ("secret" + "s" * 20, "tab\t" + "x" * 40):
        with pytest.raises(SettingError, match="at least 32 random letters") as caught:
            parse_access({"THALWEG_ADMIN_TOKEN": bad}, auth="tokens")
        assert bad not in str(caught.value)
    with pytest.raises(SettingError, match="a file that can be read"):
        parse_access({"THALWEG_ADMIN_TOKEN_FILE": str(tmp_path / "none")}, auth="tokens")


@pytest.mark.parametrize(
    ("environ", "origins", "told"),
    [
        ({"THALWEG_LIMIT_STREAMS": "-1"}, "", "THALWEG_LIMIT_STREAMS='-1'"),
        ({"THALWEG_LIMIT_POINTS_PER_S": "many"}, "", "a number, 0 or more"),
        ({"THALWEG_LIMIT_REQUESTS_PER_S": "inf"}, "", "a number, 0 or more"),
        ({"THALWEG_CHECKPOINT_PLACES": "s3://bucket"}, "", "folders such as"),
        ({"THALWEG_CHECKPOINT_PLACES": "http://169.254.169.254/"}, "", "folders such as"),
        ({"THALWEG_CHECKPOINT_PLACES": "file:///a/../b/"}, "", "folders such as"),
        ({}, "*", "origins such as"),
        ({}, "https://a.example, ftp://b", "'ftp://b'"),
    ],
)
def test_settings_of_access_that_are_none(environ: dict[str, str], origins: str, told: str) -> None:
    """Each is told with its name and what it should be."""
    with pytest.raises(SettingError, match=re.escape(told)):
        parse_access(environ, auth="tokens", origins=origins)


def test_settings_of_access() -> None:
    """Limits by their names, places and origins as lists."""
    access = parse_access(
        {"THALWEG_LIMIT_POINTS_PER_S": "1e6", "THALWEG_CHECKPOINT_PLACES": "s3://b/p/, file:///shared/"},
        auth="tokens",
        origins="https://a.example/, http://localhost:3000",
    )
    assert access.limits == LimitSettings(points_per_s=1e6)
    assert access.checkpoint_places == ("s3://b/p/", "file:///shared/")
    assert access.origins == ("https://a.example", "http://localhost:3000")


def test_probes_and_metrics_may_be_on_any() -> None:
    """They tell nothing of runs, and take nothing in."""
    check_exposure(ServerSettings(DATA, ops=parse_address("--ops", "0.0.0.0:9464")))


@pytest.mark.parametrize(
    ("text", "store"),
    [
        ("clickhouse://h", ServerStore((("h", 9000),), "thalweg", "default", "")),
        ("clickhouse://h:1/d", ServerStore((("h", 1),), "d", "default", "")),
        ("clickhouse://u:p@h:1,i,j:2/d/", ServerStore((("h", 1), ("i", 9000), ("j", 2)), "d", "u", "p")),
        ("clickhouse://u@h", ServerStore((("h", 9000),), "thalweg", "u", "")),
        ("clickhouse://u%40x:p%40s%2Fs%3A@h", ServerStore((("h", 9000),), "thalweg", "u@x", "p@s/s:")),
        ("clickhouse://u:p@ss@h", ServerStore((("h", 9000),), "thalweg", "u", "p@ss")),
        ("clickhouse://[::1],[fe80::2]:5/d", ServerStore((("::1", 9000), ("fe80::2", 5)), "d", "default", "")),
        ("clickhouse://h,i:1?secure=true", ServerStore((("h", 9440), ("i", 1)), "thalweg", "default", "", secure=True)),
        (
            "clickhouse://u:p@h/d?cluster=main&quorum=2&secure=true&verify=false&ca=/etc/a%20b.pem",
            ServerStore((("h", 9440),), "d", "u", "p", "main", True, False, Path("/etc/a b.pem"), 2),
        ),
    ],
)
def test_stores_of_servers(text: str, store: ServerStore) -> None:
    """Hosts, database, user and options, with their defaults; what a URL cannot hold is percent-encoded."""
    assert parse_store("--store", text) == store


def test_a_folder_is_an_embedded_store() -> None:
    """Its path is absolute; `~` is the home folder."""
    found = parse_store("--data", "~/x")
    assert isinstance(found, EmbeddedStore)
    assert found.data_dir.is_absolute()
    assert "~" not in str(found)


SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "text",
    [
        f"http://u:{SECRET}@h/d",
        f"clickhouse://u:{SECRET}@/d",
        f"clickhouse://u:{SECRET}@h:port/d",
        f"clickhouse://u:{SECRET}@h:99999/d",
        f"clickhouse://u:{SECRET}@h/d-d",
        f"clickhouse://u:{SECRET}@h/d?secure=1",
        f"clickhouse://u:{SECRET}@h/d#x",
        f"clickhouse://u:{SECRET}@[::1/d",
        f"clickhouse://u:{SECRET}/x@h/d",
        f"clickhouse://u:{SECRET}#x@h/d",
        f"clickhouse://u:x/{SECRET}@h/d",
        f"clickhouse://u:?{SECRET}@h/d",
        f"clickhouse://u:{SECRET}/d",
        f"clickhouse://h/d?password={SECRET}",
        f"clickhouse://h/d?{SECRET}",
        f"clickhouse://h/d#{SECRET}",
        f"clickhouse://u:{SECRET}@h/d?cluster=a-b",
        f"clickhouse://u:{SECRET}@h/d?cluster=",
        f"clickhouse://u:{SECRET}@h/d?quorum=2",
        f"clickhouse://u:{SECRET}@h/d?cluster=a&quorum=0",
        f"clickhouse://u:{SECRET}@h/d?verify=false",
        f"clickhouse://u:{SECRET}@h/d?ca=/x",
        f"clickhouse://u:{SECRET}@h/d?cluster=a&{SECRET}=1",
        f"clickhouse://u:{SECRET}@h:0/d",
    ],
)
def test_a_bad_store_is_refused_without_its_password(text: str) -> None:
    """Whatever is wrong with it, the message says what is wanted and no part of the password."""
    with pytest.raises(SettingError) as caught:
        parse_store("--store", text)
    assert SECRET not in str(caught.value)
    assert "--store" in str(caught.value)


def test_the_password_is_in_no_text_of_a_store() -> None:
    """Neither str nor repr; what else it is can be read."""
    store = parse_store("--store", f"clickhouse://u:{SECRET}@h,[::1]:1/d?cluster=main&secure=true")
    assert SECRET not in f"{store} {store!r}"
    assert str(store) == "clickhouse://h:9440,[::1]:1/d?cluster=main&secure=true"
