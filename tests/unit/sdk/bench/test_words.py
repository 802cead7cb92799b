"""What a small writer says: all frames, in order, in batches that have a limit, and its last word last."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.bench.frames import Frames
from thalweg.bench.words import Words
from thalweg.wire import limits
from thalweg.wire.v1 import records_pb2 as pb


def said(words: Words) -> list[pb.Batch]:
    """All batches until the last word, each acknowledged before the next."""
    batches = []
    while (message := words.next()) is not None:
        batches.append(message.batch)
        words.acknowledged_ms(message.batch.sequence)
    return batches


@pytest.mark.parametrize(("metrics", "frames"), [(3, 5), (100, 20_000), (100_000, 40), (limits.FRAME_MAX_POINTS, 3)])
def test_a_slow_server_gets_no_greater_batches(metrics: int, frames: int) -> None:
    """However many frames wait: a batch keeps to its size, or is one frame."""
    words = Words("p", "r", Frames.of(metrics, seed=1), first_step=7.0)
    words.start()
    for _ in range(frames):
        words.log()
    words.end()
    batches = said(words)
    frame_bytes = 8 * (2 + metrics)
    for batch in batches:
        assert batch.ByteSize() <= max(limits.BATCH_TARGET_BYTES, frame_bytes) + 200
        assert batch.ByteSize() < limits.MESSAGE_MAX_BYTES
    groups = [group for batch in batches for group in batch.frames]
    steps = np.concatenate([np.frombuffer(group.steps) for group in groups])
    assert steps.tolist() == [7.0 + step for step in range(frames)]
    values = np.concatenate([np.frombuffer(group.values) for group in groups]).reshape(frames, metrics)
    assert all(np.array_equal(values[step], words.frames.frame(step)) for step in range(frames))
    times = np.concatenate([np.frombuffer(group.times, np.int64) for group in groups])
    assert (np.diff(times) > 0).all()


def test_the_last_word_comes_last() -> None:
    """Once, after all frames; nothing before the answer to what is under way."""
    words = Words("p", "r", Frames.of(limits.FRAME_MAX_POINTS, seed=1))
    first = words.start().batch.sequence
    words.acknowledged_ms(first)
    words.log()
    words.log()
    words.end()
    one = words.next()
    assert one is not None
    assert words.next() is None
    assert not words.is_done(one.batch.sequence)
    assert len(words.acknowledged_ms(one.batch.sequence)) == 1
    two = words.next()
    assert two is not None
    assert [len(message.batch.events) for message in (one, two)] == [0, 1]
    assert words.is_done(two.batch.sequence)
    assert len(words.acknowledged_ms(two.batch.sequence)) == 1
    assert words.next() is None
