"""What every store of objects must hold: the folder through its HTTP routes, S3 through moto's server."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.object_stores import Opened, opened_store
from tests.support.s3_server import S3Server, credentials, start_s3
from thalweg_tracker.errors import NotFoundError, RejectedError
from thalweg_tracker.model.settings import FileObjects, ObjectSettings, S3Objects
from thalweg_tracker.objects.contract import Part

FULL: Final = bytes(range(256)) * (32 << 10)
"""8 MiB: all parts of a folder but the last have this size."""
TAIL: Final = b"the last part is a small one"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """One endpoint for all tests; each has a bucket of its own."""
    with start_s3() as running:
        yield running


@pytest.fixture(params=["files", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectSettings:
    """An empty store."""
    if request.param == "files":
        return FileObjects(tmp_path / "objects")
    running: S3Server = request.getfixturevalue("s3")
    bucket = f"bucket-{next(_numbers)}"
    running.make_bucket(bucket)
    for name, value in credentials().items():
        monkeypatch.setenv(name, value)
    return S3Objects(bucket, "team/checkpoints", running.endpoint, None, True, None)


def run(settings: ObjectSettings, test: Callable[[Opened], Awaitable[None]]) -> None:
    """Runs a test with the store open."""

    async def main() -> None:
        async with opened_store(settings) as opened:
            await test(opened)

    asyncio.run(main())


def md5(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


def test_an_object_of_several_parts(settings: ObjectSettings) -> None:
    """Parts sent at once and out of order make the object in their order; it is there when completion returns."""

    async def test(opened: Opened) -> None:
        store, bodies = opened.store, {1: FULL, 2: FULL[::-1], 3: TAIL}
        uri = store.uri_for("project", "run", "step=7", "model.pt")
        upload_id = await store.begin_upload(uri)
        urls = {number: await store.presign_part(uri, upload_id, number) for number in bodies}
        answers = await asyncio.gather(*(opened.put(urls[number], bodies[number]) for number in (3, 1, 2)))
        assert [answer.status for answer in answers] == [200, 200, 200]
        assert [answer.etag.strip('"') for answer in answers] == [md5(bodies[number]) for number in (3, 1, 2)]
        assert await store.list_parts(uri, upload_id) == [Part(n, md5(b), len(b)) for n, b in bodies.items()]
        assert await store.head(uri) is None
        named = [(number, md5(body)) for number, body in bodies.items()]
        info = await store.complete_upload(uri, upload_id, named)
        assert info == await store.head(uri)
        assert (info.uri, info.size_bytes, info.version) == (uri, len(FULL) * 2 + len(TAIL), "")
        assert info.etag
        assert info.modified_at.tzinfo is not None
        answer = await opened.get(await store.presign_get(uri))
        assert (answer.status, answer.etag.strip('"')) == (200, info.etag)
        assert answer.body == b"".join(bodies.values())

    run(settings, test)


@pytest.mark.parametrize(
    ("byte_range", "expected"),
    [("0-3", FULL[:4]), ("8388606-8388609", FULL[-2:] + TAIL[:2]), ("8388608-", TAIL), ("-4", TAIL[-4:])],
)
def test_a_range(settings: ObjectSettings, byte_range: str, expected: bytes) -> None:
    """A download can go on where it broke off."""

    async def test(opened: Opened) -> None:
        uri = opened.store.uri_for("a")
        await opened.upload(uri, [FULL, TAIL])
        answer = await opened.get(await opened.store.presign_get(uri), byte_range)
        assert (answer.status, answer.body) == (206, expected)
        assert answer.headers["content-range"].endswith(f"/{len(FULL) + len(TAIL)}")

    run(settings, test)


def test_an_upload_goes_on_after_a_restart(settings: ObjectSettings) -> None:
    """What has arrived is listed by the next server, and URLs given out before are still good."""

    async def begin() -> tuple[str, str, str]:
        async with opened_store(settings) as opened:
            uri = opened.store.uri_for("a")
            upload_id = await opened.store.begin_upload(uri)
            assert (await opened.put(await opened.store.presign_part(uri, upload_id, 1), FULL)).status == 200
            return uri, upload_id, await opened.store.presign_part(uri, upload_id, 2)

    uri, upload_id, second_url = asyncio.run(begin())

    async def test(opened: Opened) -> None:
        assert await opened.store.list_parts(uri, upload_id) == [Part(1, md5(FULL), len(FULL))]
        assert (await opened.put(second_url, TAIL)).status == 200
        info = await opened.store.complete_upload(uri, upload_id, [(1, md5(FULL)), (2, md5(TAIL))])
        assert info.size_bytes == len(FULL) + len(TAIL)

    run(settings, test)


def test_parts_beyond_a_page_are_listed(settings: ObjectSettings) -> None:
    """S3 lists a thousand parts at a time."""

    async def test(opened: Opened) -> None:
        uri = opened.store.uri_for("a")
        upload_id = await opened.store.begin_upload(uri)
        numbers = range(1, 1003)
        for some in itertools.batched(numbers, 8) if hasattr(itertools, "batched") else _batches(numbers, 8):
            urls = [await opened.store.presign_part(uri, upload_id, number) for number in some]
            await asyncio.gather(
                *(opened.put(url, str(number).encode()) for url, number in zip(urls, some, strict=True))
            )
        parts = await opened.store.list_parts(uri, upload_id)
        assert parts == [Part(number, md5(str(number).encode()), len(str(number))) for number in numbers]

    run(settings, test)


def _batches(numbers: range, size: int) -> Iterator[range]:
    return (numbers[first : first + size] for first in range(0, len(numbers), size))


def test_a_part_sent_again_replaces_itself(settings: ObjectSettings) -> None:
    """The last one counts."""

    async def test(opened: Opened) -> None:
        uri = opened.store.uri_for("a")
        upload_id = await opened.store.begin_upload(uri)
        url = await opened.store.presign_part(uri, upload_id, 1)
        for body in (b"first and longer", b"second"):
            await opened.put(url, body)
        assert await opened.store.list_parts(uri, upload_id) == [Part(1, md5(b"second"), 6)]
        await opened.store.complete_upload(uri, upload_id, [(1, md5(b"second"))])
        assert (await opened.get(await opened.store.presign_get(uri))).body == b"second"

    run(settings, test)


def test_a_damaged_part_is_refused(settings: ObjectSettings) -> None:
    """Bytes that are not those of Content-MD5 leave nothing."""

    async def test(opened: Opened) -> None:
        uri = opened.store.uri_for("a")
        upload_id = await opened.store.begin_upload(uri)
        answer = await opened.put(await opened.store.presign_part(uri, upload_id, 1), b"right", md5_of=b"wrong")
        assert answer.status == 400
        assert await opened.store.list_parts(uri, upload_id) == []

    run(settings, test)


@pytest.mark.parametrize(
    "named",
    [
        [],
        [(1, "0" * 32)],
        [(1, "")],
        [(2, md5(TAIL))],
        [(2, md5(TAIL)), (1, md5(FULL))],
        [(1, md5(FULL)), (1, md5(FULL))],
        [(1, md5(FULL)), (2, md5(FULL))],
        [(1, md5(FULL)), (2, md5(TAIL)), (3, md5(TAIL))],
    ],
)
def test_completion_with_wrong_parts(settings: ObjectSettings, named: list[tuple[int, str]]) -> None:
    """It is refused and makes no object; with the right parts it goes on."""

    async def test(opened: Opened) -> None:
        uri = opened.store.uri_for("a")
        upload_id = await opened.store.begin_upload(uri)
        for number, body in ((1, FULL), (2, TAIL)):
            await opened.put(await opened.store.presign_part(uri, upload_id, number), body)
        with pytest.raises(RejectedError) as caught:
            await opened.store.complete_upload(uri, upload_id, named)
        assert caught.value.code == "bad_parts"
        assert await opened.store.head(uri) is None
        right = [(1, f'"{md5(FULL)}"'), (2, md5(TAIL))]
        assert (await opened.store.complete_upload(uri, upload_id, right)).size_bytes == len(FULL) + len(TAIL)

    run(settings, test)


def test_completion_asked_again(settings: ObjectSettings) -> None:
    """Who lost the answer gets it again, also if the server has started anew."""

    async def test(opened: Opened) -> None:
        uri = opened.store.uri_for("a")
        upload_id = await opened.store.begin_upload(uri)
        await opened.put(await opened.store.presign_part(uri, upload_id, 1), TAIL)
        first = await opened.store.complete_upload(uri, upload_id, [(1, md5(TAIL))])
        assert await opened.store.complete_upload(uri, upload_id, [(1, md5(TAIL))]) == first
        with pytest.raises(RejectedError):
            await opened.store.complete_upload(uri, upload_id, [(1, md5(FULL))])

    run(settings, test)


def test_an_upload_that_is_over(settings: ObjectSettings) -> None:
    """Aborted or completed: NotFoundError "upload_not_found", and parts are taken no more. Aborting again is fine."""

    async def test(opened: Opened) -> None:
        store, uri = opened.store, opened.store.uri_for("a")
        aborted, completed = await store.begin_upload(uri), await store.begin_upload(uri)
        await opened.put(await store.presign_part(uri, completed, 1), TAIL)
        await store.complete_upload(uri, completed, [(1, md5(TAIL))])
        await store.abort_upload(uri, aborted)
        await store.abort_upload(uri, aborted)
        for upload_id in (aborted, completed):
            with pytest.raises(NotFoundError) as caught:
                await store.list_parts(uri, upload_id)
            assert caught.value.code == "upload_not_found"
            assert (await opened.put(await store.presign_part(uri, upload_id, 1), TAIL)).status == 404
        with pytest.raises(NotFoundError):
            await store.complete_upload(uri, aborted, [(1, md5(b"other"))])
        assert (await opened.get(await store.presign_get(uri))).body == TAIL

    run(settings, test)


def test_an_object_is_replaced_at_once(settings: ObjectSettings) -> None:
    """Until the upload is complete the old one is there, and afterwards its etag is another."""

    async def test(opened: Opened) -> None:
        store, uri = opened.store, opened.store.uri_for("a")
        old = await opened.upload(uri, [b"old"])
        upload_id = await store.begin_upload(uri)
        await opened.put(await store.presign_part(uri, upload_id, 1), b"new")
        assert await store.head(uri) == old
        new = await store.complete_upload(uri, upload_id, [(1, md5(b"new"))])
        assert new.etag != old.etag
        assert (await opened.get(await store.presign_get(uri))).body == b"new"

    run(settings, test)


def test_an_empty_object(settings: ObjectSettings) -> None:
    """One part without bytes."""

    async def test(opened: Opened) -> None:
        uri = opened.store.uri_for("a")
        assert (await opened.upload(uri, [b""])).size_bytes == 0
        assert (await opened.get(await opened.store.presign_get(uri))).body == b""

    run(settings, test)


def test_a_folder_is_listed(settings: ObjectSettings) -> None:
    """All levels below it in the order of URIs, at most `limit`, nothing of its neighbours."""

    async def test(opened: Opened) -> None:
        store = opened.store
        names = [("run", "a-b"), ("run", "a", "1"), ("run", "a", "2"), ("run", "b"), ("run2", "c"), ("ru", "d")]
        for parts in names:
            await opened.upload(store.uri_for(*parts), [TAIL])
        expected = [store.uri_for(*parts) for parts in names[:4]]
        found = await store.list_objects(store.uri_for("run", ""), 100)
        assert [one.uri for one in found] == sorted(expected)
        assert {(one.size_bytes, one.version) for one in found} == {(len(TAIL), "")}
        assert [one.etag for one in found] == [info.etag for uri in sorted(expected) if (info := await store.head(uri))]
        for limit in range(5):
            assert await store.list_objects(store.uri_for("run", ""), limit) == found[:limit]
        assert await store.list_objects(store.uri_for("nothing", ""), 100) == []
        with pytest.raises(RejectedError):
            await store.list_objects(store.uri_for("run"), 100)

    run(settings, test)


def test_deletion(settings: ObjectSettings) -> None:
    """More than S3 takes at once; what is not there counts as deleted, the rest stays."""

    async def test(opened: Opened) -> None:
        store = opened.store
        kept, *uris = [store.uri_for("run", "step", str(number)) for number in range(2003)]
        for uri in (kept, uris[0], uris[1500], uris[-1]):
            await opened.upload(uri, [TAIL])
        assert await store.delete(uris) == {}
        assert [one.uri for one in await store.list_objects(store.uri_for("run", ""), 100)] == [kept]
        assert await store.delete([kept]) == {}
        assert await store.head(kept) is None
        assert await store.delete([]) == {}

    run(settings, test)


NASTY: Final = [
    "..",
    ".",
    ".thalweg",
    "a/b",
    "/",
    "\\",
    "%2e%2e",
    "=",
    "~",
    "a b",
    "ä",
    "\0",
    "\n",
    "é" * 200,
    "x" * 300,
]


def test_any_text_is_one_level(settings: ObjectSettings) -> None:
    """Objects named after anything are apart from each other, and lie where they are to."""

    async def test(opened: Opened) -> None:
        store = opened.store
        uris = [store.uri_for("project", text, "model.pt") for text in NASTY]
        assert len(set(uris)) == len(uris)
        for number, uri in enumerate(uris):
            assert store.covers(uri)
            assert store.downloadable(uri)
            await opened.upload(uri, [str(number).encode()])
        for number, uri in enumerate(uris):
            assert (await opened.get(await store.presign_get(uri))).body == str(number).encode()
        assert [one.uri for one in await store.list_objects(store.uri_for("project", ""), 100)] == sorted(uris)
        for text, uri in zip(NASTY, uris, strict=True):
            (one,) = await store.list_objects(store.uri_for("project", text, ""), 100)
            assert one.uri == uri
        assert await store.delete(uris) == {}
        assert await store.list_objects(store.uri_for("project", ""), 100) == []

    run(settings, test)


@pytest.mark.parametrize("parts", [(), ("",), ("", "a"), ("a", "", "b"), ("a",) * 600])
def test_names_that_are_none(settings: ObjectSettings, parts: tuple[str, ...]) -> None:
    """Empty levels but the last, and keys longer than S3 takes."""

    async def test(opened: Opened) -> None:
        with pytest.raises(RejectedError):
            opened.store.uri_for(*parts)

    run(settings, test)


def test_what_is_outside_is_left_alone(settings: ObjectSettings) -> None:
    """Places that the store does not cover are neither written nor deleted, however they are written."""

    async def test(opened: Opened) -> None:
        store = opened.store
        root = store.uri_for("x").removesuffix("/x")
        for uri in [
            "",
            "s3://another-bucket/a",
            "s3:///a",
            "file:///etc/passwd",
            "file://host/etc/passwd",
            "/etc/passwd",
            root,
            f"{root}/",
            f"{root}x/a",
            f"{root}/../a",
            f"{root}/a/../../a",
            f"{root}/./a",
            f"{root}//a",
            f"{root}/a/",
            f"{root}/a\0",
            f"{root.partition('://')[0].upper()}://{root.partition('://')[2]}/a",
        ]:
            for refused in (
                store.begin_upload(uri),
                store.delete([store.uri_for("a"), uri]),
                store.complete_upload(uri, "0" * 32, [(1, md5(b""))]),
            ):
                with pytest.raises(RejectedError):
                    await refused

    run(settings, test)


def test_a_url_opens_one_thing_only(settings: ObjectSettings) -> None:
    """Another part, another method, another object, another upload, a changed signature: 403."""

    async def test(opened: Opened) -> None:
        store, uri, other = opened.store, opened.store.uri_for("a"), opened.store.uri_for("b")
        await opened.upload(uri, [TAIL])
        await opened.upload(other, [b"secret"])
        upload_id = await store.begin_upload(uri)
        put, get = await store.presign_part(uri, upload_id, 1), await store.presign_get(uri)
        for changed in (
            put.replace("partNumber=1", "partNumber=2").replace("/1?", "/2?"),
            put.replace("Expires=3600", "Expires=3601").replace("expires=", "expires=1"),
            put[:-1] + ("1" if put[-1] == "0" else "0"),
        ):
            assert changed != put
            assert (await opened.put(changed, b"x")).status == 403
        for changed in (get.replace("/a?", "/b?").replace("/a&", "/b&"), get[:-1] + ("1" if get[-1] == "0" else "0")):
            assert changed != get
            answer = await opened.get(changed)
            assert (answer.status, b"secret" in answer.body) == (403, False)
        assert (await opened.put(get, b"x")).status in (403, 405)
        assert await store.list_parts(uri, upload_id) == []

    run(settings, test)


def test_it_says_what_it_is(settings: ObjectSettings) -> None:
    """One line with the place; `check` finds nothing wrong."""

    async def test(opened: Opened) -> None:
        assert str(settings) in opened.store.describe()
        await opened.store.check()

    run(settings, test)
