"""A manifest comes back as it was written, or says that it is damaged."""

import json

import pytest

from thalweg_tracker.care import manifest as manifests
from thalweg_tracker.care.manifest import Manifest, StoredFile, TableContent, as_checksum, from_json, to_json
from thalweg_tracker.errors import RejectedError

FILE = StoredFile("points/000001.parquet", 3, 100, "ab")
MANIFEST = Manifest(
    "0.1", 7, {1: "x", 5: "y"}, (TableContent("points", 3, "0f", (FILE,)), TableContent("a", 0, "0", ()))
)


def test_it_comes_back() -> None:
    assert from_json(to_json(MANIFEST), "there") == MANIFEST
    assert (MANIFEST.schema, MANIFEST.rows, MANIFEST.size_bytes, MANIFEST.rows_of("points")) == (5, 3, 100, 3)


@pytest.mark.parametrize("place", range(0, len(to_json(MANIFEST)), 7))
def test_any_changed_byte_is_noticed(place: int) -> None:
    """Be it in a name, a number or the structure; only what JSON ignores may differ."""
    text = to_json(MANIFEST)
    other = text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]
    try:
        if json.loads(other) == json.loads(text):
            return
    except ValueError:
        pass
    with pytest.raises(RejectedError):
        from_json(other, "there")


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"null", b'{"sha256": 1}', b"\xff", to_json(MANIFEST)[:-20]])
def test_what_is_no_manifest(text: bytes) -> None:
    with pytest.raises(RejectedError, match=r"cannot read the backup there: manifest.json is damaged"):
        from_json(text, "there")


def test_a_format_of_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not guessed at."""
    monkeypatch.setattr(manifests, "FORMAT", 2)
    text = to_json(MANIFEST)
    monkeypatch.undo()
    with pytest.raises(RejectedError, match="its format is 2, this version knows 1"):
        from_json(text, "there")


def test_checksums_have_64_bits() -> None:
    assert as_checksum(2**64 + 10) == as_checksum(10) == "000000000000000a"
