"""An S3 endpoint for tests: moto's server as a process of its own, made as strict as S3 where moto is lenient.

    python -m tests.support.s3_server

It prints `{"port": ..}` and ends when its stdin does. What moto 5.2 does not do, and this does in front of it:
the access key and signature of each request are checked, also those of presigned URLs and their end (moto looks
at neither, or, with INITIAL_NO_AUTH_ACTION_COUNT, breaks on presigned URLs); Content-MD5 is compared; a
deletion of many objects is refused without it, as by MinIO; an upload that is not there is NoSuchUpload, not an
internal error. Parts may be small: S3_UPLOAD_PART_MIN_SIZE is 1.

Faults are ordered on stdin, one JSON list a line, each answered by one line. `["fail", status, times]`: the next
requests are answered so. `["lose", times]`: they do what they ask and are answered with 500. `["hold"]` leaves
requests unanswered until `["release"]`. `["requests"]` tells those that came so far. The one access key may do
everything.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from calendar import timegm
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from tests.support.clickhouse_server import LOOPBACK, REPOSITORY, STOP_TIMEOUT_S

ACCESS_KEY: Final = "AKIATESTTESTTESTTEST"
SECRET_KEY: Final = "s3cr3t/of+the/tests"

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class S3Server:
    """A running endpoint as its starter sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port: int = self._read()["port"]
        self.endpoint = f"http://{LOOPBACK}:{self.port}"

    def make_bucket(self, bucket: str) -> None:
        """An empty bucket."""
        self._order("bucket", bucket)

    def fail(self, status: int, times: int) -> None:
        """The next requests are answered with this status."""
        self._order("fail", status, times)

    def lose(self, times: int) -> None:
        """The next requests do what they ask, and are answered with 500."""
        self._order("lose", times)

    def hold(self) -> None:
        """Requests are not answered any more."""
        self._order("hold")

    def release(self) -> None:
        """Requests are answered again, also those that wait."""
        self._order("release")

    def requests(self) -> list[dict[str, Any]]:
        """Those that came so far: method, path, query, and headers by their names in small letters."""
        found: list[dict[str, Any]] = self._order("requests")["requests"]
        return found

    def _order(self, *words: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the S3 server for tests ended with code {self._process.wait(STOP_TIMEOUT_S)}")
        reply: dict[str, Any] = json.loads(line)
        return reply


@contextmanager
def start_s3() -> Generator[S3Server]:
    """An endpoint for the time of the block; it also ends when this process dies."""
    environ = {**os.environ, "S3_UPLOAD_PART_MIN_SIZE": "1"}
    command = [sys.executable, "-m", "tests.support.s3_server"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield S3Server(process)
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def credentials(secret: str = SECRET_KEY, access_key: str = ACCESS_KEY) -> dict[str, str]:
    """Variables of AWS' chain that name this endpoint's key, and keep every other source out."""
    return {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


class Front:
    """WSGI in front of moto: faults, then what S3 checks and moto does not."""

    def __init__(self, moto: Callable[[Environ, StartResponse], Iterable[bytes]]) -> None:
        self._moto = moto
        self._lock = threading.Lock()
        self._fail_status = 0
        self._fail_times = 0
        self._lose_times = 0
        self._open = threading.Event()
        self._open.set()
        self._seen: list[dict[str, Any]] = []

    def obey(self, verb: str, *words: Any) -> dict[str, Any]:
        """One order of stdin."""
        with self._lock:
            if verb == "fail":
                self._fail_status, self._fail_times = words
            elif verb == "lose":
                (self._lose_times,) = words
            elif verb == "hold":
                self._open.clear()
            elif verb == "release":
                self._open.set()
            elif verb == "bucket":
                _moto_backend().create_bucket(words[0], "us-east-1")
            else:
                assert verb == "requests", verb
                return {"requests": list(self._seen)}
        return {}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        request = Request(environ, body)
        with self._lock:
            self._seen.append(request.told())
            fails, self._fail_times = self._fail_times > 0, max(0, self._fail_times - 1)
            loses, self._lose_times = self._lose_times > 0, max(0, self._lose_times - 1)
        self._open.wait()
        refusal = (self._fail_status, "InternalError", "ordered") if fails else request.refusal()
        if loses and refusal is None:
            b"".join(self._moto(environ, lambda *_: None))
            refusal = (500, "InternalError", "ordered, after it was done")
        if refusal is None:
            return self._moto(environ, start_response)
        status, code, message = refusal
        document = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        head = [("Content-Type", "application/xml"), ("Content-Length", str(len(document)))]
        start_response(f"{status} {http.client.responses[status]}", head)
        return [b"" if request.method == "HEAD" else document]


class Request:
    """A request, and what S3 finds wrong with it."""

    def __init__(self, environ: Environ, body: bytes) -> None:
        url = urlsplit(environ["REQUEST_URI"])
        self.method: str = environ["REQUEST_METHOD"]
        self.path = url.path
        self.body = body
        self.query = dict(parse_qsl(url.query, keep_blank_values=True))
        self.headers = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): value
            for name, value in environ.items()
            if name.startswith("HTTP_") or (name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value)
        }

    def told(self) -> dict[str, Any]:
        return {"method": self.method, "path": self.path, "query": self.query, "headers": self.headers}

    def refusal(self) -> tuple[int, str, str] | None:
        """Status, code and message; None if S3 would go on."""
        if refusal := self._unsigned():
            return refusal
        md5 = self.headers.get("content-md5")
        if md5 and md5 != base64.b64encode(hashlib.md5(self.body).digest()).decode():
            return 400, "BadDigest", "The Content-MD5 you specified did not match what we received."
        if self.method == "POST" and "delete" in self.query and not md5:
            return 400, "MissingContentMD5", "Missing required header for this request: Content-Md5."
        if self.method in ("PUT", "POST") and "uploadId" in self.query and not self._has_upload():
            return 404, "NoSuchUpload", "The specified upload does not exist."
        return None

    def _has_upload(self) -> bool:
        bucket = _moto_backend().buckets.get(unquote(self.path).split("/")[1])
        return bucket is not None and self.query["uploadId"] in bucket.multiparts

    def _unsigned(self) -> tuple[int, str, str] | None:
        query = dict(self.query)
        if "X-Amz-Signature" in query:
            given, signed = query.pop("X-Amz-Signature"), query["X-Amz-SignedHeaders"]
            credential, date, payload = query["X-Amz-Credential"], query["X-Amz-Date"], "UNSIGNED-PAYLOAD"
            if _seconds(date) + int(query["X-Amz-Expires"]) < time.time():
                return 403, "AccessDenied", "Request has expired"
        elif found := re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^,]+), ?SignedHeaders=([^,]+), ?Signature=(\w+)",
            self.headers.get("authorization", ""),
        ):
            credential, signed, given = found.groups()
            date, payload = self.headers["x-amz-date"], self.headers["x-amz-content-sha256"]
        else:
            return 403, "AccessDenied", "Access Denied"
        access_key, *scope = credential.split("/")
        if access_key != ACCESS_KEY:
            return 403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."
        if not hmac.compare_digest(given, self._signature(query, signed, scope, date, payload)):
            return 403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature."
        return None

    def _signature(self, query: dict[str, str], signed: str, scope: list[str], date: str, payload: str) -> str:
        """Signature Version 4, from its public description."""
        pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query.items())
        lines = [self.method, self.path, "&".join(f"{name}={value}" for name, value in pairs)]
        lines += [f"{name}:{self.headers[name].strip()}" for name in signed.split(";")]
        canonical = "\n".join([*lines, "", signed, payload]).encode()
        text = "\n".join(["AWS4-HMAC-SHA256", date, "/".join(scope), hashlib.sha256(canonical).hexdigest()])
        key = f"AWS4{SECRET_KEY}".encode()
        for word in [*scope, text]:
            key = hmac.new(key, word.encode(), hashlib.sha256).digest()
        return key.hex()


def _seconds(date: str) -> int:
    return timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))


def _moto_backend() -> Any:
    from moto.s3.models import s3_backends  # only the server process pays for moto

    return s3_backends["123456789012"]["aws"]


def main() -> None:
    """Serves until stdin ends."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    front = Front(DomainDispatcherApplication(create_backend_app))
    server = make_server(LOOPBACK, 0, front, threaded=True, request_handler=MotoRequestHandler)
    server.daemon_threads = True  # type: ignore[attr-defined]  # of its base; held requests keep nobody
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_port}), flush=True)
    for line in sys.stdin:
        print(json.dumps(front.obey(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
