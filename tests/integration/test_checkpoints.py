"""Checkpoints through the HTTP API: listed, uploaded, verified, resolved, pruned; with the real engine and stores."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from tests.support import wire
from tests.support.s3_server import S3Server, credentials, start_s3
from tests.support.tracker import INGEST_TOLD, Tracker
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.app import HttpThread
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.engine.embedded import EmbeddedEngine
from thalweg_tracker.engine.migrate import migrate
from thalweg_tracker.model.keys import run_key
from thalweg_tracker.model.settings import Address, FileObjects, S3Objects
from thalweg_tracker.objects.contract import ObjectStore
from thalweg_tracker.objects.files import FileStore
from thalweg_tracker.objects.s3 import S3Store
from thalweg_tracker.query.lineage import RunRef, find_views
from thalweg_tracker.sql import load

DURABLE, STAGED = pb.CheckpointSaved.DURABLE, pb.CheckpointSaved.STAGED
SECOND_US = 1_000_000
_numbers = itertools.count()


@dataclass
class Place:
    """A tracker with a store of objects."""

    tracker: Tracker
    project: str

    def path(self, run_id: str, rest: str = "") -> str:
        return f"/projects/{self.project}/runs/{run_id}{rest}"

    def say(self, run_id: str, *words: pb.CheckpointSaved, times: Iterable[int] = (), **hello: Any) -> None:
        """What a training says of its checkpoints, by default a second apart."""
        told = times or range(wire.START_US, 2**60, SECOND_US)
        events = [pb.Event(time_us=time_us, checkpoint=word) for time_us, word in zip(told, words, strict=False)]
        greeting = wire.hello(run_id, project=self.project)
        for key, value in hello.items():
            getattr(greeting, key).CopyFrom(value)
        assert self.tracker.take(greeting, wire.batch(1, events=[wire.started(), *events])) == []

    def post(self, path: str, body: Any, status: int = 200, **query: Any) -> Any:
        answer = self.tracker.http.post(path, json=body, params=query)
        assert answer.status_code == status, answer.text
        return answer.json()

    def list(self, run_id: str, **query: Any) -> list[dict[str, Any]]:
        page: list[dict[str, Any]] = self.tracker.get(self.path(run_id, "/checkpoints"), **query)["checkpoints"]
        return page

    def states(self, run_id: str, **query: Any) -> dict[float, str]:
        return {one["step"]: one["state"] for one in self.list(run_id, **query)}

    def resolve(self, run_id: str, status: int = 200, **query: Any) -> Any:
        answer = self.tracker.http.get(self.path(run_id, "/checkpoints/resolve"), params=query)
        assert answer.status_code == status, answer.text
        return answer.json()

    def verify(self, run_id: str, steps: list[float] | None = None) -> dict[float, dict[str, Any]]:
        found = self.post(self.path(run_id, "/checkpoints/verify"), {"steps": steps})["checkpoints"]
        return {one["step"]: one for one in found}

    def prune(self, run_id: str, **order: Any) -> dict[str, Any]:
        branch = {"branch": order.pop("branch")} if "branch" in order else {}
        found: dict[str, Any] = self.post(self.path(run_id, "/checkpoints/prune"), order, **branch)
        return found

    def send(self, url: str, body: bytes) -> str:
        """PUTs a part, returns its ETag."""
        answer = httpx.put(httpx.URL(str(self.tracker.http.base_url)).join(url), content=body, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.headers["etag"]

    def fetch(self, url: str) -> bytes:
        return httpx.get(httpx.URL(str(self.tracker.http.base_url)).join(url), timeout=60).content

    def upload(self, run_id: str, step: float, files: dict[str, bytes], kind: str = "full", shard: int = 0) -> str:
        """As `save_checkpoint` does; returns the URI of the folder."""
        upload = hashlib.md5(f"{run_id}{step}{kind}{shard}".encode()).hexdigest()
        for path, body in files.items():
            named = {
                "step": step,
                "kind": kind,
                "shard": shard,
                "upload": upload,
                "path": path,
                "size_bytes": len(body),
            }
            begun = self.post(self.path(run_id, "/uploads"), named)
            etags = [{"number": part["number"], "etag": self.send(part["url"], body)} for part in begun["parts"]]
            self.post(self.path(run_id, "/uploads/complete"), named | {"upload_id": begun["upload_id"], "parts": etags})
        folder: str = begun["folder_uri"]
        return folder

    def save(self, run_id: str, *steps: float, body: bytes = b"weights", **fields: Any) -> None:
        """Uploads and logs a checkpoint of two files for each of these steps."""
        words = []
        for step in steps:
            files = {"model.pt": body, "rng state/0": b"r"}
            uri = self.upload(run_id, step, files, fields.get("kind", "full"))
            words.append(saved(step, uri, files={name: len(content) for name, content in files.items()}, **fields))
        self.say(run_id, *words, times=range(wire.START_US + int(steps[0]), 2**60))


def saved(
    step: float,
    uri: str = "gs://elsewhere/x",
    *,
    kind: str = "full",
    files: dict[str, int] | None = None,
    **fields: Any,
) -> pb.CheckpointSaved:
    """A durable word, with a manifest of sizes."""
    manifest = [pb.CheckpointFile(path=path, size_bytes=size) for path, size in (files or {}).items()]
    metrics = fields.pop("metrics", None)
    return pb.CheckpointSaved(
        step=step,
        uri=uri,
        kind=kind,
        files=manifest,
        state=fields.pop("state", DURABLE),
        metrics_json=json.dumps(metrics) if metrics else "",
        **fields,
    )


@contextmanager
def answering(engine: Engine, objects: ObjectStore | None) -> Iterator[Tracker]:
    thread = HttpThread(engine, Address("127.0.0.1", 0), INGEST_TOLD, objects)
    try:
        with httpx.Client(base_url=f"http://{thread.address}/api/v1", timeout=60) as http:
            yield Tracker(engine, http)
    finally:
        thread.stop()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One database for all tests of this file: each has a project of its own."""
    engine = EmbeddedEngine(tmp_path_factory.mktemp("checkpoints") / "data")
    try:
        migrate(engine)
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the store of files."""
    return tmp_path_factory.mktemp("objects")


@pytest.fixture(scope="module")
def on_files(engine: Engine, folder: Path) -> Iterator[Tracker]:
    with answering(engine, FileStore(FileObjects(folder))) as tracker:
        yield tracker


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with start_s3() as running:
        running.make_bucket("bucket")
        yield running


@pytest.fixture
def place(on_files: Tracker) -> Place:
    """A project of its own, with the store of files."""
    return Place(on_files, f"p {next(_numbers)}")


@pytest.fixture
def on_s3(engine: Engine, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A project of its own, with a bucket."""
    for name, value in credentials().items():
        monkeypatch.setenv(name, value)
    settings = S3Objects("bucket", "team/x", s3.endpoint, None, True, None)
    with answering(engine, S3Store(settings, attempts=1)) as tracker:
        yield Place(tracker, f"s {next(_numbers)}")


@pytest.fixture(params=["files", "s3"])
def either(request: pytest.FixtureRequest) -> Place:
    """Each of the two stores."""
    found: Place = request.getfixturevalue("place" if request.param == "files" else "on_s3")
    return found


def rewound(step: float, branch: int) -> pb.Origin:
    return pb.Origin(kind=pb.Origin.REWIND, step=step, attempt=f"a{branch}", branch=branch)


def forked(parent: str, step: float) -> pb.Origin:
    return pb.Origin(kind=pb.Origin.FORK, parent_run_id=parent, step=step)


# ---- listing


def test_a_checkpoint_is_listed_as_it_was_told(place: Place) -> None:
    """All that was said, and what follows from it."""
    model = saved(
        10,
        "s3://other/model.pt",
        kind="model",
        size_bytes=7,
        digest="sha256:" + "0a" * 32,
        blocked_s=1.5,
        staged_us=wire.START_US,
        saved_us=wire.START_US + 5,
        metrics={"loss": 0.5},
        metadata_json='{"note": {"a": [1]}}',
    )
    optimizer = saved(10, "s3://other/optimizer.pt", kind="optimizer", size_bytes=3, blocked_s=1.0, metrics={"acc": 1})
    place.say("r", model, optimizer)
    (one,) = place.list("r")
    assert {key: one[key] for key in one if key not in ("kinds", "created_at")} == {
        "run_id": "r", "branch": 0, "step": 10, "state": "complete", "blocked_s": 2.5, "size_bytes": 10,
        "metrics": {"loss": 0.5, "acc": 1}, "metadata": {"note": {"a": [1]}},
    }  # fmt: skip
    assert one["kinds"][0] == {
        "kind": "model", "state": "complete", "uri": "s3://other/model.pt", "shards": 1, "shards_done": 1,
        "size_bytes": 7, "digest": "sha256:" + "0a" * 32, "detail": "", "checked_at": None,
        "staged_at": "2023-11-14T22:13:20Z", "saved_at": "2023-11-14T22:13:20.000005Z",
    }  # fmt: skip


def test_shards_make_a_checkpoint_complete(place: Place) -> None:
    """Staged, then incomplete, then complete; whatever the order in which the words arrive."""
    shards = [saved(1, f"s3://b/{n}", shard=n, shards=3) for n in range(3)]
    place.say("r", saved(1, "s3://b/0", shard=0, shards=3, state=STAGED), times=[wire.START_US])
    assert place.states("r") == {1: "staged"}
    place.say("r", shards[0], times=[wire.START_US + 1])
    assert place.states("r") == {1: "incomplete"}
    place.say("r", *shards[1:], times=[wire.START_US + 2, wire.START_US + 3])
    assert place.states("r") == {1: "complete"}
    place.say("r", saved(1, "s3://b/0", shard=0, shards=3, state=STAGED), times=[wire.START_US])
    (one,) = place.list("r")
    assert (one["state"], one["kinds"][0]["uri"], one["kinds"][0]["shards_done"]) == ("complete", "s3://b/", 3)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_along_a_lineage(place: Place, limit: int) -> None:
    """Newest first, each once, those of the ancestors up to where they were left."""
    place.say("root", *(saved(step) for step in (0, 10, 20, 30)))
    place.say("child", saved(25), saved(20.5), origin=forked("root", 20))
    place.say("grand", saved(23), origin=forked("child", 22))
    place.say("grand", saved(22.5), origin=rewound(22, 1))
    walked = place.tracker.walk(place.path("grand", "/checkpoints"), "checkpoints", limit)
    told = [(one["run_id"], one["branch"], one["step"]) for one in walked]
    inherited = [("child", 0, 20.5), ("root", 0, 20.0), ("root", 0, 10.0), ("root", 0, 0.0)]
    assert told == [("grand", 1, 22.5), *inherited]
    walked = place.tracker.walk(place.path("grand", "/checkpoints"), "checkpoints", limit, branch=0)
    assert [one["step"] for one in walked] == [23, 20.5, 20, 10, 0]


def test_many_shards_and_checkpoints(place: Place) -> None:
    """Batches are cut between checkpoints, also where one has more words than a batch."""
    words = [saved(step, f"s3://b/{n}", shard=n, shards=300) for step in (1, 2, 3) for n in range(300)]
    place.say("r", *words, *(saved(step) for step in range(4, 500)))
    assert place.states("r", limit=1000) == dict.fromkeys(range(1, 500), "complete")
    assert [one["step"] for one in place.tracker.walk(place.path("r", "/checkpoints"), "checkpoints", 7)] == list(
        range(499, 0, -1)
    )
    assert [kind["shards_done"] for kind in place.resolve("r", step=2)["kinds"]] == [300]


def test_a_bad_cursor(place: Place) -> None:
    """Is refused as elsewhere."""
    place.say("r", saved(1))
    for cursor in ("x", "WyJ4Il0", "WyJuYW4iXQ", "WzFd"):
        answer = place.tracker.http.get(place.path("r", "/checkpoints"), params={"cursor": cursor})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_cursor")


def test_the_advice(place: Place) -> None:
    """From the run's saves and the failures of the project; without them a word on what is missing."""
    hour_us = 3600 * SECOND_US
    ends = [(pb.WriterEnded.FAILED, None), (pb.WriterEnded.KILLED, 9), (pb.WriterEnded.KILLED, 2),
            (pb.WriterEnded.LOST, None), (pb.WriterEnded.FINISHED, None)]  # fmt: skip
    words = [saved(100.0 * n, blocked_s=30.0 + n) for n in range(1, 4)]
    place.say("r", *words, times=[wire.START_US + n * 200 * SECOND_US for n in range(3)])
    page = place.tracker.get(place.path("r", "/checkpoints"))
    assert page["advice"] is None
    for number, (outcome, number_of_signal) in enumerate(ends):
        ended = wire.ended(outcome, wire.START_US + hour_us)
        if number_of_signal:
            ended.ended.signal = number_of_signal
        for rank in (0, 1):
            greeting = wire.hello(f"run {number}", number + 10, rank, place.project)
            place.tracker.take(greeting, wire.batch(1, events=[wire.started(), ended]))
    silent = wire.hello("silent", 98, 0, place.project)
    place.tracker.take(silent, wire.batch(1, events=[wire.started()]), seen_us=wire.START_US + hour_us)
    helper = wire.batch(1, events=[wire.started(primary=False), wire.ended(pb.WriterEnded.FAILED)])
    place.tracker.take(wire.hello("run 0", 99, 0, place.project), helper)
    advice = place.tracker.get(place.path("r", "/checkpoints"))["advice"]
    assert (advice["save_cost_s"], advice["saves"]) == (32.0, 3)
    assert (advice["current_interval_s"], advice["seconds_per_step"]) == (200.0, 2.0)
    assert advice["interval_s"] == pytest.approx(
        math.sqrt(2 * 32 * advice["mtbf_s"])
        * (1 + math.sqrt(32 / (2 * advice["mtbf_s"])) / 3 + 32 / 18 / advice["mtbf_s"])
        - 32
    )
    assert advice["interval_steps"] == round(advice["interval_s"] / 2)
    assert (advice["failures"], advice["mtbf_s"]) == (4, advice["observed_s"] / 4)


def test_no_advice_yet(place: Place) -> None:
    """While nothing failed, or no save told what it costs."""
    place.tracker.take(wire.hello("r", project=place.project), wire.batch(1, events=[wire.started()]))
    page = place.tracker.get(place.path("r", "/checkpoints"))
    assert (page["checkpoints"], page["advice"]) == ([], None)
    assert "blocked_s" in page["advice_missing"]
    place.say("r", saved(1, blocked_s=2.0))
    assert "failed" in place.tracker.get(place.path("r", "/checkpoints"))["advice_missing"]


# ---- uploads


def test_an_upload_is_saved_verified_and_fetched(either: Place) -> None:
    """What was put comes back from the URL of a resolved checkpoint, under the path that it had."""
    either.save("r", 5, body=b"the weights")
    assert either.states("r") == {5: "complete"}
    found = either.resolve("r")
    assert (found["state"], found["step"], found["skipped"], found["size_bytes"]) == ("verified", 5, [], 12)
    assert [(one["kind"], one["shard"], one["path"], one["size_bytes"]) for one in found["files"]] == [
        ("full", 0, "model.pt", 11),
        ("full", 0, "rng state/0", 1),
    ]
    assert [either.fetch(one["url"]) for one in found["files"]] == [b"the weights", b"r"]
    assert either.states("r") == {5: "verified"}


def test_an_upload_goes_on(either: Place) -> None:
    """With its id it tells what has arrived; a part of a wrong size is to be sent again."""
    either.say("r", saved(1))
    named = {"step": 1, "upload": "ab" * 16, "path": "big/a.pt", "size_bytes": 100, "kind": "model", "shard": 2}
    begun = either.post(either.path("r", "/uploads"), named)
    part_bytes = begun["part_bytes"]
    named["size_bytes"] = 2 * part_bytes + 5
    begun = either.post(either.path("r", "/uploads"), named)
    assert (begun["done"], [part["number"] for part in begun["parts"]]) == ([], [1, 2, 3])
    assert begun["uri"].startswith(begun["folder_uri"])
    assert begun["folder_uri"].endswith("/branch-0/step-1/model/shard-2/" + "ab" * 16 + "/")
    etag = either.send(begun["parts"][2]["url"], b"12345")
    either.send(begun["parts"][0]["url"], b"too short")
    again = either.post(either.path("r", "/uploads"), named | {"upload_id": begun["upload_id"]})
    assert again["done"] == [{"number": 3, "etag": etag.strip('"'), "size_bytes": 5}]
    assert ([part["number"] for part in again["parts"]], again["uri"]) == ([1, 2], begun["uri"])
    assert either.post(either.path("r", "/uploads/abort"), named | {"upload_id": begun["upload_id"]}) == {}
    gone = either.post(either.path("r", "/uploads"), named | {"upload_id": begun["upload_id"]}, status=404)
    assert gone["error"]["code"] == "upload_not_found"
    assert either.post(either.path("r", "/uploads/abort"), named | {"upload_id": begun["upload_id"]}) == {}


def test_an_upload_of_another_size_is_deleted(either: Place) -> None:
    """What arrived is not what was told: it is not kept."""
    named = {"step": 1, "upload": "cd" * 16, "path": "a.pt", "size_bytes": 10}
    begun = either.post(either.path("new", "/uploads"), named)
    etag = either.send(begun["parts"][0]["url"], b"short")
    body = named | {"upload_id": begun["upload_id"], "parts": [{"number": 1, "etag": etag}]}
    refused = either.post(either.path("new", "/uploads/complete"), body, status=400)["error"]
    assert refused["code"] == "wrong_size"
    assert "5 bytes, 10 were told" in refused["message"]
    either.say("new", saved(1, begun["uri"]))
    assert either.verify("new")[1]["state"] == "missing"


def test_an_empty_file(either: Place) -> None:
    """Has one part without bytes."""
    uri = either.upload("r", 1, {"empty": b""})
    either.say("r", saved(1, uri, files={"empty": 0}))
    found = either.resolve("r")
    assert [either.fetch(one["url"]) for one in found["files"]] == [b""]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"path": "../x"}, 400),
        ({"path": "/etc/passwd"}, 400),
        ({"path": "a//b"}, 400),
        ({"path": "a/./b"}, 400),
        ({"path": "nul\0"}, 400),
        ({"path": ""}, 422),
        ({"path": "x" * 1025}, 422),
        ({"path": "é" * 600}, 400),
        ({"upload": "AB" * 16}, 422),
        ({"upload": "../" + "a" * 29}, 422),
        ({"kind": "../.."}, 422),
        ({"shard": -1}, 422),
        ({"step": "NaN"}, 422),
        ({"size_bytes": -1}, 422),
        ({"size_bytes": 2**62}, 400),
        ({"more": 1}, 422),
    ],
)
def test_bad_uploads(place: Place, change: dict[str, Any], status: int) -> None:
    """Nothing but a plain path below the save's own folder."""
    named = {"step": 1, "upload": "ab" * 16, "path": "a", "size_bytes": 1}
    place.post(place.path("r", "/uploads"), named | change, status=status)


def test_uploads_of_different_saves_have_different_places(place: Place) -> None:
    """Each part of the identity counts; nasty names are levels like others."""
    named = {"branch": 0, "step": 1, "kind": "full", "shard": 0, "upload": "ab" * 16, "path": "a/b", "size_bytes": 1}
    changes: list[dict[str, Any]] = [
        {}, {"branch": 1}, {"step": 2}, {"step": 1.5}, {"kind": "model"}, {"shard": 1}, {"upload": "ac" * 16},
        {"path": "a"}, {"path": "a=2Fb"}, {"path": "A/b"},
    ]  # fmt: skip
    uris = [place.post(place.path("r", "/uploads"), named | change)["uri"] for change in changes]
    uris += [place.post(place.path(run, "/uploads"), named)["uri"] for run in ("r2", "r r", "%2e%2e'")]
    assert len(set(uris)) == len(uris)


# ---- verification


def object_path(uri: str) -> Path:
    return Path(unquote(uri.removeprefix("file://")))


def test_what_became_of_objects(place: Place, tmp_path: Path) -> None:
    """Good, missing, of another size, changed since, and back again."""
    target = tmp_path / "model.pt"
    target.write_bytes(b"12345")
    place.say("r", saved(1, target.as_uri(), size_bytes=5))
    one = place.verify("r")[1]
    assert (one["state"], one["kinds"][0]["detail"], one["kinds"][0]["checked_at"] is None) == ("verified", "", False)
    target.write_bytes(b"123456")
    one = place.verify("r")[1]
    assert one["state"] == "changed"
    assert "has 6 bytes, 5 were told" in one["kinds"][0]["detail"]
    kept = tmp_path / "kept"
    target.rename(kept)
    assert place.verify("r")[1]["state"] == "missing"
    assert place.states("r") == {1: "missing"}
    kept.write_bytes(b"54321")
    kept.rename(target)
    one = place.verify("r")[1]  # of the right size, but not what was verified before
    assert one["state"] == "changed"
    assert "the content is another" in one["kinds"][0]["detail"]
    place.say("r", saved(1, target.as_uri(), size_bytes=5), times=[2 * wire.START_US])
    assert place.states("r") == {1: "complete"}  # told anew: what was found before does not count
    assert place.verify("r")[1]["state"] == "verified"
    assert place.states("r") == {1: "verified"}


def test_a_folder(place: Place, tmp_path: Path) -> None:
    """Without a manifest it is all that is in it; with one, the files named."""
    root = tmp_path / "a b"
    (root / "sub").mkdir(parents=True)
    (root / "x%").write_bytes(b"123")
    (root / "sub" / "y").write_bytes(b"4")
    uri = root.as_uri() + "/"
    place.say("r", saved(1, uri), saved(2, uri, size_bytes=4), saved(3, uri, size_bytes=5))
    place.say("r", saved(4, uri, files={"x%": 3, "sub/y": 0}), saved(5, uri[:-1], files={"x%": 3, "z": 1}))
    found = place.verify("r")
    assert {step: one["state"] for step, one in found.items()} == {
        1: "verified", 2: "verified", 3: "changed", 4: "verified", 5: "missing",
    }  # fmt: skip
    assert "there is no object" in found[5]["kinds"][0]["detail"]
    assert found[1]["size_bytes"] == 4
    assert [(one["path"], one["url"]) for one in place.resolve("r", step=1)["files"]] == [("sub/y", None), ("x%", None)]
    shutil.rmtree(root)
    assert {one["state"] for one in place.verify("r").values()} == {"missing"}


def test_a_large_manifest(either: Place) -> None:
    """Is compared with a list of the folder."""
    files = {f"part {n}": b"x" for n in range(70)}
    uri = either.upload("r", 1, files)
    either.say("r", saved(1, uri, files=dict.fromkeys(files, 1)), saved(2, uri, files=dict.fromkeys([*files, "z"], 1)))
    assert either.verify("r")[1]["state"] == "verified"


def test_what_cannot_be_looked_at(place: Place) -> None:
    """A place of another store stays complete, with the reason; it is handed out without a URL."""
    place.say("r", saved(1, "s3://somewhere/x"), saved(2, "gs://b/folder/"))
    one = place.verify("r")[1]
    assert one["state"] == "complete"
    assert "cannot look there" in one["kinds"][0]["detail"]
    files = place.resolve("r", step=1)["files"]
    assert [(one["path"], one["uri"], one["url"]) for one in files] == [("x", "s3://somewhere/x", None)]
    files = place.resolve("r")["files"]
    assert [(one["path"], one["uri"], one["url"]) for one in files] == [("", "gs://b/folder/", None)]


def test_a_store_out_of_reach_marks_nothing(on_s3: Place, s3: S3Server) -> None:
    """That the store fails says nothing of the object."""
    on_s3.save("r", 1)
    s3.fail(500, 100)
    try:
        for path, method in (("/checkpoints/verify", "POST"), ("/checkpoints/resolve", "GET")):
            answer = on_s3.tracker.http.request(method, on_s3.path("r", path), json={} if method == "POST" else None)
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "object_store_error")
        assert on_s3.states("r") == {1: "complete"}
    finally:
        s3.fail(500, 0)
    assert on_s3.verify("r")[1]["state"] == "verified"


def test_looking_twice_writes_once(place: Place) -> None:
    """A thousand ranks resolve the same checkpoint at once."""
    place.save("r", 1)
    for _ in range(3):
        assert place.resolve("r")["state"] == "verified"
    where = {"run": run_key(place.project, "r")}
    rows = place.tracker.engine.query("SELECT count() AS n FROM checkpoint_checks WHERE run = {run:UInt64}", where)
    assert rows["n"].to_pylist() == [1]


def test_only_the_steps_asked_for(place: Place) -> None:
    """Others are left as they are; steps without a checkpoint are left out."""
    place.save("r", 1, 2, 3)
    assert sorted(place.verify("r", [1, 2.5, 3])) == [1, 3]
    assert place.states("r") == {1: "verified", 2: "complete", 3: "verified"}
    assert place.verify("r", []) == {}


def test_bad_questions(place: Place) -> None:
    """A step is a number, a kind one of four."""
    place.save("r", 1)
    for query in ({"step": "NaN"}, {"step": "inf"}, {"kind": "weights"}, {"best": ""}, {"best": "x", "mode": "best"}):
        place.resolve("r", 422, **query)
    orders: list[dict[str, Any]] = [{"keep_last": 0}, {"keep_every": 0}, {"keep_best": {}}, {"keep": 1}]
    for order in orders:
        place.post(place.path("r", "/checkpoints/prune"), order, 422)


# ---- resolving


def test_the_nearest_one_that_is_there(place: Place) -> None:
    """What is not good is skipped, and told."""
    place.save("r", 1, 2, 3)
    place.say("r", saved(4, shards=2), saved(5, state=STAGED), times=[wire.START_US + 40, wire.START_US + 50])
    assert place.resolve("r")["step"] == 3
    lost = object_path(place.resolve("r")["files"][0]["uri"])
    lost.unlink()
    found = place.resolve("r")
    assert (found["step"], [(one["step"], one["state"]) for one in found["skipped"]]) == (
        2,
        [(5, "staged"), (4, "incomplete"), (3, "missing")],
    )
    assert "model.pt" in found["skipped"][2]["detail"]
    assert place.resolve("r", step=1.999)["step"] == 1
    assert place.resolve("r", step=2)["step"] == 2
    assert place.states("r")[3] == "missing"


def test_without_verification(place: Place) -> None:
    """What was told is taken for true."""
    place.save("r", 1)
    object_path(place.resolve("r", verify=False)["files"][0]["uri"]).unlink()
    assert place.resolve("r", verify=False)["state"] == "complete"
    assert place.resolve("r", 404)["error"]["code"] == "no_checkpoint"
    assert place.resolve("r", 404, verify=False)["error"]["code"] == "no_checkpoint"


def test_no_checkpoint(place: Place) -> None:
    """A 404 that says why."""
    place.say("r", saved(5, state=STAGED))
    for query in ({}, {"step": 7}, {"kind": "model"}, {"best": "loss"}):
        error = place.resolve("r", 404, **query)["error"]
        assert error["code"] == "no_checkpoint"
    assert "step 5 is staged" in place.resolve("r", 404)["error"]["hint"]
    assert place.resolve("nobody", 404)["error"]["code"] == "run_not_found"
    assert place.resolve("r", 404, branch=3)["error"]["code"] == "branch_not_found"


def test_one_kind(place: Place) -> None:
    """By its own state, whatever the others are."""
    place.say("r", saved(1), saved(2, kind="model"), saved(3, kind="model"), saved(3, kind="optimizer", state=STAGED))
    assert place.resolve("r")["step"] == 2
    assert place.resolve("r", kind="full")["step"] == 1
    found = place.resolve("r", kind="model")
    assert (found["step"], [kind["kind"] for kind in found["kinds"]]) == (3, ["model"])
    assert {one["kind"] for one in found["files"]} == {"model"}


def test_along_the_lineage(place: Place) -> None:
    """An ancestor's checkpoints up to the fork are handed out, later ones are not."""
    place.say("root", saved(10), saved(20), saved(30))
    place.say("child", saved(40), origin=forked("root", 25))
    assert place.resolve("child")["step"] == 40
    found = place.resolve("child", step=39)
    assert (found["run_id"], found["step"]) == ("root", 20)
    place.say("root", saved(22), origin=rewound(15, 1))
    assert place.resolve("root")["step"] == 22
    assert place.resolve("root", step=21)["step"] == 10
    assert place.resolve("root", branch=0)["step"] == 30


def test_forks_at_the_latest_checkpoint(place: Place) -> None:
    """The latest one that is really there, along the lineage; a 404 where there is none."""
    place.save("r", 10, 20)
    place.say("r", saved(30, state=STAGED), times=[wire.START_US + 100])
    object_path(place.resolve("r")["files"][0]["uri"]).unlink()
    order = {"step": "latest-checkpoint", "run_id": "child"}
    assert place.post(place.path("r", "/fork"), order, 201)["fork_step"] == 10
    rewind = {"step": "latest-checkpoint", "attempt": "a"}
    assert place.post(place.path("child", "/rewind"), rewind)["fork_step"] == 10
    place.say("empty", saved(1, state=STAGED))
    assert place.post(place.path("empty", "/fork"), order, 404)["error"]["code"] == "no_checkpoint"


def test_the_best(place: Place) -> None:
    """By the checkpoint's own word, else the last logged value at or before it; along the lineage; NaN is none."""
    place.tracker.log("r", "val/loss", {1.0: 0.9, 5.0: 0.1, 9.0: 0.5, 11.0: math.nan}, project=place.project)
    place.tracker.log("r", "val/loss", {9.0: 0.7}, writer=2, rank=1, project=place.project)
    steps = (0.5, 4, 6, 10, 12)
    place.say("r", *(saved(step) for step in steps), saved(20, metrics={"val/loss": 0.55, "acc": 2}))
    assert place.resolve("r", best="val/loss")["step"] == 6
    assert place.resolve("r", best="val/loss", step=5)["step"] == 4
    assert place.resolve("r", best="val/loss", mode="max")["step"] == 4
    assert place.resolve("r", best="acc")["step"] == 20
    assert place.resolve("r", 404, best="nothing")["error"]["code"] == "no_checkpoint"
    place.say("child", saved(30), saved(31, metrics={"val/loss": 0.05}), origin=forked("r", 10))
    assert place.resolve("child", best="val/loss", step=30)["step"] == 6
    assert place.resolve("child", best="val/loss")["step"] == 31
    assert place.resolve("child", best="val/loss", mode="max", step=30)["step"] == 4
    # at step 9 the mean over the ranks is 0.6, which is what 10 and 30 have
    found = place.prune("child", keep_best={"metric": "val/loss"}, dry_run=True)
    assert [one["step"] for one in found["kept"]] == [30, 31]


def test_many_that_are_not_there(place: Place) -> None:
    """They are passed over in batches; a hundred are told, of the others the number."""
    place.say("r", *(saved(step, state=STAGED if step else DURABLE) for step in range(400)))
    found = place.resolve("r")
    assert (found["step"], len(found["skipped"]), found["skipped_more"]) == (0, 100, 299)


# ---- pruning


def test_pruning(either: Place) -> None:
    """Objects are gone, and the list says so; the rest is untouched; once more changes nothing."""
    either.save("r", 10, 20, 30, 40)
    dry = either.prune("r", keep_last=2, dry_run=True)
    assert ([one["step"] for one in dry["kept"]], dry["dry_run"]) == ([30, 40], True)
    assert dry["deleted"] == [{"step": step, "bytes": 8, "objects": 2} for step in (10, 20)]
    assert set(either.states("r").values()) == {"complete"}
    done = either.prune("r", keep_last=2)
    assert (done["deleted"], done["failed"], done["dry_run"]) == (dry["deleted"], [], False)
    assert either.states("r") == {10: "deleted", 20: "deleted", 30: "complete", 40: "verified"}
    assert either.prune("r", keep_last=2)["deleted"] == []
    assert {one["state"] for one in either.verify("r", [10, 20]).values()} == {"deleted"}
    found = either.resolve("r", step=30)
    assert [either.fetch(one["url"]) for one in found["files"]] == [b"weights", b"r"]
    assert either.resolve("r", 404, step=25)["error"]["code"] == "no_checkpoint"
    uri = either.upload("r", 20, {"model.pt": b"again"})
    either.say("r", saved(20, uri, files={"model.pt": 5}), times=[2 * wire.START_US])
    assert either.resolve("r", step=25)["step"] == 20


def test_pruning_needs_a_policy(place: Place) -> None:
    """Otherwise it would delete all but one."""
    place.save("r", 1)
    assert place.post(place.path("r", "/checkpoints/prune"), {}, 400)["error"]["code"] == "nothing_to_keep"


def test_forks_keep_what_they_point_at(place: Place) -> None:
    """Also forks of forks and rewinds, on the branch that they left; ancestors are not touched."""
    place.save("r", 10, 20, 30, 40, 50)
    place.say("fork", saved(100), origin=forked("r", 25))
    place.say("deep", saved(100), origin=forked("fork", 12))
    kept = {one["step"]: one["reasons"] for one in place.prune("r", keep_last=1)["kept"]}
    assert kept == {
        10: ["a fork at step 12 points at it"],
        20: ["a fork at step 25 points at it"],
        50: ["the newest complete one", "one of the last 1"],
    }
    assert place.resolve("deep", step=99)["step"] == 10
    assert place.resolve("fork", step=99)["step"] == 20
    place.say("r", saved(51), origin=rewound(50, 1))
    assert [one["step"] for one in place.prune("r", keep_last=1)["kept"]] == [51]
    assert place.states("r", branch=0)[50] != "deleted"


def test_what_must_stay_is_looked_at_first(place: Place) -> None:
    """The newest one is told to be complete, but it is not there: the one before it must stay."""
    place.save("r", 1, 2, 3)
    object_path(place.resolve("r")["files"][0]["uri"]).unlink()
    dry = place.prune("r", keep_last=1, dry_run=True)
    assert [one["step"] for one in dry["deleted"]] == [1]
    assert place.states("r")[3] == "verified"  # what was found is not kept either
    done = place.prune("r", keep_last=1)
    assert {one["step"] for one in done["kept"]} == {2, 3}
    assert place.states("r") == {1: "deleted", 2: "verified", 3: "missing"}


def test_what_is_outside_the_store_is_left(place: Place, tmp_path: Path) -> None:
    """Be it readable or not."""
    target = tmp_path / "x"
    target.write_bytes(b"1")
    place.say("r", saved(1, target.as_uri()), saved(2, "s3://other/x"), times=[wire.START_US, wire.START_US + 1])
    place.save("r", 3, 4)
    done = place.prune("r", keep_last=1)
    assert [one["step"] for one in done["deleted"]] == [3]
    assert {one["step"]: one["reasons"] for one in done["kept"]} == {
        1: ["outside the store"], 2: ["outside the store"], 4: ["the newest complete one", "one of the last 1"],
    }  # fmt: skip
    assert target.exists()


def test_shared_objects_are_left(place: Place) -> None:
    """A file that is overwritten at each save is pointed at by all of them, and maybe by another run."""
    uri = place.upload("r", 0, {"latest.pt": b"1"})
    place.say("r", *(saved(step, uri + "latest.pt") for step in (1, 2, 3)))
    place.save("r", 4, 5)
    place.say("other", saved(7, place.list("r", limit=2)[1]["kinds"][0]["uri"]))
    done = place.prune("r", keep_every=3)
    reasons = {one["step"]: one["reasons"] for one in done["kept"]}
    assert reasons[1] == reasons[2] == reasons[4] == ["another checkpoint points at its objects"]
    assert done["deleted"] == []
    assert place.resolve("r", step=3)["state"] == "verified"
    done = place.prune("r", keep_last=1)  # now all that point at the file go together
    assert [one["step"] for one in done["deleted"]] == [1, 2, 3]


def test_a_failure_is_told_and_the_others_go_on(place: Place) -> None:
    """It is not marked as deleted, and may be tried again."""
    place.save("r", 1, 2, 3)
    stuck = object_path(place.resolve("r", step=1, verify=False)["files"][0]["uri"])
    content = stuck.read_bytes()
    stuck.unlink()
    stuck.mkdir()  # no file: unlink fails
    (stuck / "x").write_bytes(content)
    done = place.prune("r", keep_last=1)
    assert [one["step"] for one in done["failed"]] == [1]
    assert "model.pt" in done["failed"][0]["detail"]
    assert [one["step"] for one in done["deleted"]] == [2]
    assert place.states("r")[1] != "deleted"


def test_without_a_store(engine: Engine) -> None:
    """Pointers are listed and handed out; the rest is refused with a word."""
    with answering(engine, None) as tracker:
        place = Place(tracker, f"p {next(_numbers)}")
        place.say("r", saved(1, "s3://b/x"))
        found = place.resolve("r")
        assert (found["state"], found["kinds"][0]["detail"]) == ("complete", "this server has no object store")
        named = {"step": 1, "upload": "ab" * 16, "path": "a", "size_bytes": 1}
        for path, body in (("/uploads", named), ("/checkpoints/prune", {"keep_last": 1})):
            assert place.post(place.path("r", path), body, 400)["error"]["code"] == "no_object_store"


# ---- cost


def test_a_walk_reads_one_granule(place: Place) -> None:
    """The primary key finds the words of a run below a step, however many checkpoints others have."""
    engine = place.tracker.engine
    runs = [f"r{number}" for number in range(20)]
    for number, run in enumerate(runs):
        place.say(run, *(saved(float(step), kind="model") for step in range(2000)), times=range(number, 2**60, 20))
    view = find_views(engine, place.project, [RunRef("r7")])[0]
    where = {"project": place.project, "run": view.key, "after": -math.inf, "before": 900.0, "kind": "", "limit": 256}
    engine.execute("OPTIMIZE TABLE checkpoints FINAL")
    plan = "\n".join(engine.query("EXPLAIN indexes = 1 " + load("checkpoint_words"), where)[0].to_pylist())
    assert "PrimaryKey" in plan
    granules = re.findall(r"Granules: (\d+)/(\d+)", plan)
    assert granules
    assert all(int(read) <= 2 < int(total) for read, total in granules), plan
