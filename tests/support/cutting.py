"""TCP proxies before a ClickHouse server that cut one connection: a statement is done, its client does not hear it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

_END_OF_STREAM: Final = b"\x05"
"""The last packet of an answer; the server sends it when all is done, alone."""


class Cut:
    """What is to be cut: the first statement that begins so, over all proxies. `is_done`: it was."""

    def __init__(self, statement: str) -> None:
        self._statement = statement.encode()
        self._lock = threading.Lock()
        self._taken = False
        self.is_done = threading.Event()

    def takes(self, sent: bytes) -> bool:
        """Whether these bytes of a client have the statement, and nobody took it before."""
        with self._lock:
            if self._taken or self._statement not in sent:
                return False
            self._taken = True
            return True


class _Passing:
    """One connection of a client, passed on."""

    def __init__(self, client: socket.socket, port: int, cut: Cut) -> None:
        self._client = client
        self._server = socket.create_connection(("127.0.0.1", port))
        self._cut = cut
        self._is_marked = False
        for run in (self._up, self._down):
            threading.Thread(target=run).start()

    def _up(self) -> None:
        with suppress(OSError):
            while sent := self._client.recv(1 << 16):
                self._is_marked = self._is_marked or self._cut.takes(sent)
                self._server.sendall(sent)
        self.close()

    def _down(self) -> None:
        with suppress(OSError):
            while answer := self._server.recv(1 << 16):
                if self._is_marked and answer.endswith(_END_OF_STREAM):
                    self._cut.is_done.set()
                    break
                self._client.sendall(answer)
        self.close()

    def close(self) -> None:
        """Ends both sides."""
        for side in (self._client, self._server):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()


@contextmanager
def cutting(ports: Sequence[int], cut: Cut) -> Iterator[list[int]]:
    """A proxy before each port, for the time of the block. Yields their ports."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in ports]
    passing: list[_Passing] = []

    def accept(listener: socket.socket, port: int) -> None:
        with suppress(OSError):  # until it is closed
            while True:
                client, _ = listener.accept()
                passing.append(_Passing(client, port, cut))

    threads = [threading.Thread(target=accept, args=pair) for pair in zip(listeners, ports, strict=True)]
    for thread in threads:
        thread.start()
    try:
        yield [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in threads:
            thread.join()
        for one in passing:
            one.close()
