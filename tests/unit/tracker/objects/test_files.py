"""The store of files: what is beside the contract, above all that nothing leaves the folder."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from tests.support.object_stores import Clock, Opened, opened_store
from thalweg_tracker.errors import NotFoundError, RejectedError
from thalweg_tracker.model.settings import FileObjects
from thalweg_tracker.objects.contract import URL_LIFETIME_S
from thalweg_tracker.objects.drafts import PART_BYTES
from thalweg_tracker.objects.files import PARTS_AT_ONCE, PARTS_PER_PROJECT, UPLOAD_KEPT_S, FileStore

SECRET = b"not for the network"


def run(folder: Path, test: Callable[[Opened], Awaitable[None]], clock: Clock | None = None) -> None:
    async def main() -> None:
        async with opened_store(FileObjects(folder), clock) as opened:
            await test(opened)

    asyncio.run(main())


@pytest.mark.parametrize(
    "escape",
    ["../secret", "a/../../secret", "%2e%2e/secret", "..%2fsecret", "%2E%2E%2Fsecret", "/../secret", "./../secret"],
)
def test_no_path_leaves_the_folder(tmp_path: Path, escape: str) -> None:
    """Neither by URIs nor by changed URLs, encoded once or twice."""
    (tmp_path / "secret").write_bytes(SECRET)

    async def test(opened: Opened) -> None:
        store = opened.store
        uri = f"file://{tmp_path}/objects/{escape}"
        for refused in (store.begin_upload(uri), store.presign_get(uri), store.delete([uri]), store.head(uri)):
            with pytest.raises(RejectedError):
                await refused
        inside = store.uri_for("a")
        await opened.upload(inside, [b"a"])
        good = await store.presign_get(inside)
        for text in (escape, quote(escape, safe=""), quote(quote(escape, safe=""), safe="")):
            answer = await opened.get(good.replace("/objects/a&", f"/objects/{text}&"))
            assert (answer.status, SECRET in answer.body) == (403, False)
            answer = await opened.get(f"/api/v1/objects/{text}")
            assert (answer.status, SECRET in answer.body) == (404, False)
            answer = await opened.put(f"/api/v1/objects/uploads/{text}/1?expires=1&signature=1", b"x")
            assert answer.status == 404

    run(tmp_path / "objects", test)
    assert (tmp_path / "secret").read_bytes() == SECRET


def test_files_elsewhere_may_be_looked_at_only(tmp_path: Path) -> None:
    """A checkpoint logged by its path is verified; its bytes are no business of the network."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "model.pt").write_bytes(SECRET)
    (tmp_path / "link").symlink_to(tmp_path / "there")

    async def test(opened: Opened) -> None:
        store = opened.store
        for folder in (tmp_path / "there", tmp_path / "link"):
            uri = (folder / "model.pt").as_uri()
            assert store.readable(uri)
            assert not store.covers(uri)
            assert not store.downloadable(uri)
            info = await store.head(uri)
            assert info is not None
            assert info.size_bytes == len(SECRET)
            with pytest.raises(RejectedError):  # the names of the server's files are for nobody
                await store.list_objects(f"{folder.as_uri()}/", 10)
            for refused in (store.presign_get(uri), store.delete([uri]), store.begin_upload(uri)):
                with pytest.raises(RejectedError):
                    await refused
        assert await store.head((tmp_path / "nothing").as_uri()) is None
        assert await store.head((tmp_path / "there").as_uri()) is None
        assert await store.head((tmp_path / ("x" * 300)).as_uri()) is None

    run(tmp_path / "objects", test)


@pytest.mark.parametrize("alias", ["%70roject/a=20b", "project/a%3D20b", "project/a%3d20b"])
def test_an_object_has_one_uri(tmp_path: Path, alias: str) -> None:
    """Under another spelling it is not written, fetched or deleted: who points at it could not be told."""

    async def test(opened: Opened) -> None:
        store, uri = opened.store, opened.store.uri_for("project", "a b")
        await opened.upload(uri, [b"a"])
        other = f"file://{tmp_path}/{alias}"
        assert (store.covers(uri), store.covers(other), store.downloadable(other)) == (True, False, False)
        for refused in (store.delete([other]), store.presign_get(other), store.begin_upload(other)):
            with pytest.raises(RejectedError):
                await refused
        assert await store.head(other) == await store.head(uri) is not None

    run(tmp_path, test)


@pytest.mark.parametrize("name", ["folder", "file"])
def test_no_symbolic_link_is_followed(tmp_path: Path, name: str) -> None:
    """Links inside the folder, however they came there: not read, written, listed, deleted or downloaded."""
    objects, outside = tmp_path / "objects", tmp_path / "outside"
    outside.mkdir()
    objects.mkdir()
    (outside / "a").write_bytes(SECRET)
    (objects / "folder").symlink_to(outside)
    (objects / "file").symlink_to(outside / "a")

    async def test(opened: Opened) -> None:
        store = opened.store
        uri = store.uri_for("folder", "a") if name == "folder" else store.uri_for("file")
        with pytest.raises(RejectedError, match="symbolic link"):
            await store.head(uri)
        with pytest.raises(RejectedError, match="symbolic link"):
            await opened.upload(uri, [b"changed"])
        assert (await opened.get(await store.presign_get(uri))).status == 400
        assert "symbolic link" in (await store.delete([uri]))[uri]
        await opened.upload(store.uri_for("there", "a"), [b"a"])
        (objects / "there" / "link").symlink_to(outside)
        (objects / "there" / "file").symlink_to(outside / "a")
        listed = await store.list_objects(store.uri_for("there", ""), 10)
        assert [one.uri for one in listed] == [store.uri_for("there", "a")]

    run(objects, test)
    assert (outside / "a").read_bytes() == SECRET
    assert sorted(os.listdir(outside)) == ["a"]


def test_its_own_files_are_no_objects(tmp_path: Path) -> None:
    """The key of the URLs above all."""
    objects = tmp_path / "objects"

    async def test(opened: Opened) -> None:
        store = opened.store
        for path in (".thalweg", ".thalweg/", ".thalweg/url.key", ".thalweg/uploads/x", "%2ethalweg/url.key"):
            uri = f"file://{objects}/{path}"
            assert not store.covers(uri)
            assert not store.readable(uri)
            with pytest.raises(RejectedError):
                await store.head(uri)
            with pytest.raises(RejectedError):
                await store.begin_upload(uri)
        for folder in (objects, objects / ".thalweg", tmp_path):
            with pytest.raises(RejectedError):
                await store.list_objects(f"file://{folder}/", 10)

    run(objects, test)


def test_a_url_expires(tmp_path: Path) -> None:
    """403, the same as from S3: ask for a new one."""
    clock = Clock()

    async def test(opened: Opened) -> None:
        store, uri = opened.store, opened.store.uri_for("a")
        await opened.upload(uri, [b"a"])
        get = await store.presign_get(uri)
        put = await store.presign_part(uri, await store.begin_upload(uri), 1)
        clock.now_s += URL_LIFETIME_S
        assert (await opened.get(get)).status == 200
        assert (await opened.put(put, b"a")).status == 200
        clock.now_s += 1
        for answer in (await opened.get(get), await opened.put(put, b"a")):
            assert answer.status == 403
            assert b"url_expired" in answer.body

    run(tmp_path, test, clock)


def test_a_part_that_is_too_large(tmp_path: Path) -> None:
    """413, and nothing of it stays."""

    async def test(opened: Opened) -> None:
        store, uri = opened.store, opened.store.uri_for("a")
        upload_id = await store.begin_upload(uri)
        answer = await opened.put(await store.presign_part(uri, upload_id, 1), bytes(PART_BYTES + 1))
        assert (answer.status, b"part_too_large" in answer.body) == (413, True)
        assert await store.list_parts(uri, upload_id) == []

    run(tmp_path, test)


@pytest.mark.parametrize("md5", ["", "x", "é", "AAAA", "=" * 24])
def test_a_content_md5_that_is_none(tmp_path: Path, md5: str) -> None:
    """Refused as a wrong one, not ignored."""

    async def test(opened: Opened) -> None:
        store, uri = opened.store, opened.store.uri_for("a")
        url = await store.presign_part(uri, await store.begin_upload(uri), 1)
        answer = await opened.ask("PUT", url, b"a", {"Content-MD5": md5})
        assert (answer.status, b"bad_digest" in answer.body) == (400, True)
        assert (await opened.ask("PUT", url, b"a", {})).status == 200

    run(tmp_path, test)


def test_slow_parts_of_a_project_leave_places_to_others(tmp_path: Path) -> None:
    """However many come, it takes its own places and no more: the rest wait for these, and others' go through."""
    begun: list[int] = []
    goes_on, has_begun = asyncio.Event(), asyncio.Condition()

    async def slow(number: int) -> AsyncIterator[bytes]:
        async with has_begun:
            begun.append(number)
            has_begun.notify_all()
        await goes_on.wait()
        yield b"slow"

    async def quick() -> AsyncIterator[bytes]:
        yield b"quick"

    async def test(opened: Opened) -> None:
        store = opened.store
        assert isinstance(store, FileStore)

        async def send(project: str, number: int, body: AsyncIterator[bytes]) -> str:
            uri = store.uri_for(project, "run", str(number), "model.pt")
            upload_id = await store.begin_upload(uri)
            query = dict(parse_qsl(urlsplit(await store.presign_part(uri, upload_id, 1)).query))
            return await store.receive_part(upload_id, 1, int(query["expires"]), query["signature"], None, body)

        sent = [asyncio.create_task(send("many", number, slow(number))) for number in range(2 * PARTS_AT_ONCE)]
        async with has_begun:
            await has_begun.wait_for(lambda: len(begun) == PARTS_PER_PROJECT)
        for number in range(3):
            assert await send("other", number, quick()) == hashlib.md5(b"quick").hexdigest()
        assert len(begun) == PARTS_PER_PROJECT < PARTS_AT_ONCE
        goes_on.set()
        assert set(await asyncio.gather(*sent)) == {hashlib.md5(b"slow").hexdigest()}

    run(tmp_path, test)


def test_an_upload_belongs_to_its_object(tmp_path: Path) -> None:
    """Under the name of another it is not found."""

    async def test(opened: Opened) -> None:
        store, uri, other = opened.store, opened.store.uri_for("a"), opened.store.uri_for("b")
        upload_id = await store.begin_upload(uri)
        for missing in (store.list_parts(other, upload_id), store.complete_upload(other, upload_id, [(1, "x")])):
            with pytest.raises(NotFoundError):
                await missing
        await store.abort_upload(other, upload_id)
        assert await store.list_parts(uri, upload_id) == []
        assert (await opened.put(await store.presign_part(other, upload_id, 1), b"a")).status == 403

    run(tmp_path, test)


def test_forgotten_uploads_are_removed(tmp_path: Path) -> None:
    """After a week without a part, at the next start or upload; not those that go on."""
    clock = Clock()

    async def test(opened: Opened) -> None:
        store, uri = opened.store, opened.store.uri_for("a")
        old, new = await store.begin_upload(uri), await store.begin_upload(uri)
        for path in [tmp_path / ".thalweg" / "uploads" / old, *(tmp_path / ".thalweg" / "uploads" / old).iterdir()]:
            os.utime(path, (clock.now_s, clock.now_s))
        for path in [tmp_path / ".thalweg" / "uploads" / new, *(tmp_path / ".thalweg" / "uploads" / new).iterdir()]:
            os.utime(path, (clock.now_s + 10, clock.now_s + 10))
        clock.now_s += UPLOAD_KEPT_S + 5
        await store.begin_upload(uri)
        assert await store.list_parts(uri, new) == []
        with pytest.raises(NotFoundError):
            await store.list_parts(uri, old)

    run(tmp_path, test, clock)


def test_empty_folders_go_with_their_last_object(tmp_path: Path) -> None:
    """Deleting runs leaves no skeleton."""

    async def test(opened: Opened) -> None:
        store = opened.store
        uris = [store.uri_for("p", "run", str(step), "model.pt") for step in range(3)]
        for uri in uris:
            await opened.upload(uri, [b"a"])
        await store.delete(uris[:1])
        assert sorted(os.listdir(tmp_path / "p" / "run")) == ["1", "2"]
        await store.delete(uris)
        assert os.listdir(tmp_path) == [".thalweg"]

    run(tmp_path, test)


def test_an_object_is_for_its_owner(tmp_path: Path) -> None:
    """Nobody else on the machine reads a checkpoint past the server."""

    async def test(opened: Opened) -> None:
        await opened.upload(opened.store.uri_for("a"), [b"a"])

    run(tmp_path, test)
    assert (tmp_path / "a").stat().st_mode & 0o077 == 0
    assert (tmp_path / ".thalweg").stat().st_mode & 0o077 == 0


def test_a_server_of_files_does_not_import_aiobotocore() -> None:
    """It takes a third of a second and 40 MB; the module of S3 is imported without it."""
    script = (
        "import sys, thalweg_tracker.objects.s3, thalweg_tracker.objects.files, thalweg_tracker.api.objects;"
        "print([name for name in sys.modules if name.partition('.')[0] in ('aiobotocore', 'botocore', 'aiohttp')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
