"""A small network for handwritten digits, in plain numpy: data, gradients, evaluation. Knows nothing of Thalweg.

The data are real: 1,797 scanned digits that scikit-learn bundles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # scikit-learn ships no types
from sklearn.metrics import precision_recall_fscore_support  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]
Parameters = dict[str, Matrix]  # "layer_0/weight" (inputs, outputs), "layer_0/bias" (outputs,), "layer_1/weight" ...

CLASSES: Final = 10
PIXELS: Final = 64
WARM_UP: Final = 0.05  # fraction of all steps


@dataclass(frozen=True, slots=True)
class Split:
    """Images, a row each with pixels from 0 to 1, and the digits that they show."""

    images: Matrix  # (n, 64)
    labels: Labels  # (n,)

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[Split]:
        """All images once, in random order. The last batch may be smaller."""
        order = rng.permutation(len(self.labels))
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield Split(self.images[chosen], self.labels[chosen])


def load_splits() -> tuple[Split, Split]:
    """1,437 images to train with and 360 to validate: the same for every seed, so that runs compare."""
    images, labels = load_digits(return_X_y=True)
    train_images, val_images, train_labels, val_labels = train_test_split(
        images / 16, labels, test_size=0.2, random_state=0, stratify=labels
    )
    return Split(train_images, train_labels), Split(val_images, val_labels)


def make_network(sizes: Sequence[int], rng: np.random.Generator) -> Parameters:
    """Layers between neighbouring sizes, with He's initialisation."""
    network = {}
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        network[f"layer_{number}/weight"] = rng.normal(0.0, math.sqrt(2 / inputs), (inputs, outputs))
        network[f"layer_{number}/bias"] = np.zeros(outputs)
    return network


def forward(network: Parameters, images: Matrix) -> list[Matrix]:
    """The images and each layer's output: after a ReLU, but for the last layer, which gives logits."""
    outputs = [images]
    last = len(network) // 2 - 1
    for number in range(last + 1):
        output = outputs[-1] @ network[f"layer_{number}/weight"] + network[f"layer_{number}/bias"]
        outputs.append(output if number == last else np.maximum(output, 0.0))
    return outputs


def cross_entropy(logits: Matrix, labels: Labels) -> tuple[float, Matrix]:
    """Mean loss of a batch, and its gradient by the logits."""
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    gradient = np.exp(log_probabilities)
    gradient[rows, labels] -= 1.0
    return -float(log_probabilities[rows, labels].mean()), gradient / len(labels)


def loss_and_gradients(network: Parameters, batch: Split) -> tuple[float, Parameters]:
    """Mean loss of a batch, and its gradient by each parameter, found by backpropagation."""
    outputs = forward(network, batch.images)
    loss, upstream = cross_entropy(outputs[-1], batch.labels)
    gradients = {}
    for number in reversed(range(len(network) // 2)):
        inputs = outputs[number]
        gradients[f"layer_{number}/weight"] = inputs.T @ upstream
        gradients[f"layer_{number}/bias"] = upstream.sum(axis=0)
        upstream = upstream @ network[f"layer_{number}/weight"].T * (inputs > 0)  # a ReLU made the inputs
    return loss, gradients


def descend(network: Parameters, velocity: Parameters, gradients: Parameters, lr: float, momentum: float) -> None:
    """One step of gradient descent with momentum, in place."""
    for name, gradient in gradients.items():
        velocity[name] = momentum * velocity[name] - lr * gradient
        network[name] += velocity[name]


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Rate of step 1..`steps`: a linear warm-up to the peak, then half a cosine down to 0."""
    warm_up = math.ceil(WARM_UP * steps)
    if step <= warm_up:
        return peak * step / warm_up
    return peak * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))) / 2


def evaluate(network: Parameters, split: Split) -> dict[str, float]:
    """Loss and accuracy; precision and recall as their means over the ten digits."""
    logits = forward(network, split.images)[-1]
    guesses = logits.argmax(axis=1)
    precision, recall, _, _ = precision_recall_fscore_support(split.labels, guesses, average="macro", zero_division=0.0)
    return {
        "val/loss": cross_entropy(logits, split.labels)[0],
        "val/accuracy": float((guesses == split.labels).mean()),
        "val/precision": float(precision),
        "val/recall": float(recall),
    }
