"""All that a training is made of between two epochs: saved and loaded, it goes on as if nothing had happened.

That takes more than the weights: the optimizer's momentum, the counters, and the state of the random generator, from
which the order of the next images comes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from examples.network import CLASSES, PIXELS, Parameters, Split, descend, loss_and_gradients, make_network

_NUMBERS: Final = "state.json"
_WEIGHTS: Final = "weights.npz"
_MOMENTUM: Final = "momentum.npz"


@dataclass(slots=True)
class State:
    """Weights, momentum, random generator, and how far the training is."""

    weights: Parameters
    momentum: Parameters
    rng: np.random.Generator
    step: int = 0
    epoch: int = 0

    @classmethod
    def fresh(cls, hidden: int, seed: int) -> State:
        """Before the first step, with two hidden layers."""
        rng = np.random.default_rng(seed)
        weights = make_network([PIXELS, hidden, hidden, CLASSES], rng)
        return cls(weights, {name: np.zeros_like(weight) for name, weight in weights.items()}, rng)

    def save(self, folder: Path) -> Path:
        """Writes it to a folder, and returns that."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / _WEIGHTS, **self.weights)  # type: ignore[arg-type]  # "**" might hold `allow_pickle`
        np.savez(folder / _MOMENTUM, **self.momentum)  # type: ignore[arg-type]
        numbers = {"step": self.step, "epoch": self.epoch, "rng": self.rng.bit_generator.state}
        (folder / _NUMBERS).write_text(json.dumps(numbers, indent=1))
        return folder

    @classmethod
    def load(cls, folder: Path) -> State:
        """Reads what `save` wrote."""
        numbers = json.loads((folder / _NUMBERS).read_text())
        rng = np.random.default_rng()
        rng.bit_generator.state = numbers["rng"]
        return cls(_arrays(folder / _WEIGHTS), _arrays(folder / _MOMENTUM), rng, numbers["step"], numbers["epoch"])

    def run_epoch(
        self, images: Split, batch_size: int, momentum: float, rate: Callable[[int], float]
    ) -> Iterator[dict[str, float]]:
        """Trains one epoch in place, and yields what is to be logged after each step. `rate`: of a step."""
        for batch in images.batches(batch_size, self.rng):
            self.step += 1
            lr = rate(self.step)
            loss, gradients = loss_and_gradients(self.weights, batch)
            descend(self.weights, self.momentum, gradients, lr, momentum)
            norms = {f"grad_norm/{name}": float(np.linalg.norm(gradient)) for name, gradient in gradients.items()}
            yield {"train/loss": loss, "train/lr": lr, **norms}
        self.epoch += 1


def _arrays(path: Path) -> Parameters:
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}
