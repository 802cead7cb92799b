"""Several processes of one role on one address: starts them, watches them, starts them again, takes them down.

The parent serves nothing. It holds the address: for gRPC a bound socket that does not listen, beside which each worker
listens with SO_REUSEPORT, so that the kernel deals connections out; for HTTP a listening socket that is handed to all
of them, so that a connection which one did not take another does. A worker that ends by itself is started again after
a delay that grows while it keeps failing. A worker whose parent is gone, however it ended, drains and ends.

The first SIGTERM or SIGINT to the parent has all drain, a second one ends all at once, as it does a server of one
process. Workers have process groups of their own: Ctrl-C reaches the parent alone, and is told to each of them once.

Workers are fresh interpreters: neither gRPC nor ClickHouse's client survives a fork. Settings, which hold a password,
reach them through a pipe and never stand in their command lines.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from random import Random
from typing import Final

from thalweg.wire import policy
from thalweg_tracker.app import Serving, Shared, listen, serve
from thalweg_tracker.errors import SettingError, TrackerError
from thalweg_tracker.model.settings import Address, ServerSettings

log = logging.getLogger(__name__)

KILL_AFTER_DRAIN_S: Final = 20
"""A worker that has not ended so long after its drain should have is killed."""
KILL_AFTER_CUT_S: Final = 5
"""The same after a second signal, which it may not have noticed: it came at once after the first one, or it hangs."""
STEADY_AFTER_S: Final = 60.0
"""A worker that served for so long is started again at once, as if it had never failed."""
_SPAWN: Final = multiprocessing.get_context("spawn")
Prepare = Callable[[], None]
"""What a worker does first, such as setting its log up; importable by name."""


def run_workers(
    settings: ServerSettings, count: int, prepare: Prepare, on_ready: Callable[[Serving, list[int]], None]
) -> None:
    """Serves with so many workers until SIGTERM or SIGINT, then drains. `on_ready`: told once all are ready.

    Raises SettingError for an address that is taken, and TrackerError where a worker fails before all were ready; it
    has said why on standard error. SystemExit after a second signal.
    """
    wakes, wake = socket.socketpair()
    wake.setblocking(False)
    orders: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: orders.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    fd_before = signal.set_wakeup_fd(wake.fileno())
    cut_by = 0
    try:
        with _held(settings) as address:
            workers = Workers(address, count, prepare, wakes, orders)
            try:
                workers.run(on_ready)
            finally:
                cut_by = workers.stop()
    finally:
        signal.set_wakeup_fd(fd_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        wakes.close()
        wake.close()
    if cut_by:
        sys.exit(128 + cut_by)


@dataclass(frozen=True, slots=True)
class _Held:
    """An address that is held for workers: their settings name its port; and what they are handed."""

    settings: ServerSettings
    shared: Shared
    sockets: tuple[socket.socket, ...]

    def __enter__(self) -> _Held:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.sockets:
            one.close()


def _held(settings: ServerSettings) -> _Held:
    """Takes the addresses of some settings. Raises SettingError."""
    assert (settings.grpc is None) != (settings.http is None), "workers have one role"
    if settings.grpc is not None:
        bound = _reserve(settings.grpc)
        port = bound.getsockname()[1]
        return _Held(replace(settings, grpc=Address(settings.grpc.host, port)), Shared(), (bound,))
    assert settings.http is not None
    listener = listen(settings.http)
    port = listener.getsockname()[1]
    return _Held(replace(settings, http=Address(settings.http.host, port)), Shared(listener), (listener,))


def _reserve(address: Address) -> socket.socket:
    """A socket bound to an address that others may bind too, after a look that nobody has it yet.

    With SO_REUSEPORT alone a second server would silently get half of the connections of the first.
    """
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        bound = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            bound.bind((address.host, address.port))
        except OSError as error:
            bound.close()
            raise SettingError("--grpc", str(address), f"an address that is free ({error.strerror})") from error
        if option == socket.SO_REUSEPORT:
            return bound
        bound.close()
    raise AssertionError  # the last round returns or raises


def _own(settings: ServerSettings, number: int) -> ServerSettings:
    """The settings of one worker: each tells of itself on a port of its own, the first on that which was named."""
    if settings.ops is None or settings.ops.port == 0:
        return settings
    return replace(settings, ops=Address(settings.ops.host, settings.ops.port + number - 1))


class _Worker:
    """One place among the workers, and the process in it. Single-threaded."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: BaseProcess | None = None
        self.words: Connection | None = None  # what the worker says: that it is ready
        self.life: Connection | None = None  # closed when this process ends: the worker notices
        self.serving: Serving | None = None
        self.failures = 0
        self.started_s = 0.0
        self.again_s = 0.0

    def start(self, held: _Held, prepare: Prepare) -> None:
        """Starts a process."""
        self.words, told = _SPAWN.Pipe(duplex=False)
        alive, self.life = _SPAWN.Pipe(duplex=False)
        arguments = (_own(held.settings, self.number), held.shared, prepare, told, alive)
        self.process = _SPAWN.Process(target=_work, args=arguments, name=f"worker-{self.number}")
        self.process.start()
        told.close()
        alive.close()
        self.started_s = time.monotonic()

    def hear(self) -> bool:
        """Takes in what the worker said. False: it says no more."""
        assert self.words is not None
        try:
            self.serving = self.words.recv()
        except EOFError:
            self.words.close()
            self.words = None
            return False
        return True

    def bury(self, now_s: float, random: Random) -> int:
        """Forgets a process that has ended, and says when the next one starts. Returns its exit code."""
        assert self.process is not None
        self.process.join()
        code = self.process.exitcode or 0
        self.failures = 0 if now_s - self.started_s > STEADY_AFTER_S else self.failures + 1
        self.again_s = now_s + (policy.next_delay_ms(self.failures - 1, random) / 1e3 if self.failures else 0.0)
        self.process.close()
        for pipe in (self.words, self.life):
            if pipe is not None:
                pipe.close()
        self.process = self.words = self.life = self.serving = None
        return code


class Workers:
    """The workers of one address."""

    def __init__(self, held: _Held, count: int, prepare: Prepare, wakes: socket.socket, orders: list[int]) -> None:
        """`wakes` has something to read when there may be an order."""
        self._held = held
        self._prepare = prepare
        self._wakes = wakes
        self._orders = orders
        self._random = Random()  # noqa: S311  # spreads starts, keeps no secret
        self._workers = [_Worker(number + 1) for number in range(count)]

    def run(self, on_ready: Callable[[Serving, list[int]], None]) -> None:
        """Until there is an order to stop. Raises TrackerError if a worker ends before all were ready."""
        were_ready = False
        for worker in self._workers:
            worker.start(self._held, self._prepare)
        while not self._orders:
            self._wait()
            now_s = time.monotonic()
            for worker in self._workers:
                if worker.process is not None and not worker.process.is_alive() and not self._orders:
                    pid = worker.process.pid
                    code = worker.bury(now_s, self._random)
                    if not were_ready:
                        raise TrackerError(f"worker {worker.number} ended before all were ready: {_how(code)}")
                    log.error("worker %d (process %s) ended: %s; it is started again", worker.number, pid, _how(code))
                elif worker.process is None and now_s >= worker.again_s:
                    worker.start(self._held, self._prepare)
            if not were_ready and all(worker.serving for worker in self._workers):
                were_ready = True
                serving = self._workers[0].serving
                assert serving is not None
                on_ready(serving, [worker.process.pid or 0 for worker in self._workers if worker.process])

    def _wait(self) -> None:
        """Until something happens: a word, an end, an order, or it is time to start a worker again."""
        awaited: list[Connection | socket.socket | int] = [self._wakes]
        due_s = []
        for worker in self._workers:
            if worker.process is None:
                due_s.append(worker.again_s)
                continue
            awaited.append(worker.process.sentinel)
            if worker.words is not None:
                awaited.append(worker.words)
        timeout_s = max(0.0, min(due_s) - time.monotonic()) if due_s else None
        found = wait(awaited, timeout_s)
        if self._wakes in found:
            self._wakes.recv(4096)
        for worker in self._workers:
            if worker.words in found and worker.hear() and worker.process is not None:
                log.info("worker %d is ready (process %d)", worker.number, worker.process.pid)

    def stop(self) -> int:
        """Tells all to drain, and waits until they have ended. Returns the signal that cut this short; 0: none did."""
        cut_by = 0
        for process in self._running():
            process.terminate()
        ends_s = time.monotonic() + self._held.settings.drain_s + KILL_AFTER_DRAIN_S
        while running := self._running():
            if len(self._orders) > 1 and not cut_by:
                cut_by = self._orders[1]
                log.warning("a second signal: %d workers end at once", len(running))
                for process in running:
                    _send(process, cut_by)
                ends_s = min(ends_s, time.monotonic() + KILL_AFTER_CUT_S)
            left_s = ends_s - time.monotonic()
            if left_s <= 0:
                break
            if self._wakes in wait([self._wakes, *(process.sentinel for process in running)], left_s):
                self._wakes.recv(4096)
        for process in self._running():
            log.error("process %s did not end in time, and is killed", process.pid)
            process.kill()
        for worker in self._workers:
            if worker.process is not None:
                worker.bury(0.0, self._random)
        return cut_by

    def _running(self) -> list[BaseProcess]:
        return [worker.process for worker in self._workers if worker.process and worker.process.is_alive()]


def _send(process: BaseProcess, number: int) -> None:
    assert process.pid is not None  # it was started, and keeps its id until it is buried
    os.kill(process.pid, number)


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _work(settings: ServerSettings, shared: Shared, prepare: Prepare, told: Connection, alive: Connection) -> None:
    """A worker, from its begin to its end."""
    os.setpgrp()  # else Ctrl-C would come twice, from the terminal and from the parent, and a second one ends a drain
    prepare()
    threading.Thread(target=_end_with_parent, args=(alive,), daemon=True, name="parent").start()

    def say_ready(serving: Serving) -> None:
        told.send(serving)
        told.close()

    try:
        asyncio.run(serve(settings, say_ready, shared))
    except TrackerError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)


def _end_with_parent(alive: Connection) -> None:
    """Nothing is ever said on this pipe; it ends with the parent."""
    with suppress(EOFError, OSError):
        alive.recv()
    os.kill(os.getpid(), signal.SIGTERM)
