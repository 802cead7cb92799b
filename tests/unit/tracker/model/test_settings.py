"""Settings: what is taken, and what a person is told of the rest; never a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from thalweg_tracker.errors import SettingError
from thalweg_tracker.model.settings import Address, EmbeddedStore, ServerStore, parse_address, parse_store


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


@pytest.mark.parametrize("text", ["0.0.0.0:7411", "192.168.0.1:80", "[::]:80", "example.org:80", "8.8.8.8:0"])
def test_a_network_address_is_refused(text: str) -> None:
    """Without authentication the server listens on loopback alone, and says why."""
    with pytest.raises(SettingError, match="without authentication"):
        parse_address("--grpc", text)


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
