"""A training that is saved and loaded is the same training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from examples.network import Split
from examples.state import State

IMAGES = Split(np.random.default_rng(5).random((50, 64)), np.random.default_rng(6).integers(10, size=50))


def _train(state: State) -> list[dict[str, float]]:
    return list(state.run_epoch(IMAGES, 8, 0.9, lambda step: 0.1 / step))


def test_a_loaded_state_goes_on_bit_by_bit_as_the_saved_one(tmp_path: Path) -> None:
    """Weights, momentum, order of the images, counters: the next epoch is the same."""
    state = State.fresh(hidden=7, seed=1)
    _train(state)
    loaded = State.load(state.save(tmp_path / "new" / "folder"))
    assert (loaded.step, loaded.epoch) == (state.step, state.epoch) == (7, 1)
    assert _train(loaded) == _train(state)
    for name, weight in state.weights.items():
        assert loaded.weights[name].tobytes() == weight.tobytes(), name
        assert loaded.momentum[name].tobytes() == state.momentum[name].tobytes(), name


def test_an_epoch_is_counted_when_its_last_step_is_done() -> None:
    state = State.fresh(hidden=3, seed=1)
    steps = state.run_epoch(IMAGES, 25, 0.9, lambda step: 0.1)
    next(steps)
    assert (state.step, state.epoch) == (1, 0)
    assert len(list(steps)) == 1
    assert (state.step, state.epoch) == (2, 1)
