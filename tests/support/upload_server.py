"""A server for tests of uploads and downloads: the routes of the HTTP contract and an object store, in memory.

Real sockets; nothing of the real server. `on` makes requests go wrong.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

BUCKET = "s3://bucket/"


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a request."""

    status: int = 0  # is answered with this one
    body: bytes = b"<Error><Code>SlowDown</Code>\n  <Message>Please reduce your request rate</Message></Error>"
    cut_at_bytes: int | None = None  # the connection is closed after so many bytes of the body, in either direction
    loses_answer: bool = False  # the work is done, but the connection is closed instead of an answer
    corrupts: bool = False  # a byte of the content of a download is another; the etag of a part is another
    held: threading.Event | None = None  # waits for this one, then closes the connection
    opens: threading.Event | None = None  # waits for this one, then all goes well
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class _Order:
    kind: str
    skip: int
    times: int
    fault: Fault
    path: str


@dataclass
class _Upload:
    uri: str
    body: dict[str, Any]
    parts: dict[int, bytes] = field(default_factory=dict)
    etags: dict[int, str] = field(default_factory=dict)


class UploadServer:
    """`kinds` of requests: begin, complete, abort, put, get."""

    def __init__(self) -> None:
        self.url = ""
        self.part_bytes = 1000
        self.urls_max = 1000
        self.expires_s = 3600
        self.is_absolute = False  # whether the URLs are those of an object store of its own
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, _Upload] = {}
        self.asked: list[str] = []
        self.stored: Counter[tuple[str, int]] = Counter()
        """How often each part was taken in, by path and number."""
        self.sent_bytes = 0
        """Of contents, in all downloads."""
        self.epoch = 0
        self._orders: list[_Order] = []
        self._lock = threading.Lock()
        self._ids = itertools.count(1)

    def on(self, kind: str, fault: Fault, *, path: str = "", skip: int = 0, times: int = 1) -> None:
        """After `skip` requests of this kind, the next `times` go wrong. `path`: only those of this file (put, get)."""
        self._orders.append(_Order(kind, skip, times, fault, path))

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        self._orders.clear()

    def expire_urls(self) -> None:
        """All URLs that were given out get 403."""
        self.epoch += 1

    def count(self, kind: str) -> int:
        """How many requests of a kind there were."""
        return self.asked.count(kind)

    def path_of(self, query: dict[str, str]) -> str:
        """Of the file that a URL is of."""
        upload = self.uploads.get(query.get("upload", ""))
        return upload.body["path"] if upload else query.get("uri", "").rpartition("/")[2]

    def fault_of(self, kind: str, path: str = "") -> Fault | None:
        """What is to go wrong with this request."""
        with self._lock:
            self.asked.append(kind)
            for order in self._orders:
                if order.kind != kind or order.times == 0 or order.path not in ("", path):
                    continue
                if order.skip:
                    order.skip -= 1
                    continue
                order.times -= 1
                return order.fault
        return None

    def count_sent(self, size_bytes: int) -> None:
        """Bytes of a content go out."""
        with self._lock:
            self.sent_bytes += size_bytes

    def begin(self, run: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to a begin; None for 404."""
        folder_uri = f"{BUCKET}{run}/{body['step']:g}/{body['kind']}/{body['shard']}/{body['upload']}/"
        uri = folder_uri + body["path"]
        with self._lock:
            upload_id = body["upload_id"] or f"upload-{next(self._ids)}"
            if body["upload_id"] is None:
                self.uploads[upload_id] = _Upload(uri, body)
            upload = self.uploads.get(upload_id)
        if upload is None or upload.uri != uri:
            return None
        missing = [number for number in range(1, self._count(body["size_bytes"]) + 1) if number not in upload.parts]
        return {
            "uri": uri,
            "folder_uri": folder_uri,
            "upload_id": upload_id,
            "part_bytes": self.part_bytes,
            "done": [
                {"number": number, "etag": upload.etags[number], "size_bytes": len(data)}
                for number, data in sorted(upload.parts.items())
            ],
            "parts": [
                {"number": number, "url": self._url("part", upload=upload_id, number=number)}
                for number in missing[: self.urls_max]
            ],
            "expires_s": self.expires_s,
        }

    def _count(self, size_bytes: int) -> int:
        return max(1, -(-size_bytes // self.part_bytes))

    def _url(self, what: str, **query: object) -> str:
        base = self.url if self.is_absolute else ""
        return f"{base}/api/v1/objects/{what}?{urlencode(query | {'epoch': self.epoch})}"

    def put(self, query: dict[str, str], data: bytes, etag: str) -> str | None:
        """Takes a part in; its etag, None for 404."""
        with self._lock:
            upload = self.uploads.get(query["upload"])
            if upload is None:
                return None
            number = int(query["number"])
            upload.parts[number], upload.etags[number] = data, etag
            self.stored[upload.body["path"], number] += 1
            return etag

    def complete(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to a completion; None for 404."""
        with self._lock:
            upload = self.uploads.pop(body["upload_id"], None)
            if upload is None:
                return None
            assert {part["number"]: part["etag"] for part in body["parts"]} == upload.etags
            assert len(upload.parts) == self._count(upload.body["size_bytes"]), "all parts, and no others"
            data = b"".join(data for _, data in sorted(upload.parts.items()))
            self.objects[upload.uri] = data
        return {"uri": upload.uri, "size_bytes": len(data), "etag": _md5(data), "version": ""}

    def abort(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to an abort."""
        with self._lock:
            self.uploads.pop(body["upload_id"], None)
        return {}

    def resolve(self, uri: str, *, digests: bool = True, kind: str = "full", step: float = 1) -> dict[str, Any]:
        """What `checkpoints/resolve` says of one object, or of all in a folder."""
        uris = sorted(one for one in self.objects if one == uri or (uri.endswith("/") and one.startswith(uri)))
        return {
            "step": step,
            "kinds": [{"kind": kind, "uri": uri, "shards": 1, "shards_done": 1}],
            "files": [
                {
                    "kind": kind,
                    "shard": 0,
                    "path": one.removeprefix(uri),
                    "uri": one,
                    "size_bytes": len(self.objects[one]),
                    "digest": f"sha256:{hashlib.sha256(self.objects[one]).hexdigest()}" if digests else "",
                    "url": self._url("content", uri=one),
                }
                for one in uris
            ],
            "skipped": [],
        }


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: UploadServer

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def _answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _query(self) -> dict[str, str]:
        return {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}

    def _is_expired(self) -> bool:
        if int(self._query()["epoch"]) == self.served.epoch:
            return False
        self._answer(403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")
        return True

    def _read(self, fault: Fault | None) -> bytes | None:
        """The body; None where the connection ends, or was answered."""
        size = int(self.headers["Content-Length"])
        if fault is not None and fault.held is not None:
            fault.held.wait()
            self.close_connection = True
            return None
        if fault is not None and fault.cut_at_bytes is not None:
            self.rfile.read(min(fault.cut_at_bytes, size))
            self.close_connection = True
            return None
        body = self.rfile.read(size)
        if len(body) < size:  # the other side is gone
            self.close_connection = True
            return None
        if fault is not None and fault.status:
            self._answer(fault.status, fault.body, *fault.headers)
            return None
        return body

    def do_POST(self) -> None:
        found = re.fullmatch(r"/api/v1/projects/([^/]+)/runs/([^/]+)/uploads(/complete|/abort)?", self.path)
        assert found, self.path
        kind = (found[3] or "/begin")[1:]
        fault = self.served.fault_of(kind)
        text = self._read(fault)
        if text is None:
            return
        body = json.loads(text)
        if kind == "begin":
            answer = self.served.begin(f"{unquote(found[1])}/{unquote(found[2])}", body)
        else:
            answer = self.served.complete(body) if kind == "complete" else self.served.abort(body)
        if fault is not None and fault.loses_answer:
            self.close_connection = True
        elif answer is None:
            told = {"code": "upload_not_found", "message": "there is no such upload", "hint": "Begin again."}
            self._answer(404, json.dumps({"error": told}).encode())
        else:
            self._answer(200, json.dumps(answer).encode())

    def do_PUT(self) -> None:
        fault = self.served.fault_of("put", self.served.path_of(self._query()))
        data = self._read(fault)
        if data is None or self._is_expired():
            return
        assert base64.b64decode(self.headers["Content-MD5"]).hex() == _md5(data)
        is_wrong = fault is not None and fault.corrupts
        etag = self.served.put(self._query(), data, _md5(b"other bytes" if is_wrong else data))
        if fault is not None and fault.loses_answer:
            self.close_connection = True
        elif etag is None:
            self._answer(404, b"<Error><Code>NoSuchUpload</Code></Error>")
        else:
            self._answer(200, b"", ("ETag", f'"{etag}"'), *(fault.headers if fault else ()))

    def do_GET(self) -> None:
        fault = self.served.fault_of("get", self.served.path_of(self._query()))
        if fault is not None and fault.status:
            self._answer(fault.status, fault.body)
            return
        if fault is not None and fault.opens is not None:
            fault.opens.wait()
        if self._is_expired():
            return
        data = self.served.objects.get(self._query()["uri"])
        if data is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        etag = ("ETag", f'"{_md5(data)}"')
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        if wanted and start >= len(data):
            self._answer(416, b"<Error><Code>InvalidRange</Code></Error>", etag)
            return
        body = data[start:]
        if fault is not None and fault.corrupts:
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header(*etag)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if fault is not None and fault.cut_at_bytes is not None:
            body = body[: fault.cut_at_bytes]
            self.close_connection = True
        self.served.count_sent(len(body))
        self.wfile.write(body)
        if fault is not None and fault.held is not None:
            fault.held.wait()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of connections that a killed process leaves; a failed assertion is an answer cut short."""


@contextmanager
def serve() -> Iterator[UploadServer]:
    """A server on a free port."""
    served = UploadServer()
    handler = type("Handler", (_Handler,), {"served": served})
    with _Server(("127.0.0.1", 0), handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
