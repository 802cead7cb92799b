"""Uploads on disk: what is listed is there, whatever happened in between."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from thalweg_tracker.errors import NotFoundError, RejectedError
from thalweg_tracker.objects.contract import Part
from thalweg_tracker.objects.drafts import PART_BYTES, Draft, checked_size


def md5(body: bytes) -> bytes:
    return hashlib.md5(body).digest()


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    """An upload with the parts 1 and 3."""
    made = Draft.begin(tmp_path / "upload", "file:///x")
    made.put(3, b"three", md5(b"three"))
    made.put(1, b"one", md5(b"one"))
    return made


def test_parts_lie_at_their_offsets(draft: Draft) -> None:
    """The draft is the object once all are there."""
    with draft.file.open("rb") as file:
        assert file.read(3) == b"one"
        file.seek(2 * PART_BYTES)
        assert file.read() == b"three"
    assert draft.parts() == [Part(1, md5(b"one").hex(), 3), Part(3, md5(b"three").hex(), 5)]
    assert draft.uri() == "file:///x"


@pytest.mark.parametrize("byte", range(24))
def test_a_torn_record_is_no_part(draft: Draft, byte: int) -> None:
    """A power loss may leave anything: the checksum tells, and the part is sent again."""
    path = draft.folder / "parts"
    content = bytearray(path.read_bytes())
    content[byte] ^= 0xFF
    path.write_bytes(content)
    assert [part.number for part in draft.parts()] == [3]
    path.write_bytes(content[:-1])
    assert draft.parts() == []
    draft.put(1, b"again", md5(b"again"))
    assert draft.parts()[0] == Part(1, md5(b"again").hex(), 5)


def test_a_record_in_the_place_of_another_is_no_part(draft: Draft) -> None:
    """The checksum is also of the number."""
    path = draft.folder / "parts"
    content = path.read_bytes()
    path.write_bytes(content[:32] * 2 + content[64:])
    assert [part.number for part in draft.parts()] == [1, 3]


def test_what_is_gone_is_not_found(draft: Draft) -> None:
    """A removed upload, and one that was moved away when complete."""
    draft.file.unlink()
    assert not draft.is_open()
    with pytest.raises(NotFoundError):
        draft.put(1, b"x", md5(b"x"))
    with pytest.raises(NotFoundError):
        draft.finish(0)
    assert len(draft.parts()) == 2
    draft.remove()
    draft.remove()
    with pytest.raises(NotFoundError):
        draft.parts()


FULL = PART_BYTES


@pytest.mark.parametrize(
    ("sizes", "asked", "expected"),
    [
        ([FULL, 5], "ab", FULL + 5),
        ([FULL, FULL], "ab", 2 * FULL),
        ([0], "a", 0),
        ([FULL, 5, 9], "ab", FULL + 5),
        ([FULL - 1, 5], "ab", "part 1 has 8388607 bytes"),
        ([FULL], "ab", "part 2 has not arrived"),
        ([FULL, 5], "aa", "part 2 arrived with the etag b"),
        ([FULL, 5], "", "0 were named"),
    ],
)
def test_the_size_of_an_object(sizes: list[int], asked: str, expected: int | str) -> None:
    """All parts but the last are full, and each is the one that was named."""
    arrived = [Part(number, "abc"[number - 1], size) for number, size in enumerate(sizes, 1)]
    named = list(enumerate(asked, 1))
    if isinstance(expected, int):
        assert checked_size(named, arrived) == expected
    else:
        with pytest.raises(RejectedError, match=expected):
            checked_size(named, arrived)
