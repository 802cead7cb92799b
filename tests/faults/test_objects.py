"""Stores of objects in trouble: clear words for the operator, nothing half done, and work that goes on afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.faults.test_full_disk import fill, small_disk
from tests.support.clickhouse_server import LOOPBACK
from tests.support.object_stores import Opened, opened_store
from tests.support.s3_server import SECRET_KEY, S3Server, credentials, start_s3
from thalweg_tracker.errors import ObjectStoreError, ObjectStoreFullError, RejectedError
from thalweg_tracker.model.settings import FileObjects, S3Objects
from thalweg_tracker.objects.contract import ObjectStore, Part
from thalweg_tracker.objects.drafts import PART_BYTES
from thalweg_tracker.objects.s3 import S3Store

BODY = b"weights"
ETAG = hashlib.md5(BODY).hexdigest()


@pytest.fixture
def s3() -> Iterator[S3Server]:
    """An endpoint with one bucket."""
    with start_s3() as running:
        running.make_bucket("checkpoints")
        yield running


@pytest.fixture
def settings(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Objects:
    """How to reach it, with the right credentials."""
    use(monkeypatch, credentials())
    return S3Objects("checkpoints", "", s3.endpoint, "us-east-1", True, None)


def use(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


def calls(store: ObjectStore) -> list[Awaitable[object]]:
    """Each thing that asks the endpoint."""
    uri = store.uri_for("a")
    return [
        store.check(),
        store.begin_upload(uri),
        store.list_parts(uri, "upload"),
        store.complete_upload(uri, "upload", [(1, ETAG)]),
        store.abort_upload(uri, "upload"),
        store.head(uri),
        store.list_objects(store.uri_for("a", ""), 10),
        store.delete([uri]),
    ]


async def failures(store: S3Store) -> list[str]:
    """What each of them says; that it says so is a test of its own."""
    said = []
    async with store:
        for call in calls(store):
            with pytest.raises(ObjectStoreError) as caught:
                await call
            said.append(str(caught.value))
    return said


def assert_helpful(said: list[str], settings: S3Objects, *words: str) -> None:
    for message in said:
        assert message.startswith("cannot ")
        assert str(settings.endpoint) in message
        assert settings.bucket in message
        assert SECRET_KEY not in message
        assert "wrong-secret" not in message
        for word in words:
            assert word in message, message


def test_a_wrong_secret(settings: S3Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    """403 SignatureDoesNotMatch, which a HEAD does not name: the message says which variables to set."""
    use(monkeypatch, credentials(secret="wrong-secret"))
    said = asyncio.run(failures(S3Store(settings)))
    assert_helpful(said, settings, "ecret")
    assert "SignatureDoesNotMatch" in said[1]
    assert "AWS_SECRET_ACCESS_KEY" in said[1]


def test_a_wrong_access_key(settings: S3Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    """403 InvalidAccessKeyId."""
    use(monkeypatch, credentials(access_key="AKIAOTHER"))
    said = asyncio.run(failures(S3Store(settings)))
    assert_helpful(said, settings)
    assert "AWS_ACCESS_KEY_ID" in said[1]


def test_no_credentials(settings: S3Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent, and URLs cannot be signed either."""
    sources = {name: value for name, value in credentials().items() if "KEY" not in name}
    use(monkeypatch, {**sources, "HOME": "/nonexistent"})

    async def sign() -> None:
        async with S3Store(settings) as store:
            await store.presign_get(store.uri_for("a"))

    assert_helpful(asyncio.run(failures(S3Store(settings))), settings, "no credentials", "AWS_ACCESS_KEY_ID")
    with pytest.raises(ObjectStoreError, match="AWS_ACCESS_KEY_ID"):
        asyncio.run(sign())


def test_a_missing_bucket(settings: S3Objects) -> None:
    """It is named, also by `head`, whose answer alone would look like a missing object."""
    wrong = replace(settings, bucket="nowhere")
    store = S3Store(wrong)
    said = asyncio.run(_all_but_missing_uploads(store))
    assert_helpful(said, wrong, "NoSuchBucket", "Make the bucket", "--objects")


async def _all_but_missing_uploads(store: S3Store) -> list[str]:
    said = []
    async with store:
        uri = store.uri_for("a")
        for call in (store.check(), store.begin_upload(uri), store.head(uri), store.delete([uri])):
            with pytest.raises(ObjectStoreError) as caught:
                await call
            said.append(str(caught.value))
    return said


def test_an_endpoint_out_of_reach(settings: S3Objects) -> None:
    """A port where nobody listens."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
    wrong = replace(settings, endpoint=f"http://{LOOPBACK}:{port}")
    said = asyncio.run(failures(S3Store(wrong, attempts=1)))
    assert_helpful(said, wrong, "out of reach", "THALWEG_S3_ENDPOINT")


def test_an_endpoint_that_does_not_answer(settings: S3Objects, s3: S3Server) -> None:
    """The wait for an answer ends, and the call says so."""
    s3.hold()
    said = asyncio.run(failures(S3Store(settings, answer_timeout_s=0.1, attempts=1)))
    assert_helpful(said, settings, "did not answer in time")
    s3.release()


def test_an_endpoint_that_is_no_s3(settings: S3Objects, s3: S3Server) -> None:
    """A redirect to nowhere, or any other server: an error of ours, not one of a parser."""
    s3.fail(405, 100)
    assert_helpful(asyncio.run(failures(S3Store(settings, attempts=1))), settings)


def test_failures_that_pass_are_overcome(settings: S3Objects, s3: S3Server) -> None:
    """An endpoint that fails at first is asked again; the caller notices nothing."""

    async def main() -> None:
        async with S3Store(settings) as store:
            uri = store.uri_for("a")
            s3.fail(500, 1)
            upload_id = await store.begin_upload(uri)
            s3.fail(503, 2)
            assert await store.list_parts(uri, upload_id) == []

    asyncio.run(main())


def test_failures_that_stay_are_told(settings: S3Objects, s3: S3Server) -> None:
    """After the last attempt the error names the endpoint; the next call may work."""

    async def main() -> None:
        async with S3Store(settings, attempts=2) as store:
            s3.fail(503, 2)
            with pytest.raises(ObjectStoreError, match="overloaded or broken") as caught:
                await store.begin_upload(store.uri_for("a"))
            assert_helpful([str(caught.value)], settings)
            await store.begin_upload(store.uri_for("a"))

    asyncio.run(main())


def test_a_completion_whose_answer_is_lost(settings: S3Objects, s3: S3Server) -> None:
    """The object is there: the second attempt finds no upload any more, and recognises the object by its etag."""

    async def main() -> None:
        async with opened_store(settings) as opened:
            uri = opened.store.uri_for("a")
            upload_id = await opened.store.begin_upload(uri)
            await opened.put(await opened.store.presign_part(uri, upload_id, 1), BODY)
        async with S3Store(settings) as store:
            s3.lose(1)
            info = await store.complete_upload(uri, upload_id, [(1, ETAG)])
            assert info == await store.head(uri)
            assert info.size_bytes == len(BODY)

    asyncio.run(main())


def run_files(folder: Path, test: Callable[[Opened], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened_store(FileObjects(folder)) as opened:
            await test(opened)

    asyncio.run(main())


def test_a_full_disk_keeps_what_has_arrived(tmp_path: Path) -> None:
    """A part that has no room is refused with 507 and not listed; with room again the upload goes on."""
    with small_disk(tmp_path / "disk", 24) as disk:

        async def test(opened: Opened) -> None:
            store, uri = opened.store, opened.store.uri_for("a")
            full = bytes(PART_BYTES)
            upload_id = await store.begin_upload(uri)
            first, second = [await store.presign_part(uri, upload_id, number) for number in (1, 2)]
            assert (await opened.put(first, full)).status == 200
            ballast = await asyncio.to_thread(fill, disk)
            answer = await opened.put(second, full)
            assert answer.status == 507
            assert b"Make room" in answer.body
            with pytest.raises(ObjectStoreFullError, match="Make room"):
                await store.begin_upload(store.uri_for("b"))
            etag = hashlib.md5(full).hexdigest()
            assert await store.list_parts(uri, upload_id) == [Part(1, etag, PART_BYTES)]
            ballast.unlink()
            assert (await opened.put(second, full)).status == 200
            info = await store.complete_upload(uri, upload_id, [(1, etag), (2, etag)])
            assert info.size_bytes == 2 * PART_BYTES

        run_files(disk / "objects", test)


def test_a_part_that_breaks_off(tmp_path: Path) -> None:
    """A training host that dies while it sends leaves no part, not even of what was there before."""

    async def test(opened: Opened) -> None:
        store, uri = opened.store, opened.store.uri_for("a")
        upload_id = await store.begin_upload(uri)
        url = await store.presign_part(uri, upload_id, 1)
        await opened.put(url, BODY)
        await asyncio.to_thread(_send_half, opened.server + url)
        assert await store.list_parts(uri, upload_id) == [Part(1, ETAG, len(BODY))]
        assert (await store.complete_upload(uri, upload_id, [(1, ETAG)])).size_bytes == len(BODY)

    run_files(tmp_path / "objects", test)


def _send_half(url: str) -> None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    connection.putrequest("PUT", f"{parts.path}?{parts.query}")
    connection.putheader("Content-Length", "1000000")
    connection.endheaders(b"x" * 1000)
    assert connection.sock is not None
    connection.sock.shutdown(socket.SHUT_WR)  # the end of the body before its length
    connection.sock.recv(1)  # answered, or closed: the server has seen it
    connection.close()


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """A file where the folder is to be: told at the start."""
    (tmp_path / "objects").write_text("")

    async def test(opened: Opened) -> None:
        raise AssertionError("unreachable")

    with pytest.raises(ObjectStoreError, match=str(tmp_path / "objects")):
        run_files(tmp_path / "objects", test)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    """An object cannot lie below another one in a folder: refused, and the other one stays."""

    async def test(opened: Opened) -> None:
        store = opened.store
        await opened.upload(store.uri_for("a"), [BODY])
        with pytest.raises(RejectedError) as caught:
            await opened.upload(store.uri_for("a", "b"), [BODY])
        assert caught.value.code == "bad_key"
        assert (await opened.get(await store.presign_get(store.uri_for("a")))).body == BODY

    run_files(tmp_path / "objects", test)
