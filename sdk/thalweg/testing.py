"""Helpers for the tests of programs that use Thalweg.

`running_server` starts a real server on free loopback ports; `MemoryTransport` stands for one where
only the sending side is under test.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from thalweg.api_client import ApiClient
from thalweg.sender.transport import RefusedError, RetryLaterError, Stream
from thalweg.wire.v1 import records_pb2 as pb

STOP_TIMEOUT_S = 60.0


class ServerProcess:
    """A `thalweg up` of its own. Needs the server's dependencies (`pip install 'thalweg[server]'`)."""

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        http: str = "127.0.0.1:0",
        grpc: str = "127.0.0.1:0",
        log: Path | None = None,
        token: str | None = None,
    ) -> None:
        """Starts it with more options of `thalweg up`, and waits until it listens. Raises RuntimeError if it ends.

        `log` takes its standard error. `token`: of its first administrator, with which `client` asks.
        """
        self.log = log or data_dir.with_name(data_dir.name + ".log")
        arguments = ["up", "--json", "--data", str(data_dir), "--http", http, "--grpc", grpc, *options]
        environment = dict(os.environ)
        if token is not None:
            environment["THALWEG_ADMIN_TOKEN"] = token
        with self.log.open("ab") as stderr:
            self.process = subprocess.Popen(  # noqa: S603  # our own interpreter and arguments
                [sys.executable, "-m", "thalweg.cli.main", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self._end(signal.SIGTERM)
            raise RuntimeError(f"the server ended with exit status {code}: {self.log.read_text()[-2000:]}")
        ready = json.loads(line)
        self.url: str = ready["http"]
        self.grpc: str = ready["grpc"]
        self.client = ApiClient(self.url, token)

    def stop(self) -> int:
        """Asks it to stop and returns its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once, as a power cut to the process would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        code = self.process.wait(STOP_TIMEOUT_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@contextmanager
def running_server(data_dir: Path, *options: str, token: str | None = None) -> Iterator[ServerProcess]:
    """A server on `data_dir` and free ports, stopped at the end; its exit status must then be 0."""
    server = ServerProcess(data_dir, *options, token=token)
    try:
        yield server
    finally:
        code = server.stop()
    assert code == 0, f"the server ended with exit status {code}; see {server.log}"


@dataclass(slots=True)
class MemoryTransport:
    """A server in memory: takes what a sender delivers, acknowledges each batch, keeps all messages.

    `break_after`: the stream breaks when so many batches came, once each time it is set. `refuse`: every
    stream is refused with this reason. `acknowledge` False holds all acks back.
    """

    hellos: list[pb.Hello] = field(default_factory=list)
    batches: list[pb.Batch] = field(default_factory=list)
    break_after: int | None = None
    refuse: str | None = None
    acknowledge: bool = True
    on_batch: Callable[[pb.Batch], list[pb.Rejected]] = field(default=lambda batch: [])

    @asynccontextmanager
    async def open(self, hello: pb.Hello) -> AsyncIterator[Stream]:
        """A stream, as a sender opens it."""
        if self.refuse is not None:
            raise RefusedError(self.refuse)
        self.hellos.append(hello)
        yield _MemoryStream(self, hello.writer)


class _MemoryStream:
    def __init__(self, transport: MemoryTransport, writer: str) -> None:
        self._transport = transport
        self._writer = writer
        self._answers: asyncio.Queue[pb.Ack | pb.Rejected | None] = asyncio.Queue()
        self._received = 0

    async def send(self, batch: pb.Batch) -> None:
        transport = self._transport
        if transport.break_after is not None and self._received >= transport.break_after:
            transport.break_after = None
            await self._answers.put(None)
            raise RetryLaterError("the stream broke")
        self._received += 1
        transport.batches.append(pb.Batch.FromString(batch.SerializeToString()))
        for refusal in transport.on_batch(batch):
            await self._answers.put(refusal)
        if transport.acknowledge:
            await self._answers.put(pb.Ack(writer=self._writer, sequence=batch.sequence))

    async def receive(self) -> pb.Ack | pb.Rejected:
        answer = await self._answers.get()
        if answer is None:
            raise RetryLaterError("the stream broke")
        return answer
