"""The store of S3: what is beside the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import unquote

import pytest

from tests.support.object_stores import opened_store
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, credentials, start_s3
from thalweg_tracker.errors import RejectedError
from thalweg_tracker.model.settings import Encryption, S3Objects
from thalweg_tracker.objects.s3 import PART_MAX_BYTES, S3Store

MIB = 1 << 20
SETTINGS = S3Objects("bucket", "team/a", None, None, False, None)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """An endpoint with one bucket."""
    with start_s3() as running:
        running.make_bucket("bucket")
        yield running


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in credentials().items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("size_bytes", "part_bytes"),
    [
        (0, 16 * MIB),
        (1, 16 * MIB),
        (160_000 * MIB, 16 * MIB),
        (160_000 * MIB + 1, 17 * MIB),
        (10_000 * PART_MAX_BYTES, PART_MAX_BYTES),
    ],
)
def test_the_size_of_parts(size_bytes: int, part_bytes: int) -> None:
    """As small as 10,000 parts allow, whole MiB."""
    assert S3Store(SETTINGS).part_bytes(size_bytes) == part_bytes
    with pytest.raises(RejectedError, match="at most"):
        S3Store(SETTINGS).part_bytes(10_000 * PART_MAX_BYTES + 1)


@pytest.mark.parametrize(
    ("uri", "covers", "readable"),
    [
        ("s3://bucket/team/a/x", True, True),
        ("s3://bucket/team/a/", False, True),
        ("s3://bucket/team/a", False, True),
        ("s3://bucket/team/ab/x", False, True),
        ("s3://bucket/other", False, True),
        ("s3://bucket/team/a/../b", False, False),
        ("s3://other/team/a/x", False, False),
        ("file:///team/a/x", False, False),
    ],
)
def test_what_it_covers(uri: str, covers: bool, readable: bool) -> None:
    """Its prefix for writing, listing and fetching, its bucket for a look at one object."""
    store = S3Store(SETTINGS)
    assert (store.covers(uri), store.downloadable(uri), store.readable(uri)) == (covers, covers, readable)


def test_the_rest_of_the_bucket_is_not_handed_out(s3: S3Server) -> None:
    """Neither fetched, listed nor deleted: anybody may log a pointer to it."""
    settings = replace(SETTINGS, endpoint=s3.endpoint, path_style=True)

    async def main() -> None:
        async with opened_store(replace(settings, prefix="team/b")) as other:
            uri, folder = other.store.uri_for("f", "x"), other.store.uri_for("f", "")
            await other.upload(uri, [b"x"])
        async with opened_store(settings) as opened:
            store = opened.store
            assert await store.head(uri) is not None
            for refused in (store.presign_get(uri), store.delete([uri]), store.list_objects(folder, 10)):
                with pytest.raises(RejectedError):
                    await refused

    asyncio.run(main())


@pytest.mark.parametrize(
    ("settings", "begin"),
    [
        (SETTINGS, "https://bucket.s3.amazonaws.com/team/a/x?"),
        (replace(SETTINGS, region="eu-west-1"), "https://bucket.s3.eu-west-1.amazonaws.com/team/a/x?"),
        (replace(SETTINGS, path_style=True), "https://s3.amazonaws.com/bucket/team/a/x?"),
        (replace(SETTINGS, endpoint="http://minio:9000", path_style=True), "http://minio:9000/bucket/team/a/x?"),
        (replace(SETTINGS, endpoint="http://minio:9000"), "http://bucket.minio:9000/team/a/x?"),
    ],
)
def test_urls(settings: S3Objects, begin: str) -> None:
    """Absolute, for the endpoint as it was named, signed by version 4, without the secret."""

    async def sign() -> list[str]:
        async with S3Store(settings) as store:
            uri = store.uri_for("x")
            return [await store.presign_get(uri), await store.presign_part(uri, "upload", 7)]

    for url in asyncio.run(sign()):
        assert url.startswith(begin)
        assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in url
        assert f"X-Amz-Credential={ACCESS_KEY}" in url
        assert SECRET_KEY not in url
        assert "checksum" not in url


@pytest.mark.parametrize(
    ("encryption", "headers"),
    [
        (None, {}),
        (Encryption("AES256"), {"x-amz-server-side-encryption": "AES256"}),
        (Encryption("aws:kms"), {"x-amz-server-side-encryption": "aws:kms"}),
        (
            Encryption("aws:kms", "alias/x"),
            {
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": "alias/x",
            },
        ),
    ],
)
def test_encryption(s3: S3Server, encryption: Encryption | None, headers: dict[str, str]) -> None:
    """Asked for when the upload begins; the parts' URLs need nothing more, and the object has it."""
    settings = replace(SETTINGS, endpoint=s3.endpoint, path_style=True, encryption=encryption)
    before = len(s3.requests())

    async def main() -> None:
        async with opened_store(settings) as opened:
            await opened.upload(opened.store.uri_for("x"), [b"x"])
            answer = await opened.get(await opened.store.presign_get(opened.store.uri_for("x")))
            for name, value in headers.items():
                assert answer.headers[name] == value

    asyncio.run(main())
    begin, put, *_ = s3.requests()[before:]
    assert {name: value for name, value in begin["headers"].items() if "encryption" in name} == headers
    assert not [name for name in put["headers"] if name.startswith("x-amz-")]


def test_the_prefix_is_in_each_key(s3: S3Server) -> None:
    """And the bucket in the path: what the endpoint saw."""
    settings = replace(SETTINGS, endpoint=s3.endpoint, path_style=True)
    before = len(s3.requests())

    async def main() -> None:
        async with opened_store(settings) as opened:
            await opened.upload(opened.store.uri_for("run 1", "model.pt"), [b"x"])

    asyncio.run(main())
    assert {unquote(one["path"]) for one in s3.requests()[before:]} == {"/bucket/team/a/run=201/model.pt"}
