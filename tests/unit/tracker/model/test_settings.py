"""Settings: what is taken, and what a person is told of the rest; never a password."""

from __future__ import annotations

import pytest

from thalweg_tracker.errors import SettingError
from thalweg_tracker.model.settings import (
    Address,
    EmbeddedStore,
    ServerStore,
    parse_address,
    parse_any_address,
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


@pytest.mark.parametrize("text", ["0.0.0.0:7411", "192.168.0.1:80", "[::]:80", "example.org:80", "8.8.8.8:0"])
def test_a_network_address_is_refused(text: str) -> None:
    """Without authentication the server listens on loopback alone, and says why."""
    with pytest.raises(SettingError, match="without authentication"):
        parse_address("--grpc", text)


@pytest.mark.parametrize("text", ["0.0.0.0:9464", "[::]:0", "127.0.0.1:80"])
def test_probes_and_metrics_may_be_on_any(text: str) -> None:
    """They tell nothing of runs, and take nothing in."""
    assert str(parse_any_address("--ops", text)) == text


@pytest.mark.parametrize(
    ("text", "store"),
    [
        ("clickhouse://h", ServerStore((("h", 9000),), "thalweg", "default", "")),
        ("clickhouse://h:1/d", ServerStore((("h", 1),), "d", "default", "")),
        ("clickhouse://u:p@h:1,i,j:2/d/", ServerStore((("h", 1), ("i", 9000), ("j", 2)), "d", "u", "p")),
        ("clickhouse://u@h", ServerStore((("h", 9000),), "thalweg", "u", "")),
        ("clickhouse://u%40x:p%40s%2Fs%3A@h", ServerStore((("h", 9000),), "thalweg", "u@x", "p@s/s:")),
        ("clickhouse://u:p@ss@h", ServerStore((("h", 9000),), "thalweg", "u", "p@ss")),
    ],
)
def test_stores_of_servers(text: str, store: ServerStore) -> None:
    """Hosts, database and user, with their defaults; what a URL cannot hold is percent-encoded."""
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
    ],
)
def test_a_bad_store_is_refused_without_its_password(text: str) -> None:
    """Whatever is wrong with it, the message says what is wanted and no part of the password."""
    with pytest.raises(SettingError) as caught:
        parse_store("--store", text)
    assert SECRET not in str(caught.value)
    assert "--store" in str(caught.value)


def test_the_password_is_in_no_text_of_a_store() -> None:
    """Neither str nor repr."""
    store = parse_store("--store", f"clickhouse://u:{SECRET}@h/d")
    assert SECRET not in f"{store} {store!r}"
