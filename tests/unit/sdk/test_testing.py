"""The fake server that is shipped with the library keeps its promises."""

from __future__ import annotations

import asyncio

import pytest

from thalweg.sender.transport import RefusedError, RetryLaterError
from thalweg.testing import MemoryTransport
from thalweg.wire.v1 import records_pb2 as pb

HELLO = pb.Hello(writer="w")


def test_batches_are_kept_and_acknowledged() -> None:
    """Each batch is kept as it was sent, and named by an ack."""

    async def run() -> None:
        transport = MemoryTransport()
        async with transport.open(HELLO) as stream:
            batch = pb.Batch(sequence=3)
            await stream.send(batch)
            batch.sequence = 4  # what is kept is a copy
            assert await stream.receive() == pb.Ack(writer="w", sequence=3)
        assert transport.hellos == [HELLO]
        assert transport.batches == [pb.Batch(sequence=3)]

    asyncio.run(run())


def test_stream_breaks_once_on_both_sides() -> None:
    """`break_after` lets so many batches through, breaks sending and receiving, and is used up by that."""

    async def run() -> None:
        transport = MemoryTransport(break_after=1, acknowledge=False)
        async with transport.open(HELLO) as stream:
            await stream.send(pb.Batch(sequence=1))
            with pytest.raises(RetryLaterError):
                await stream.send(pb.Batch(sequence=2))
            with pytest.raises(RetryLaterError):
                await stream.receive()
        async with transport.open(HELLO) as stream:
            await stream.send(pb.Batch(sequence=1))
            await stream.send(pb.Batch(sequence=2))
        assert [batch.sequence for batch in transport.batches] == [1, 1, 2]

    asyncio.run(run())


def test_refusals_come_before_the_ack() -> None:
    """What `on_batch` refuses is told before the batch is acknowledged."""
    refusal = pb.Rejected(sequence=1, reason=pb.Rejected.REJECTED_STEP, points=2)

    async def run() -> None:
        transport = MemoryTransport(on_batch=lambda batch: [refusal])
        async with transport.open(HELLO) as stream:
            await stream.send(pb.Batch(sequence=1))
            assert await stream.receive() == refusal
            assert await stream.receive() == pb.Ack(writer="w", sequence=1)

    asyncio.run(run())


def test_refusing_server() -> None:
    """`refuse` ends every stream at once, with the reason."""

    async def run() -> None:
        with pytest.raises(RefusedError, match="no such project"):
            async with MemoryTransport(refuse="no such project").open(HELLO):
                pass

    asyncio.run(run())
