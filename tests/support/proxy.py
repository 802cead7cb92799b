"""A real HTTP server on loopback that passes requests on to another, and alters what comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

Alter = Callable[[str, bytes], bytes]


def as_it_is(path: str, body: bytes) -> bytes:
    """Alters nothing."""
    return body


@contextmanager
def passing_on(url: str, alter: Alter = as_it_is, *, closes_kept: bool = False) -> Iterator[str]:
    """Its address. `alter` makes a good answer of path and body.

    `closes_kept`: it keeps connections, but the second request on one finds it closed.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if closes_kept else "HTTP/1.0"
        has_answered = False

        def answer(self) -> None:
            if self.has_answered:
                self.close_connection = True
                return
            self.has_answered = True
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            passed = {name: self.headers[name] for name in ("Accept", "Content-Type") if name in self.headers}
            request = Request(url + self.path, body or None, passed, method=self.command)
            try:
                with build_opener(ProxyHandler({})).open(request) as response:
                    status, text = response.status, alter(self.path, response.read())
            except HTTPError as error:
                with error:
                    status, text = error.code, error.read()
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}"
        finally:
            proxy.shutdown()
            thread.join()
