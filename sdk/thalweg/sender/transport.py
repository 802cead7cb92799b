"""The sender's way to a server: one bidirectional stream a writer, over gRPC.

`Transport` is the seam: `GrpcTransport` here, `MemoryTransport` in thalweg.testing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import grpc

from thalweg.api_client import ApiClient
from thalweg.errors import ServerError, SettingError
from thalweg.sender.channels import bearer_metadata, is_private, open_channel
from thalweg.wire import policy
from thalweg.wire.v1 import ingest_pb2, ingest_pb2_grpc
from thalweg.wire.v1 import records_pb2 as pb


class RetryLaterError(Exception):
    """The stream broke or could not be opened; the same may work later, as the server says after `after_s`."""

    def __init__(self, message: str, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.after_s = after_s


class RefusedError(Exception):
    """The server will not take this writer's records, now or later."""


class Stream(Protocol):
    """An open stream. `send` and `receive` may run at the same time, each in one task."""

    async def send(self, batch: pb.Batch) -> None:
        """Hands over a batch; waits while the server exerts back-pressure. Raises RetryLaterError, RefusedError."""

    async def receive(self) -> pb.Ack | pb.Rejected:
        """The server's next word. Raises RetryLaterError, RefusedError."""


class Transport(Protocol):
    """Opens streams."""

    def open(self, hello: pb.Hello) -> AbstractAsyncContextManager[Stream]:
        """A stream on which `hello` was said. Raises RetryLaterError, RefusedError."""


class GrpcTransport:
    """Asks the server's HTTP address for its gRPC address at every connect, then streams."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        self._token = token

    async def _address(self) -> str:
        override = os.environ.get("THALWEG_GRPC")
        if override:
            return override
        try:
            client = ApiClient(self._url, self._token, timeout_s=policy.DISCOVERY_TIMEOUT_S)
            health = await asyncio.to_thread(client.get, "/health")
        except (ServerError, SettingError) as error:
            raise RetryLaterError(str(error)) from error
        address = health.get("grpc") if isinstance(health, dict) else None
        if not isinstance(address, str):
            raise RetryLaterError(f"{self._url} names no address that takes records in (`grpc` of /api/v1/health)")
        if self._token and self._url.startswith("https:") and not is_private(address):
            raise RetryLaterError(
                f"{self._url} names {address} for records, where the token would travel without TLS: the server has to"
                " name grpcs://host:port (--ingest), or THALWEG_GRPC does here"
            )
        return address

    @asynccontextmanager
    async def open(self, hello: pb.Hello) -> AsyncIterator[Stream]:
        try:
            made = open_channel(await self._address())
        except (SettingError, OSError) as error:  # it may be mended while the training goes on
            raise RetryLaterError(str(error)) from error
        async with made as channel:
            stub = ingest_pb2_grpc.IngestStub(channel)  # type: ignore[no-untyped-call]  # generated without types
            call = stub.Stream(metadata=bearer_metadata(self._token))
            stream = _GrpcStream(call)
            try:
                await stream.hello(hello)
                yield stream
            finally:
                call.cancel()


_Call = grpc.aio.StreamStreamCall[ingest_pb2.ClientRecords, ingest_pb2.ServerRecords]


class _GrpcStream:
    def __init__(self, call: _Call) -> None:
        self._call = call

    async def hello(self, hello: pb.Hello) -> None:
        await self._write(ingest_pb2.ClientRecords(hello=hello))

    async def send(self, batch: pb.Batch) -> None:
        await self._write(ingest_pb2.ClientRecords(batch=batch))

    async def _write(self, message: ingest_pb2.ClientRecords) -> None:
        try:
            await self._call.write(message)
        except grpc.RpcError as error:
            raise _failure(error) from error
        except asyncio.InvalidStateError as error:  # the call ended meanwhile; its status tells why
            raise await self._ending() from error

    async def receive(self) -> pb.Ack | pb.Rejected:
        try:
            answer = await self._call.read()
        except grpc.RpcError as error:
            raise _failure(error) from error
        if not isinstance(answer, ingest_pb2.ServerRecords):  # grpc.aio.EOF
            raise await self._ending()
        kind = answer.WhichOneof("kind")
        if kind is None:
            raise RefusedError("the server's answer is of a kind that this version does not know")
        word: pb.Ack | pb.Rejected = getattr(answer, kind)
        return word

    async def _ending(self) -> RetryLaterError | RefusedError:
        return _reaction(await self._call.code(), await self._call.details(), await self._call.trailing_metadata())


def _failure(error: grpc.RpcError) -> RetryLaterError | RefusedError:
    assert isinstance(error, grpc.aio.AioRpcError), error
    return _reaction(error.code(), error.details(), error.trailing_metadata())


def _reaction(code: grpc.StatusCode, details: str | None, metadata: Any) -> RetryLaterError | RefusedError:
    message = f"the server ended the stream: {code.name}: {details}"
    if code.name in policy.FATAL_CODES:
        return RefusedError(message)
    return RetryLaterError(message, _delay_s(metadata))


def _delay_s(metadata: Any) -> float:
    """The delay that the server asks for, within reason."""
    for key, value in metadata or ():
        if key == policy.RETRY_AFTER and isinstance(value, str) and value.isdecimal():
            return min(float(value), policy.RETRY_AFTER_MOST_MS) / 1e3
    return 0.0
