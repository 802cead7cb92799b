"""Uploads over real sockets: what arrives, what is sent again, what is refused."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import threading
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support.upload_server import Fault, UploadServer
from tests.unit.sdk.checkpoints.conftest import Clock, content
from thalweg.api_client import ApiClient
from thalweg.checkpoints import parts, transfer
from thalweg.checkpoints import upload as upload_module
from thalweg.checkpoints.manifest import ManifestFile, digest_of
from thalweg.checkpoints.transfer import Pace
from thalweg.checkpoints.upload import Uploaded, upload
from thalweg.checkpoints.upload_state import Target, UploadState
from thalweg.errors import CheckpointError, InputError

TARGET = Target("digits", "run", None, 7.0, "full")


def sha256(data: bytes) -> str:
    """As it is in a manifest."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Where the state of the upload is."""
    return tmp_path / "spool" / "uploads" / "1.json"


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request after the other: where an upload fails, no other is under way."""
    monkeypatch.setattr(upload_module, "FILES_AT_ONCE", 1)
    monkeypatch.setattr(upload_module, "PARTS_AT_ONCE", 1)


def send(server: UploadServer, source: Path, saved: Path, clock: Clock, **more: Any) -> Uploaded:
    """One upload without waiting."""
    return upload(ApiClient(server.url), source, TARGET, state_path=saved, pace=clock.pace(), **more)


@pytest.mark.parametrize("size_bytes", [0, 1, 999, 1000, 1001, 5000, 12_345])
@pytest.mark.parametrize("is_absolute", [False, True])
def test_file_arrives(
    server: UploadServer, tmp_path: Path, saved: Path, clock: Clock, size_bytes: int, is_absolute: bool
) -> None:
    """A file of any size arrives in its parts, each sent once; an empty one is one empty part."""
    server.is_absolute = is_absolute
    data = content(size_bytes)
    (tmp_path / "x.pt").write_bytes(data)
    done = send(server, tmp_path / "x.pt", saved, clock)
    assert server.objects == {done.uri: data}
    assert done.uri.endswith("/x.pt")
    assert (done.files, done.size_bytes, done.digest) == ((), size_bytes, sha256(data))
    assert set(server.stored.values()) == {1}
    assert len(server.stored) == max(1, -(-size_bytes // 1000))
    assert not server.uploads
    assert not saved.exists()
    assert not clock.waits_s


def test_folder_arrives(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock) -> None:
    """All files of a folder arrive below one URI, links as their files, with a manifest."""
    folder = tmp_path / "ckpt"
    data = {f"deep/{number}/part-{number}": content(number * 700, number) for number in range(12)}
    data |= {"empty": b"", "a b/größe": b"1", ".hidden": b"2"}
    for path, text in data.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text)
    (folder / "no files").mkdir()
    (folder / "link").symlink_to("deep/3/part-3")
    data["link"] = data["deep/3/part-3"]
    done = send(server, folder, saved, clock)
    assert done.uri.endswith("/")
    assert server.objects == {done.uri + path: text for path, text in data.items()}
    assert done.files == tuple(ManifestFile(path, len(data[path]), sha256(data[path])) for path in sorted(data))
    assert done.size_bytes == sum(map(len, data.values()))
    assert done.digest == digest_of(done.files)
    assert not saved.exists()


def test_empty_folder(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock) -> None:
    """A folder without files has a URI, and leaves nothing in the store."""
    (tmp_path / "ckpt" / "deep").mkdir(parents=True)
    done = send(server, tmp_path / "ckpt", saved, clock)
    assert done.uri.endswith("/")
    assert (done.files, done.size_bytes) == ((), 0)
    assert not server.objects
    assert not server.uploads


def test_more_parts_than_urls(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock) -> None:
    """The server names some URLs at a time: the others are asked for when they are needed."""
    server.part_bytes, server.urls_max = 100, 7
    (tmp_path / "x").write_bytes(content(5000))
    done = send(server, tmp_path / "x", saved, clock)
    assert server.objects[done.uri] == content(5000)
    assert set(server.stored.values()) == {1}
    assert server.count("begin") < 20


FAULTS = {
    "status 500": Fault(500),
    "status 503": Fault(503),
    "status 429": Fault(429),
    "S3's way to say that a connection was too slow": Fault(400, b"<Error><Code>RequestTimeout</Code></Error>"),
    "bytes that changed on their way": Fault(400, b'{"error": {"code": "bad_digest"}}'),
    "connection cut at once": Fault(cut_at_bytes=0),
    "connection cut in the middle": Fault(cut_at_bytes=500),
    "expired credentials": Fault(400, b"<Error><Code>ExpiredToken</Code></Error>"),
}


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        pytest.param(kind, fault, id=f"{kind}: {name}")
        for name, fault in FAULTS.items()
        for kind in ("begin", "put", "complete")
        if kind == "put" or fault.status != 400  # which the API never says of what may pass
    ],
)
def test_passing_faults_are_waited_out(
    server: UploadServer, tmp_path: Path, saved: Path, clock: Clock, kind: str, fault: Fault
) -> None:
    """What may pass is tried again, part by part, after a time that is drawn."""
    server.on(kind, fault, skip=1 if kind == "put" else 0, times=3)
    (tmp_path / "x").write_bytes(content(4500))
    done = send(server, tmp_path / "x", saved, clock)
    assert server.objects[done.uri] == content(4500)
    assert set(server.stored.values()) == {1}
    assert len(clock.waits_s) == 3
    assert all(0 < wait_s <= 15 for wait_s in clock.waits_s)


def test_lost_answer_of_a_part(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock) -> None:
    """A part that arrived, though its answer did not, is not sent again."""
    server.on("put", Fault(loses_answer=True), skip=2)
    (tmp_path / "x").write_bytes(content(4500))
    done = send(server, tmp_path / "x", saved, clock)
    assert server.objects[done.uri] == content(4500)
    assert set(server.stored.values()) == {1}


def test_lost_answer_of_the_completion(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock) -> None:
    """Where the server has forgotten the upload when it is asked again, the file is sent anew, and counted once."""
    server.on("complete", Fault(loses_answer=True))
    (tmp_path / "x").write_bytes(content(4500))
    told: list[tuple[int, int]] = []
    done = send(server, tmp_path / "x", saved, clock, progress=lambda *now: told.append(now))
    assert server.objects == {done.uri: content(4500)}
    assert told[-1] == (4500, 4500)


def test_expired_urls_are_replaced(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock) -> None:
    """A URL that is refused is replaced by a fresh one; what arrived before is not sent again."""
    server.on("put", Fault(403, b"<Code>AccessDenied</Code><Message>Request has expired</Message>"), skip=2, times=2)
    (tmp_path / "x").write_bytes(content(6500))
    done = send(server, tmp_path / "x", saved, clock)
    assert server.objects[done.uri] == content(6500)
    assert set(server.stored.values()) == {1}


def test_old_urls_are_replaced_before_they_expire(clock: Clock) -> None:
    """Near the end of their lifetime URLs are not used any more; nor is one that did not work."""
    given = iter(range(100))

    def answer() -> parts.UploadAnswer:
        return parts.UploadAnswer("", "", "", 10, {}, {1: f"url {next(given)}"}, 100)

    urls = parts.PartUrls(answer(), answer, lambda: clock.now_s)
    found = []
    for seconds in (0, 79, 2, 0):
        clock.now_s += seconds
        found.append(urls.find(1, 10)[0])
    assert found == ["url 0", "url 0", "url 1", "url 1"]
    urls.drop(1, "url 0")  # of another thread, too late
    assert urls.find(1, 10) == ("url 1", "")
    urls.drop(1, "url 1")
    assert urls.find(1, 10) == ("url 2", "")


def test_denied_for_good(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock) -> None:
    """Where fresh URLs are refused, too, the upload ends after some of them, with the store's words."""
    server.on("put", Fault(403, b"<Code>AccessDenied</Code>\n\n<Message>not  yours</Message>"), times=1000)
    (tmp_path / "x.pt").write_bytes(content(500))
    with pytest.raises(CheckpointError) as caught:
        send(server, tmp_path / "x.pt", saved, clock)
    assert str(caught.value) == (
        "cannot upload x.pt, part 1: status 403, <Code>AccessDenied</Code> <Message>not yours</Message>"
    )
    assert server.count("put") == transfer.EXPIRED_MAX


def test_refused_for_good(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock) -> None:
    """What will not pass is not tried again."""
    server.on("put", Fault(400, b"<Code>EntityTooSmall</Code>"), times=1000)
    (tmp_path / "x.pt").write_bytes(content(500))
    with pytest.raises(CheckpointError, match=r"cannot upload x.pt, part 1: status 400, <Code>EntityTooSmall"):
        send(server, tmp_path / "x.pt", saved, clock)
    assert server.count("put") == 1


@pytest.mark.usefixtures("one_at_a_time")
def test_patience_ends(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock) -> None:
    """After PATIENCE_S without progress the error names file, part, status and what to do; the next call goes on."""
    server.on("put", Fault(503), skip=3, times=1000)
    (tmp_path / "x.pt").write_bytes(content(4500))
    with pytest.raises(CheckpointError) as caught:
        send(server, tmp_path / "x.pt", saved, clock)
    told = str(caught.value)
    assert "cannot upload x.pt, part " in told
    assert "status 503, <Error><Code>SlowDown</Code> <Message>Please reduce" in told
    assert f"Tried {len(clock.waits_s) + 1} times. What arrived is kept" in told
    assert transfer.PATIENCE_S <= clock.now_s < transfer.PATIENCE_S + 1
    assert saved.exists()
    server.heal()
    done = send(server, tmp_path / "x.pt", saved, clock)
    assert server.objects[done.uri] == content(4500)
    assert set(server.stored.values()) == {1}


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize(("hurries", "most_s", "begins"), [(False, transfer.FIRST_ANSWER_S, None), (True, 0.0, 1)])
def test_server_that_is_away(
    server: UploadServer, tmp_path: Path, saved: Path, clock: Clock, hurries: bool, most_s: float, begins: int | None
) -> None:
    """Until the upload is begun a training waits for all files together FIRST_ANSWER_S, or for one try."""
    server.on("begin", Fault(503), times=1000)
    (tmp_path / "ckpt").mkdir()
    for number in range(4):
        (tmp_path / "ckpt" / str(number)).write_bytes(content(500))
    (tmp_path / "x").write_bytes(content(500))
    for source in ("ckpt", "x"):
        clock.now_s, server.asked[:] = 0.0, []
        with pytest.raises(CheckpointError, match=r"cannot begin the upload of .* Tried .* What arrived is kept"):
            send(server, tmp_path / source, saved, clock, hurries=hurries)
        assert clock.now_s == pytest.approx(most_s)
    assert begins in (None, server.count("begin"))


def test_waits_for_the_server_are_bounded(clock: Clock) -> None:
    """No wait for an answer is longer than what is left of the time, until the first one; then it is ANSWER_S."""
    patient = transfer.Transfer("", clock.pace(), has_answered=False)
    hurried = transfer.Transfer("", clock.pace(), has_answered=False, hurries=True)
    assert (patient.answer_s(), hurried.answer_s()) == (transfer.FIRST_ANSWER_S, transfer.SHORT_TRY_S)
    clock.now_s = 8.0
    assert patient.answer_s() == 2.0
    patient.persist("begin", lambda: None)
    assert patient.answer_s() == transfer.ANSWER_S


def test_hung_server_is_given_up(clock: Clock) -> None:
    """Attempts that hang use up the patience, too: it is a time, not a number of attempts."""
    tries = []

    def hang() -> None:
        tries.append(hanging.answer_s())
        clock.now_s += tries[-1]
        raise transfer.RetryLaterError("timed out")

    hanging = transfer.Transfer("", clock.pace(), has_answered=False)
    with pytest.raises(CheckpointError, match="Tried once"):
        hanging.persist("begin", hang)
    assert clock.now_s == transfer.FIRST_ANSWER_S
    hanging.persist("begin", lambda: None)
    clock.now_s = 0.0
    with pytest.raises(CheckpointError, match="timed out"):
        hanging.persist("begin", hang)
    assert clock.now_s <= transfer.PATIENCE_S + transfer.ANSWER_S


def test_server_error_of_the_api(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock) -> None:
    """What the server refuses is told in its words."""
    told = {"error": {"code": "bad_key", "message": "cannot name an object so", "hint": "Name it otherwise."}}
    server.on("begin", Fault(400, json.dumps(told).encode()))
    (tmp_path / "x").write_bytes(b"1")
    with pytest.raises(CheckpointError, match=r"begin the upload of x: cannot name an object so. Name it otherwise"):
        send(server, tmp_path / "x", saved, clock)
    assert server.count("begin") == 1


def test_etag_of_other_bytes(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock) -> None:
    """An etag that is the MD5 of other bytes is not believed: the part is sent again."""
    server.on("put", Fault(corrupts=True), skip=1, times=2)
    (tmp_path / "x").write_bytes(content(2500))
    done = send(server, tmp_path / "x", saved, clock)
    assert server.objects[done.uri] == content(2500)
    assert server.count("put") == 5


@pytest.mark.parametrize(
    "header",
    [
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption", "aws:kms:dsse"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
    ],
)
def test_etag_with_secret_keys_is_not_md5(
    server: UploadServer, tmp_path: Path, saved: Path, clock: Clock, header: tuple[str, str]
) -> None:
    """Encrypted with a key of KMS or of the customer, the etag is no MD5, and not compared."""
    server.on("put", Fault(corrupts=True, headers=(header,)))
    (tmp_path / "x").write_bytes(content(500))
    done = send(server, tmp_path / "x", saved, clock)
    assert server.objects[done.uri] == content(500)
    assert server.count("put") == 1


@pytest.mark.usefixtures("one_at_a_time")
def test_interrupted_folder_goes_on(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock) -> None:
    """Complete files and arrived parts are not sent again by the next call, except of files that changed."""
    folder = tmp_path / "ckpt"
    folder.mkdir()
    tree = {f"{number}": content(3500, number) for number in range(4)}
    for path, data in tree.items():
        (folder / path).write_bytes(data)
    server.on("put", Fault(400, b"no"), path="2", skip=2)
    with pytest.raises(CheckpointError):
        send(server, folder, saved, clock)
    assert server.stored.total() == 4 + 4 + 2
    tree["1"] = content(3400, 99)
    (folder / "1").write_bytes(tree["1"])
    done = send(server, folder, saved, clock)
    assert server.objects == {done.uri + path: data for path, data in tree.items()}
    assert server.stored == {(path, part): 2 if path == "1" else 1 for path in tree for part in (1, 2, 3, 4)}
    assert not server.uploads


def test_changed_time_begins_anew(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock) -> None:
    """A file that was written again since, though as long as before, is sent whole."""
    path = tmp_path / "x"
    path.write_bytes(content(4500))
    server.on("put", Fault(400, b"no"), skip=2, times=1000)
    with pytest.raises(CheckpointError):
        send(server, path, saved, clock)
    path.write_bytes(content(4500, 2))
    os.utime(path, ns=(1, 1))
    server.heal()
    done = send(server, path, saved, clock)
    assert server.objects == {done.uri: content(4500, 2)}
    assert not server.uploads


def test_upload_that_is_gone_begins_anew(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock) -> None:
    """Where the store has thrown the begun upload away, before or between the parts, the file is sent whole."""
    path = tmp_path / "x"
    path.write_bytes(content(4500))
    server.on("put", Fault(400, b"no"), skip=2, times=1000)
    with pytest.raises(CheckpointError):
        send(server, path, saved, clock)
    server.heal()
    server.uploads.clear()
    server.on("put", Fault(404, b"<Code>NoSuchUpload</Code>"), skip=2)
    done = send(server, path, saved, clock)
    assert server.objects == {done.uri: content(4500)}


def test_upload_that_is_always_gone(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock) -> None:
    """A store that forgets each upload is given up."""
    server.on("put", Fault(404, b"<Code>NoSuchBucket</Code>"), times=1000)
    (tmp_path / "x").write_bytes(content(4500))
    with pytest.raises(CheckpointError, match=r"gone 3 times \(status 404, <Code>NoSuchBucket</Code>\)"):
        send(server, tmp_path / "x", saved, clock)


def test_file_that_changes_meanwhile(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock) -> None:
    """A file that is written to while it is read makes no object."""
    path = tmp_path / "x"
    path.write_bytes(content(20_000))

    def progress(done_bytes: int, total_bytes: int) -> None:
        path.write_bytes(content(20_000, 2))

    with pytest.raises(CheckpointError, match="it changes while it is uploaded"):
        send(server, path, saved, clock, progress=progress)
    assert not server.objects


@pytest.mark.parametrize("name", ["missing", "bad\udc80name", "out", "s3://bucket/x"])
def test_refused_input(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock, name: str) -> None:
    """What is no file here, or leads outside, is refused before anything is sent."""
    (tmp_path / "bad\udc80name").write_bytes(b"1")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to("/etc/hostname")
    source: Any = name if "://" in name else tmp_path / name
    with pytest.raises(InputError, match="cannot upload"):
        send(server, source, saved, clock)
    assert not server.asked


def test_unreadable_file(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock) -> None:
    """What the disk does not give is told as an error of the checkpoint."""
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "x").write_bytes(b"1")

    def progress(done_bytes: int, total_bytes: int) -> None:
        raise OSError(5, "Input/output error")  # as a read would

    with pytest.raises(CheckpointError, match=r"cannot upload .*ckpt'\): .*Input/output error"):
        send(server, tmp_path / "ckpt", saved, clock, progress=progress)


@pytest.mark.usefixtures("one_at_a_time")
def test_progress_is_told(server: UploadServer, tmp_path: Path, saved: Path, clock: Clock) -> None:
    """The user's function sees all bytes, in order, also those of an earlier call; its error ends the upload."""
    (tmp_path / "x").write_bytes(content(4500))

    def refuse(done_bytes: int, total_bytes: int) -> None:
        if done_bytes >= 2000:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        send(server, tmp_path / "x", saved, clock, progress=refuse)
    told: list[tuple[int, int]] = []
    send(server, tmp_path / "x", saved, clock, progress=lambda *now: told.append(now))
    assert told == sorted(told)
    assert told[-1] == (4500, 4500)
    assert set(server.stored.values()) == {1}


def test_long_uploads_say_a_line(
    server: UploadServer, tmp_path: Path, saved: Path, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without a function, a line is said every ten seconds of a long upload; a short one says nothing."""
    (tmp_path / "x").write_bytes(content(10_000))
    send(server, tmp_path / "x", saved, clock)
    assert capfd.readouterr().err == ""
    seconds = itertools.count(0, 4)
    slow = Pace(clock.wait, lambda: next(seconds), Random(7))
    upload(ApiClient(server.url), tmp_path / "x", TARGET, state_path=saved, pace=slow)
    lines = capfd.readouterr().err.splitlines()
    assert 0 < len(lines) <= next(seconds) / 10
    assert lines[0].startswith(f"thalweg: uploading {tmp_path / 'x'}: ")
    assert lines[0].endswith(" % of 10.0 kB")


def test_memory_is_bounded(
    server: UploadServer, tmp_path: Path, saved: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the size of the file, so many parts are held at once."""
    held: list[int] = []
    take, give_back = parts.Room.take, parts.Room.give_back
    lock = threading.Lock()

    def counted(room: parts.Room, size_bytes: int) -> None:
        take(room, size_bytes)
        with lock:
            held.append((held[-1] if held else 0) + 1)

    def uncounted(room: parts.Room, size_bytes: int) -> None:
        with lock:
            held.append(held[-1] - 1)
        give_back(room, size_bytes)

    monkeypatch.setattr(parts.Room, "take", counted)
    monkeypatch.setattr(parts.Room, "give_back", uncounted)
    (tmp_path / "x").write_bytes(content(50_000))
    send(server, tmp_path / "x", saved, clock)
    assert max(held) <= parts.PARTS_IN_MEMORY
    assert held[-1] == 0


def test_state_that_cannot_be_written(
    server: UploadServer, tmp_path: Path, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    """A full or absent spool costs the resuming, not the upload."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "x").write_bytes(content(4500))
    done = send(server, tmp_path / "x", tmp_path / "file" / "uploads" / "1.json", clock)
    assert server.objects[done.uri] == content(4500)
    assert capfd.readouterr().err.count("cannot keep the state of an upload") == 1


def test_damaged_or_foreign_state_is_replaced(tmp_path: Path) -> None:
    """A state that cannot be read, or is of another checkpoint, is not gone on with."""
    saved = tmp_path / "1.json"
    for text in (
        "",
        "[]",
        "{",
        '{"format": 2}',
        '{"format": 1, "source": "x", "target": 7, "upload": "", "files": {}}',
    ):
        saved.write_text(text)
        assert len(UploadState(saved, Path("x"), TARGET, lambda: 0.0).upload) == 32
    state = UploadState(saved, Path("x"), TARGET, lambda: 0.0)
    state.save()
    assert UploadState(saved, Path("x"), TARGET, lambda: 0.0).upload == state.upload
    assert UploadState(saved, Path("y"), TARGET, lambda: 0.0).upload != state.upload
    other = Target("digits", "run", None, 8.0, "full")
    assert UploadState(saved, Path("x"), other, lambda: 0.0).upload != state.upload


def test_proxy_is_used(
    server: UploadServer, tmp_path: Path, saved: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts go through the proxy of the environment where the store is not on this host."""
    monkeypatch.setenv("http_proxy", server.url.replace("//", "//user:secret@"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    address = server.url
    server.is_absolute = True
    client = ApiClient(address)
    server.url = "http://store.example"
    (tmp_path / "x").write_bytes(content(2500))
    done = upload(client, tmp_path / "x", TARGET, state_path=saved, pace=clock.pace())
    assert server.objects[done.uri] == content(2500)
