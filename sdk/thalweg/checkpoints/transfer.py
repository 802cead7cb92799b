"""Single requests to the object store, what is tried again and when, and how the rest is stopped.

Thread-safe. Speaks HTTP/1.1 to presigned URLs, one connection a request; the proxies of the environment are
used but for this host, as `api_client` does. A URL that begins with "/" is one of the server itself.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from random import Random
from time import monotonic
from typing import Final, NoReturn, TypeVar
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from thalweg.api_client import retry_after_s
from thalweg.errors import CheckpointError, NotFoundError, ServerError
from thalweg.tls import https_context
from thalweg.wire import policy

T = TypeVar("T")

# How long a transfer may hold a training up while nothing arrives. docs/checkpoints.md names these numbers.
FIRST_ANSWER_S: Final = 10.0
"""In all, until the server has begun the upload."""
SHORT_TRY_S: Final = 3.0
"""The same where the server is known to be away: of the one try."""
ANSWER_S: Final = 15.0
"""Of each wait for an answer of the server."""
PATIENCE_S: Final = 60.0
"""After that: failing without progress. Also of each wait for the object store, and for the end of an upload."""
ASKED_MOST_S: Final = 300.0
"""On top of that, where a limit is reached: as long as the server asks to wait, in all until there is progress."""
EXPIRED_MAX: Final = 4
"""URLs of one part or file that are refused one after the other."""
BLOCK_BYTES: Final = 256 << 10

_SHORTEST_WAIT_S: Final = 1.0
_WORDS_MAX_BYTES: Final = 64 << 10
_WORDS_MAX_CHARS: Final = 300
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_TRY_AGAIN: Final = frozenset({408, 425, 429})
_TRY_AGAIN_CODES: Final = ("RequestTimeout", "BadDigest", "bad_digest", "IncompleteBody")
_EXPIRED_CODES: Final = ("ExpiredToken", "TokenRefreshRequired", "url_expired")


@dataclass(frozen=True, slots=True)
class Pace:
    """Time, waiting and chance, as a transfer uses them. Tests bring their own."""

    wait: Callable[[threading.Event, float], object] = threading.Event.wait
    """Waits so many seconds, less if the event is set."""
    monotonic: Callable[[], float] = monotonic
    random: Random = field(default_factory=Random)


class RetryLaterError(Exception):
    """The attempt failed in a way that may pass; where a limit is reached, as the server says after `after_s`."""

    def __init__(self, message: str, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.after_s = after_s


class ExpiredError(RetryLaterError):
    """The URL is refused: a fresh one may be taken."""


class OtherBytesError(RetryLaterError):
    """What arrived is not what was sent."""


class RefusedError(Exception):
    """The attempt failed in a way that will not pass."""


class ForgottenError(Exception):
    """The store or the server does not know the upload any more."""


class StoppedError(Exception):
    """Another part of the same transfer has failed; this one's failure is of no interest."""


class Transfer:
    """What the parts of one upload or download share: how they wait, and that they stop together."""

    def __init__(self, base_url: str, pace: Pace, *, has_answered: bool = True, hurries: bool = False) -> None:
        """`base_url`: the server's address, for URLs that are paths.

        `has_answered`: whether the server is known to be there; until then patience is short, and with `hurries`
        there is one short try.
        """
        self.stopped = threading.Event()
        self._base_url = base_url
        self._own = f"{base_url}/" if base_url.startswith("https:") else "\0"
        self._pace = pace
        self._has_answered = has_answered
        self._hurries = hurries
        self._begun_s = self._moved_s = pace.monotonic()
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._connections: set[HTTPConnection] = set()

    def run_all(self, jobs: Iterable[Callable[[], T]], at_once: int) -> list[T]:
        """The results of all jobs, so many at a time. The first failure stops the others, and is raised."""
        with ThreadPoolExecutor(at_once, thread_name_prefix="thalweg-checkpoint") as pool:
            futures = [pool.submit(self.guarded, job) for job in jobs]
            try:
                return [future.result() for future in futures]
            except BaseException as error:  # an interrupt of this thread, too
                self._stop()
                pool.shutdown(wait=True, cancel_futures=True)
                if isinstance(error, Exception) and self._failure is not None:
                    raise self._failure from None
                raise

    def guarded(self, job: Callable[[], T]) -> T:
        """The job's result. Where it fails, the whole transfer stops."""
        self.check()
        try:
            return job()
        except (StoppedError, ForgottenError):
            raise
        except BaseException as error:
            self._failure = self._failure or error
            self._stop()
            raise

    def _stop(self) -> None:
        """Nothing begins any more, and what waits for an answer waits no longer."""
        self.stopped.set()
        with self._lock:
            for connection in self._connections:
                if connection.sock is not None:
                    with suppress(OSError):
                        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)  # of TLS, too: without its farewell

    def check(self) -> None:
        """Raises StoppedError where the others have stopped."""
        if self.stopped.is_set():
            raise StoppedError

    def persist(self, what: str, attempt: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """Repeats an attempt that raises RetryLaterError, for PATIENCE_S since it moved a byte before it first failed.

        Attempts after which `progress` is higher than ever begin that anew. What a limit refuses is tried again when
        the server says, for ASKED_MOST_S more, and not at all if that is later. Raises CheckpointError:
        "cannot <what>: ...".
        """
        count = tries = best = 0
        failing_since_s = asked_s = 0.0
        while True:
            self.check()
            started_s = self._pace.monotonic()
            try:
                result = attempt()
                self._has_answered = True
                return result
            except RetryLaterError as error:
                last = error
            except RefusedError as error:
                raise CheckpointError(f"cannot {what}: {error}") from error
            tries += 1
            count = count + 1 if progress() <= best else 1
            best = max(best, progress())
            if count == 1:
                failing_since_s, asked_s = max(started_s, self._moved_s), 0.0
            if last.after_s:
                self._has_answered = True
                asked_s = min(asked_s + last.after_s, ASKED_MOST_S)
            left_s = self._left_s(failing_since_s) + asked_s
            if left_s <= 0 or left_s < last.after_s:
                break
            delay_s = policy.next_delay_ms(count - 1, self._pace.random) / 1e3
            self._pace.wait(self.stopped, max(last.after_s, min(delay_s, left_s)))
        words, times = str(last).rstrip("."), "once" if tries == 1 else f"{tries} times"
        raise CheckpointError(
            f"cannot {what}: {words}. Tried {times}. What arrived is kept: the next call goes on from there"
        ) from last

    def _left_s(self, failing_since_s: float) -> float:
        """For how long it is tried again what fails since then."""
        now_s = self._pace.monotonic()
        if self._has_answered:
            return failing_since_s + PATIENCE_S - now_s
        return 0.0 if self._hurries else self._begun_s + FIRST_ANSWER_S - now_s

    def answer_s(self) -> float:
        """How long to wait for an answer of the server now."""
        if self._has_answered:
            return ANSWER_S
        most_s = SHORT_TRY_S if self._hurries else FIRST_ANSWER_S
        return max(_SHORTEST_WAIT_S, self._begun_s + most_s - self._pace.monotonic())

    def put(self, url: str, body: bytes) -> str:
        """Sends a part and returns its etag, without quotes, checked where it is the MD5 of the bytes.

        Raises RetryLaterError, ExpiredError, OtherBytesError, ForgottenError, RefusedError.
        """
        md5 = hashlib.md5(body, usedforsecurity=False)
        headers = {
            "Content-Length": str(len(body)),
            "Content-Type": "application/octet-stream",
            "Content-MD5": b64encode(md5.digest()).decode(),
        }
        with self._open("PUT", url, headers, body) as response:
            if response.status == 404:
                raise ForgottenError(f"status 404, {_first_words(response)}")
            if not 200 <= response.status < 300:
                _raise_for(response)
            etag = (response.getheader("ETag") or "").removeprefix("W/").strip('"')
            if not etag:
                raise RefusedError("the object store answered without an ETag; does a proxy take it away?")
            if _is_md5(response, etag) and etag != md5.hexdigest():
                raise OtherBytesError(f"the object store received other bytes: MD5 {etag}, not {md5.hexdigest()}")
            return etag

    @contextmanager
    def get(self, url: str, offset: int) -> Iterator[HTTPResponse]:
        """The answer to GET from an offset on: 200, 206 or 416. Raises as `put`; ForgottenError for 404."""
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        with self._open("GET", url, headers, None) as response:
            if response.status == 404:
                raise ForgottenError(f"status 404, {_first_words(response)}")
            if response.status not in ((200, 206, 416) if offset else (200,)):
                _raise_for(response)
            yield response

    def read(self, response: HTTPResponse) -> Iterator[bytes]:
        """The body in blocks. Raises RetryLaterError where it breaks off."""
        try:
            while block := response.read(BLOCK_BYTES):
                self.check()
                self._moved_s = self._pace.monotonic()
                yield block
        except (OSError, HTTPException) as error:
            raise RetryLaterError(f"the connection broke: {error!r}") from error
        if response.length:  # http.client says no more than "end of file"
            raise RetryLaterError(f"the connection broke: {response.length} bytes are missing")

    @contextmanager
    def _open(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Iterator[HTTPResponse]:
        whole = self._base_url + url if url.startswith("/") else url
        connection, target, more = _connect(whole, https_context() if whole.startswith(self._own) else None)
        with self._lock:
            self._connections.add(connection)
        try:
            self.check()
            try:
                response = self._request(connection, method, target, {**headers, **more}, body)
            except ssl.SSLCertVerificationError as error:
                raise RefusedError(f"{urlsplit(whole).hostname} cannot be trusted: {error}") from error
            except (OSError, HTTPException) as error:
                reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                raise RetryLaterError(f"no answer from {urlsplit(whole).netloc} ({reason})") from error
            with response:
                yield response
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def _request(
        self, connection: HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> HTTPResponse:
        try:
            connection.request(method, target, None if body is None else self._blocks(body), headers)
        except (BrokenPipeError, ConnectionResetError):
            return connection.getresponse()  # it may have refused the request without reading all of it
        return connection.getresponse()

    def _blocks(self, body: bytes) -> Iterator[memoryview]:
        """In blocks, for the time-out is one of each call of send."""
        view = memoryview(body)
        for at in range(0, len(body), BLOCK_BYTES):
            self.check()
            self._moved_s = self._pace.monotonic()
            yield view[at : at + BLOCK_BYTES]


def once(question: Callable[[], T]) -> T:
    """One question to the server's API. Raises RetryLaterError, RefusedError, NotFoundError."""
    try:
        return question()
    except NotFoundError:
        raise
    except ServerError as error:
        refused = error.__cause__
        if isinstance(refused, HTTPError) and refused.code < 500 and refused.code not in _TRY_AGAIN:
            raise RefusedError(str(error)) from error
        raise RetryLaterError(str(error), error.retry_after_s) from error


def _raise_for(response: HTTPResponse) -> NoReturn:
    words = _first_words(response)
    told = f"status {response.status}, {words}"
    if response.status == 403 or any(code in words for code in _EXPIRED_CODES):
        raise ExpiredError(told)
    if response.status >= 500 or response.status in _TRY_AGAIN or any(code in words for code in _TRY_AGAIN_CODES):
        raise RetryLaterError(told, retry_after_s(response.status, response.headers))
    raise RefusedError(told)


def _first_words(response: HTTPResponse) -> str:
    """The begin of an answer's body on one line."""
    try:
        text = response.read(_WORDS_MAX_BYTES).decode(errors="replace")
    except (OSError, HTTPException) as error:
        return repr(error)
    words = " ".join(text.split())
    return words[:_WORDS_MAX_CHARS] or response.reason


def _is_md5(response: HTTPResponse, etag: str) -> bool:
    """Whether the etag is the MD5 of what was sent. With keys of KMS or of the customer it only looks like one."""
    is_secret = response.getheader("x-amz-server-side-encryption", "").startswith("aws:kms")
    by_customer = response.getheader("x-amz-server-side-encryption-customer-algorithm")
    return bool(_MD5.fullmatch(etag)) and not is_secret and not by_customer


def _connect(url: str, context: ssl.SSLContext | None) -> tuple[HTTPConnection, str, dict[str, str]]:
    """A connection, what to ask of it, and the headers that a proxy wants. `context` None: as the system believes."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RefusedError(f"the server named a URL that is none: {url[:_WORDS_MAX_CHARS]!r}")
    kind = partial(HTTPSConnection, context=context) if parts.scheme == "https" else HTTPConnection
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    given = getproxies().get(parts.scheme, "")
    proxy = urlsplit(given if "://" in given else f"http://{given}")
    if not proxy.hostname or _is_loopback(parts.hostname) or proxy_bypass(parts.hostname):
        return kind(parts.hostname, parts.port, timeout=PATIENCE_S), target, {}
    secret = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}" if proxy.username else ""
    headers = {"Proxy-Authorization": f"Basic {b64encode(secret.encode()).decode()}"} if secret else {}
    connection = kind(proxy.hostname, proxy.port, timeout=PATIENCE_S)
    if parts.scheme == "http":
        return connection, url, headers
    connection.set_tunnel(parts.hostname, parts.port, headers)
    return connection, target, {}


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
