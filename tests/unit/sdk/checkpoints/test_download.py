"""Downloads over real sockets: what arrives, what is gone on with, what is never handed out."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.upload_server import Fault, UploadServer
from tests.support.waiting import wait_until
from tests.unit.sdk.checkpoints.conftest import Clock, content
from thalweg.checkpoints.download import download
from thalweg.checkpoints.transfer import EXPIRED_MAX
from thalweg.errors import CheckpointError, InputError

FOLDER = "s3://bucket/ckpt/"
Tree = dict[str, bytes]
TREE: Tree = {"a.pt": content(5000), "deep/er/b.pt": content(3000, 2), "empty": b"", "größe": b"1"}


def store(server: UploadServer, tree: Tree = TREE, folder: str = FOLDER) -> None:
    """Puts a folder in the store."""
    server.objects |= {folder + path: data for path, data in tree.items()}


def tree_of(folder: Path) -> Tree:
    """What lies in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def fetch(
    server: UploadServer,
    to: Path | str,
    clock: Clock,
    *,
    uri: str = FOLDER,
    digests: bool = True,
    resolved: dict[str, Any] | None = None,
    refresh: Callable[[], dict[str, Any]] | None = None,
    **more: Any,
) -> Path:
    """One download without waiting."""
    return download(
        resolved or server.resolve(uri, digests=digests),
        to,
        base_url=server.url,
        refresh=refresh or (lambda: server.resolve(uri, digests=digests)),
        pace=clock.pace(),
        **more,
    )


@pytest.mark.parametrize("digests", [True, False])
@pytest.mark.parametrize("is_absolute", [True, False])
def test_folder_arrives(server: UploadServer, tmp_path: Path, clock: Clock, digests: bool, is_absolute: bool) -> None:
    """All files arrive, below the destination, and nothing else is left."""
    store(server)
    server.is_absolute = is_absolute
    told: list[tuple[int, int]] = []
    to = fetch(server, tmp_path / "new" / "here", clock, digests=digests, progress=lambda *now: told.append(now))
    assert to == tmp_path / "new" / "here"
    assert tree_of(to) == TREE
    assert [path.name for path in to.parent.iterdir()] == ["here"]
    assert told[-1] == (8001, 8001)


def test_single_object(server: UploadServer, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of one object becomes the file, or a file in the folder that is there or is meant."""
    monkeypatch.chdir(tmp_path)
    uri = "s3://bucket/x/model.pt"
    server.objects[uri] = content(3000)
    (tmp_path / "folder").mkdir()
    for to, path in (("y.pt", "y.pt"), ("folder", "folder/model.pt"), ("later/", "later/model.pt")):
        assert fetch(server, to, clock, uri=uri) == tmp_path / path
        assert (tmp_path / path).read_bytes() == content(3000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "later", "y.pt"]


FAULTS = {
    "status 500": Fault(500),
    "status 503": Fault(503),
    "cut at once": Fault(cut_at_bytes=0),
    "cut in the middle": Fault(cut_at_bytes=1234),
    "expired": Fault(403, b"<Message>Request has expired</Message>"),
    "corrupted": Fault(corrupts=True),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_passing_faults_are_waited_out(server: UploadServer, tmp_path: Path, clock: Clock, fault: Fault) -> None:
    """What may pass is tried again, from where it broke off; bytes with another digest are thrown away."""
    store(server)
    server.on("get", fault, path="a.pt")
    assert tree_of(fetch(server, tmp_path / "to", clock)) == TREE
    assert len(clock.waits_s) == 1


def test_broken_connection_goes_on(server: UploadServer, tmp_path: Path, clock: Clock) -> None:
    """Each byte comes once, however often the connection breaks; attempts that bring something do not count."""
    server.objects[FOLDER + "x"] = content(100_000)
    server.on("get", Fault(cut_at_bytes=4000), times=20)
    told: list[int] = []
    to = fetch(server, tmp_path / "to", clock, progress=lambda done, total: told.append(done))
    assert tree_of(to) == {"x": content(100_000)}
    assert server.count("get") == 21
    assert told == sorted(told)
    assert server.sent_bytes == 100_000


def test_patience_ends(server: UploadServer, tmp_path: Path, clock: Clock) -> None:
    """After PATIENCE_S without a byte the error names all; the next call, by any process, goes on."""
    server.objects[FOLDER + "x"] = content(10_000)
    server.on("get", Fault(cut_at_bytes=4000))
    server.on("get", Fault(503), times=1000)
    with pytest.raises(CheckpointError) as caught:
        fetch(server, tmp_path / "to", clock)
    assert str(caught.value).startswith(f"cannot restore x from {FOLDER}x: status 503, <Error><Code>SlowDown")
    assert not (tmp_path / "to").exists()
    server.heal()
    assert tree_of(fetch(server, tmp_path / "to", clock)) == {"x": content(10_000)}
    assert server.sent_bytes == 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["to"]


@pytest.mark.parametrize("digests", [True, False])
def test_object_that_is_replaced_meanwhile(server: UploadServer, tmp_path: Path, clock: Clock, digests: bool) -> None:
    """Halves of two objects are never put together: by digest it is refused, without one it begins anew."""
    server.objects[FOLDER + "x"] = content(10_000)
    resolved = server.resolve(FOLDER, digests=digests)
    server.on("get", Fault(cut_at_bytes=4000))
    server.on("get", Fault(503), times=1000)
    with pytest.raises(CheckpointError):
        fetch(server, tmp_path / "to", clock, resolved=resolved)
    server.heal()
    server.objects[FOLDER + "x"] = content(10_000, 2)
    if digests:
        with pytest.raises(CheckpointError, match=r"its digest is sha256:.*, and was sha256:.* when it was logged"):
            fetch(server, tmp_path / "to", clock, resolved=resolved)
        assert not (tmp_path / "to").exists()
    else:
        assert tree_of(fetch(server, tmp_path / "to", clock, resolved=resolved)) == {"x": content(10_000, 2)}


@pytest.mark.parametrize("size_bytes", [0, 9_999, 10_001, 20_000])
def test_other_size_is_never_handed_out(server: UploadServer, tmp_path: Path, clock: Clock, size_bytes: int) -> None:
    """An object that has another size than was logged is refused, also without a digest."""
    server.objects[FOLDER + "x"] = content(10_000)
    resolved = server.resolve(FOLDER, digests=False)
    server.objects[FOLDER + "x"] = content(size_bytes)
    with pytest.raises(CheckpointError, match=f"it has {min(size_bytes, 20_000)} bytes, and had 10000"):
        fetch(server, tmp_path / "to", clock, resolved=resolved)
    assert not (tmp_path / "to").exists()


def test_expired_urls_are_renewed(server: UploadServer, tmp_path: Path, clock: Clock) -> None:
    """Where the URLs have expired, the server is asked once for all of them."""
    store(server)
    resolved = server.resolve(FOLDER)
    server.expire_urls()
    asked = []

    def refresh() -> dict[str, Any]:
        asked.append(1)
        return server.resolve(FOLDER)

    assert tree_of(fetch(server, tmp_path / "to", clock, resolved=resolved, refresh=refresh)) == TREE
    assert len(asked) == 1


def test_denied_for_good(server: UploadServer, tmp_path: Path, clock: Clock) -> None:
    """Fresh URLs that are refused, too, end it; so does a checkpoint that is another by then, or gone."""
    store(server, {"x": b"12"})
    resolved = server.resolve(FOLDER)
    server.on("get", Fault(403, b"no"), times=1000)
    with pytest.raises(CheckpointError, match=r"cannot restore x from s3://bucket/ckpt/x: status 403, no"):
        fetch(server, tmp_path / "to", clock)
    assert server.count("get") == EXPIRED_MAX
    server.objects[FOLDER + "x"] = b"34"
    with pytest.raises(CheckpointError, match="changed or deleted meanwhile"):
        fetch(server, tmp_path / "to", clock, resolved=resolved)
    server.heal()
    del server.objects[FOLDER + "x"]
    with pytest.raises(CheckpointError, match="it is not there any more"):
        fetch(server, tmp_path / "to", clock, resolved=resolved)


def test_other_checkpoint_does_not_go_on(server: UploadServer, tmp_path: Path, clock: Clock) -> None:
    """What is left of the restore of one checkpoint does not get into another one."""
    store(server, {"x": content(9000), "y": content(10)})
    server.on("get", Fault(cut_at_bytes=4000), path="x")
    server.on("get", Fault(400), path="x", times=1000)
    with pytest.raises(CheckpointError):
        fetch(server, tmp_path / "to", clock, digests=False)
    server.heal()
    other = "s3://bucket/other/"
    store(server, {"x": content(9000, 2), "z": b"3"}, other)
    to = fetch(server, tmp_path / "to", clock, uri=other, digests=False)
    assert tree_of(to) == {"x": content(9000, 2), "z": b"3"}


def test_identical_destination_is_left(server: UploadServer, tmp_path: Path, clock: Clock) -> None:
    """The same files are not fetched again; an empty folder is as good as none."""
    store(server)
    (tmp_path / "to").mkdir()
    fetch(server, tmp_path / "to", clock)
    count = server.count("get")
    before = (tmp_path / "to" / "a.pt").stat()
    assert fetch(server, tmp_path / "to", clock) == tmp_path / "to"
    assert server.count("get") == count
    assert (tmp_path / "to" / "a.pt").stat() == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda to: (to / "more").touch(),
        lambda to: (to / "a.pt").unlink(),
        lambda to: (to / "a.pt").write_bytes(content(5000, 3)),
        lambda to: (to / "a.pt").write_bytes(b""),
        lambda to: (to / "link").symlink_to("nowhere"),
    ],
)
def test_other_destination_is_refused(
    server: UploadServer, tmp_path: Path, clock: Clock, spoil: Callable[[Path], object]
) -> None:
    """What is there and not the same is neither overwritten nor taken for it."""
    store(server)
    to = fetch(server, tmp_path / "to", clock)
    spoil(to)
    before = tree_of(to)
    with pytest.raises(CheckpointError, match="it is there and not known to be the same"):
        fetch(server, to, clock)
    assert tree_of(to) == before
    assert [path.name for path in tmp_path.iterdir()] == ["to"]


def test_destinations_that_cannot_be(server: UploadServer, tmp_path: Path, clock: Clock) -> None:
    """A file in the way, another's folder beside it, a URI: each is refused in words."""
    store(server)
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(CheckpointError, match="not known to be the same"):
        fetch(server, tmp_path / "file", clock)
    with pytest.raises(CheckpointError, match="cannot restore to"):
        fetch(server, tmp_path / "file" / "below", clock)
    (tmp_path / "to.partial").mkdir()
    (tmp_path / "to.partial" / "mine").touch()
    with pytest.raises(CheckpointError, match=r"to.partial is in the way"):
        fetch(server, tmp_path / "to", clock)
    assert (tmp_path / "to.partial" / "mine").exists()
    with pytest.raises(InputError, match="no local path"):
        fetch(server, "s3://bucket/x", clock)


def local(tmp_path: Path, **more: Any) -> dict[str, Any]:
    """The answer for a folder on this host, which the server does not hand out."""
    uri = (tmp_path / "from").as_uri() + "/"
    file = {"kind": "full", "shard": 0, "path": "x", "uri": f"{uri}x", "size_bytes": 3, "digest": "", "url": None}
    return {"step": 1, "kinds": [{"kind": "full", "uri": uri}], "files": [file | more]}


def test_files_of_this_host_are_copied(
    server: UploadServer, tmp_path: Path, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    """Files that only this host has are copied, which is said, and checked as others are; once is enough."""
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "x").write_bytes(b"123")
    for _ in range(2):
        assert tree_of(fetch(server, tmp_path / "to", clock, resolved=local(tmp_path))) == {"x": b"123"}
    assert capfd.readouterr().err.count("copying the checkpoint from this host: all of it, from file:///") == 1
    with pytest.raises(CheckpointError, match="it has 3 bytes, and had 4 when it was logged"):
        fetch(server, tmp_path / "to2", clock, resolved=local(tmp_path, size_bytes=4))
    digest = f"sha256:{hashlib.sha256(b'124').hexdigest()}"
    with pytest.raises(CheckpointError, match="its digest is"):
        fetch(server, tmp_path / "to3", clock, resolved=local(tmp_path, digest=digest))
    assert not (tmp_path / "to3").exists()


@pytest.mark.parametrize("files", [[], [{"path": "", "size_bytes": 0}]])
def test_folder_of_this_host_that_nobody_listed(
    server: UploadServer, tmp_path: Path, clock: Clock, files: list[dict[str, Any]]
) -> None:
    """A folder of unknown content is copied whole."""
    (tmp_path / "from" / "deep").mkdir(parents=True)
    (tmp_path / "from" / "deep" / "x").write_bytes(b"123")
    answer = local(tmp_path)
    answer["files"] = [answer["files"][0] | file | {"uri": answer["kinds"][0]["uri"]} for file in files]
    assert tree_of(fetch(server, tmp_path / "to", clock, resolved=answer)) == {"deep/x": b"123"}


def test_file_that_has_become_a_folder(server: UploadServer, tmp_path: Path, clock: Clock) -> None:
    """What was logged before it was there, without "/", is the folder that it has become."""
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "x").write_bytes(b"123")
    answer = local(tmp_path)
    uri = (tmp_path / "from").as_uri()
    answer |= {"kinds": [{"kind": "full", "uri": uri}], "files": [answer["files"][0] | {"uri": uri, "size_bytes": 0}]}
    assert tree_of(fetch(server, tmp_path / "to", clock, resolved=answer)) == {"x": b"123"}


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("gs://bucket/x", r"cannot restore x: it lies at gs://bucket/x, and the server cannot read that"),
        ("file:///nowhere/x", r"it lies at file:///nowhere/x, and there is no such file on "),
    ],
)
def test_what_is_out_of_reach(server: UploadServer, tmp_path: Path, clock: Clock, uri: str, told: str) -> None:
    """Where a file cannot be had, it is said what is where, before anything is fetched."""
    store(server)
    answer = server.resolve(FOLDER)
    answer["files"].append({**local(tmp_path)["files"][0], "uri": uri})
    with pytest.raises(CheckpointError, match=told):
        fetch(server, tmp_path / "to", clock, resolved=answer)
    assert server.count("get") == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "a//b", "a\0b", ".."])
def test_paths_that_lead_outside(server: UploadServer, tmp_path: Path, clock: Clock, path: str) -> None:
    """Paths come from whoever logged the checkpoint: none leads out of the destination."""
    store(server, {"x": b"1"})
    answer = server.resolve(FOLDER)
    answer["files"][0]["path"] = path
    with pytest.raises(CheckpointError, match="not a plain relative path"):
        fetch(server, tmp_path / "to", clock, resolved=answer)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("answer", [{}, {"files": 7, "kinds": []}, {"files": [{}]}, {"files": [7]}, {"files": []}])
def test_answers_of_something_else(server: UploadServer, tmp_path: Path, clock: Clock, answer: dict[str, Any]) -> None:
    """An answer that is none is told as such."""
    with pytest.raises(CheckpointError, match="cannot read the server's answer"):
        fetch(server, tmp_path / "to", clock, resolved=answer or {"kinds": None, "files": None})


def entry(kind: str, shard: int, path: str, uri: str) -> dict[str, Any]:
    """A file of an answer."""
    return {"kind": kind, "shard": shard, "path": path, "uri": uri, "size_bytes": 0, "digest": "", "url": "/"}


def test_kinds_and_shards_have_folders_where_they_must(server: UploadServer, tmp_path: Path, clock: Clock) -> None:
    """Several kinds get a folder each, shards only where their names collide; what two shards name is there once."""
    names = ["m/0.pt", "m/1.pt", "o/s0/x", "o/s1/x"]
    server.objects |= {f"s3://bucket/{name}": name.encode() for name in names}
    urls = {file["uri"]: file["url"] for file in server.resolve("s3://bucket/")["files"]}
    files = [
        entry("model", 0, "0.pt", "s3://bucket/m/0.pt"),
        entry("model", 1, "1.pt", "s3://bucket/m/1.pt"),
        entry("optimizer", 0, "x", "s3://bucket/o/s0/x"),
        entry("optimizer", 1, "x", "s3://bucket/o/s1/x"),
    ]
    for file in files:
        file["url"] = urls[file["uri"]]
    kinds = [{"kind": "model", "uri": "s3://bucket/m/"}, {"kind": "optimizer", "uri": "s3://bucket/o/"}]
    to = fetch(server, tmp_path / "to", clock, resolved={"kinds": kinds, "files": files})
    assert tree_of(to) == {
        "model/0.pt": b"m/0.pt",
        "model/1.pt": b"m/1.pt",
        "optimizer/shard-00000/x": b"o/s0/x",
        "optimizer/shard-00001/x": b"o/s1/x",
    }
    same = [files[0], files[0] | {"shard": 1}]
    to = fetch(server, tmp_path / "one", clock, resolved={"kinds": kinds[:1], "files": same})
    assert tree_of(to) == {"0.pt": b"m/0.pt"}
    collide = [files[0] | {"path": "a"}, files[1] | {"path": "a/b"}]
    with pytest.raises(CheckpointError, match="'a' is a file and a folder in it"):
        fetch(server, tmp_path / "no", clock, resolved={"kinds": kinds[:1], "files": collide})
    collide = [files[0] | {"path": "a"}, files[1] | {"path": "a", "shard": 0}]
    with pytest.raises(CheckpointError, match="two of its files are to be at 'shard-00000/a'"):
        fetch(server, tmp_path / "no", clock, resolved={"kinds": kinds[:1], "files": collide})


@pytest.mark.parametrize("digests", [True, False])
def test_several_processes_restore_to_one_place(
    server: UploadServer, tmp_path: Path, digests: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them fetches; the others wait, and find it there."""
    store(server)
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    gate = threading.Event()
    server.on("get", Fault(opens=gate))
    results: list[Path | BaseException] = []

    def restore() -> None:
        try:
            results.append(fetch(server, tmp_path / "to", Clock(), digests=digests))
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=restore) for _ in range(3)]
    threads[0].start()
    wait_until(lambda: server.count("get"))
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: said.getvalue().count("waiting for another process") == 2)
    gate.set()
    for thread in threads:
        thread.join()
    assert results == [tmp_path / "to"] * 3
    assert server.count("get") == len(TREE)
    assert tree_of(tmp_path / "to") == TREE


def test_damaged_stamp_is_in_the_way(server: UploadServer, tmp_path: Path, clock: Clock) -> None:
    """A folder beside the destination without a readable stamp is not taken for ours."""
    store(server)
    work = tmp_path / "to.partial"
    work.mkdir()
    (work / "stamp.json").write_text(json.dumps(["no stamp"]))
    with pytest.raises(CheckpointError, match="in the way"):
        fetch(server, tmp_path / "to", clock)
