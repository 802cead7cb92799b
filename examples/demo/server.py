"""`thalweg up` as a process of the demo. Owns its life and its log; waiting for what it does."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Final

from examples.demo.errors import DemoError
from examples.demo.folder import DATA, SERVER_LOG
from thalweg.api_client import ApiClient
from thalweg.errors import ServerError

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.05


class Server:
    """`thalweg up` as a process with a log file. Leaving the `with` block stops it, whatever happened."""

    def __init__(self) -> None:
        """Starts it on free ports."""
        ports = ["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        self._url: Future[str] = Future()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "thalweg.cli.main", "up", "--data", str(DATA), *ports],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C must reach the training first, which then still can deliver
        )
        self._reader = threading.Thread(target=self._read, name="server output")
        self._reader.start()

    def _read(self) -> None:
        """Copies the output to the log until the process ends; finds the address in it."""
        assert self._process.stdout is not None
        with self._process.stdout as lines, SERVER_LOG.open("w") as log:
            for line in lines:
                log.write(line)
                log.flush()
                address = re.search(r"http://127\.0\.0\.1:\d+", line)
                if address and not self._url.done():
                    self._url.set_result(address[0])
        if not self._url.done():
            self._url.set_exception(DemoError("the server ended before it was ready"))

    def wait_for_client(self) -> ApiClient:
        """A client of it, once it has printed its address. Raises DemoError."""
        try:
            return ApiClient(self._url.result(START_TIMEOUT_S))
        except FutureTimeoutError:
            raise DemoError(f"the server printed no address within {START_TIMEOUT_S:.0f} s") from None

    def expect_alive(self) -> None:
        """Raises DemoError if it has ended by itself."""
        if self._process.poll() is not None:
            raise DemoError(f"the server ended by itself, with exit status {self._process.returncode}")

    def stop(self) -> int:
        """Stops it as an operator would, with SIGTERM, and gives its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise DemoError(f"the server did not stop within {STOP_TIMEOUT_S:.0f} s; it was killed") from None
        finally:
            self._process.kill()  # nothing happens to one that has ended
            self._process.wait()
            self._reader.join()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.poll() is None:
            self.stop()


def wait_for(what: str, look: Callable[[], Any], timeout_s: float) -> Any:
    """What `look` returns, once that is true. Raises DemoError when the time is up."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > deadline_s:
            raise DemoError(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(POLL_S)
    return found


def health(client: ApiClient) -> Any:
    """The answer of /health; None while nobody answers."""
    try:
        return client.get("/health")
    except ServerError:
        return None
