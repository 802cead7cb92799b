"""A training and its client, as the tests of checkpoints need them, over the HTTP API of a real engine and store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx

from tests.support import wire
from tests.support.tracker import INGEST_TOLD, Tracker
from thalweg.wire.v1 import records_pb2 as pb
from thalweg_tracker.app import HttpThread
from thalweg_tracker.engine.contract import Engine
from thalweg_tracker.model.settings import Address
from thalweg_tracker.objects.contract import ObjectStore

DURABLE, STAGED = pb.CheckpointSaved.DURABLE, pb.CheckpointSaved.STAGED
SECOND_US = 1_000_000


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
        writer = 1 + hello["origin"].branch if "origin" in hello else 1  # one writer stays on its branch
        greeting = wire.hello(run_id, writer, project=self.project)
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

    def verify(self, run_id: str, steps: Sequence[float] | None = None) -> dict[float, dict[str, Any]]:
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


def rewound(step: float, branch: int) -> pb.Origin:
    return pb.Origin(kind=pb.Origin.REWIND, step=step, attempt=f"a{branch}", branch=branch)


def forked(parent: str, step: float) -> pb.Origin:
    return pb.Origin(kind=pb.Origin.FORK, parent_run_id=parent, step=step)


def object_path(uri: str) -> Path:
    return Path(unquote(uri.removeprefix("file://")))
