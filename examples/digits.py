"""Trains a small network on handwritten digits, in plain numpy, and records the training with Thalweg.

    thalweg up                                       # in another terminal; or set THALWEG_MODE=offline
    python examples/digits.py --lr 0.05 --hidden 64

The data are real (1,797 scanned digits, bundled with scikit-learn) and so is the training. All of Thalweg is in
`main` and `train`: `thalweg.init` once, `run.log` at each step and each epoch.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # scikit-learn ships no types
from sklearn.metrics import precision_recall_fscore_support  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

import thalweg

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]

CLASSES = 10
MOMENTUM = 0.9
WARM_UP = 0.05  # part of all steps


@dataclass(frozen=True, slots=True)
class Layer:
    """Parameters of one layer, or their gradients."""

    weight: Matrix  # (inputs, outputs)
    bias: Matrix  # (outputs,)


@dataclass(frozen=True, slots=True)
class Split:
    """Images, one a row with pixels 0..1, and the digits that they show."""

    images: Matrix  # (n, 64)
    labels: Labels  # (n,)

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[Split]:
        """All images once, in random order. The last batch may be smaller."""
        order = rng.permutation(len(self.labels))
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield Split(self.images[chosen], self.labels[chosen])


def load_splits() -> tuple[Split, Split]:
    """Training and validation data: 1,437 and 360 images, the same for every seed, so that runs compare."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 16, labels, test_size=0.2, random_state=0, stratify=labels)
    train_images, validation_images, train_labels, validation_labels = parts
    return Split(train_images, train_labels), Split(validation_images, validation_labels)


def make_network(sizes: Sequence[int], rng: np.random.Generator) -> list[Layer]:
    """Layers between consecutive sizes, with He's initialisation."""
    return [
        Layer(rng.normal(0.0, math.sqrt(2 / inputs), (inputs, outputs)), np.zeros(outputs))
        for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True)
    ]


def forward(network: Sequence[Layer], images: Matrix) -> list[Matrix]:
    """The input and the output of each layer: ReLU after all layers but the last, whose output are logits."""
    outputs = [images]
    for layer in network[:-1]:
        outputs.append(np.maximum(outputs[-1] @ layer.weight + layer.bias, 0.0))
    outputs.append(outputs[-1] @ network[-1].weight + network[-1].bias)
    return outputs


def cross_entropy(logits: Matrix, labels: Labels) -> tuple[float, Matrix]:
    """Mean loss of a batch, and its gradient by the logits."""
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    gradient = np.exp(log_probabilities)
    gradient[rows, labels] -= 1.0
    return -float(log_probabilities[rows, labels].mean()), gradient / len(labels)


def loss_and_gradients(network: Sequence[Layer], batch: Split) -> tuple[float, list[Layer]]:
    """Mean loss of a batch, and its gradient by every parameter (backpropagation)."""
    outputs = forward(network, batch.images)
    loss, upstream = cross_entropy(outputs[-1], batch.labels)
    gradients = []
    for layer, inputs in zip(reversed(network), reversed(outputs[:-1]), strict=True):
        gradients.append(Layer(inputs.T @ upstream, upstream.sum(axis=0)))
        upstream = (upstream @ layer.weight.T) * (inputs > 0)  # the inputs are what the ReLU before let through
    return loss, gradients[::-1]


def descend(network: Sequence[Layer], velocity: Sequence[Layer], gradients: Sequence[Layer], lr: float) -> None:
    """One step of gradient descent with momentum, in place."""
    for layer, speed, gradient in zip(network, velocity, gradients, strict=True):
        for parameter, v, g in ((layer.weight, speed.weight, gradient.weight), (layer.bias, speed.bias, gradient.bias)):
            v *= MOMENTUM
            v -= lr * g
            parameter += v


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up to the peak, then half a cosine down to nearly 0. Steps count from 0."""
    warm_up = math.ceil(WARM_UP * steps)
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))


def gradient_norms(gradients: Sequence[Layer]) -> dict[str, float]:
    """Euclidean norms by name, such as grad_norm/layer_0/weight."""
    norms = {}
    for number, layer in enumerate(gradients):
        norms[f"grad_norm/layer_{number}/weight"] = float(np.linalg.norm(layer.weight))
        norms[f"grad_norm/layer_{number}/bias"] = float(np.linalg.norm(layer.bias))
    return norms


def evaluate(network: Sequence[Layer], split: Split) -> dict[str, float]:
    """Loss, accuracy, and precision and recall as their mean over the ten digits."""
    logits = forward(network, split.images)[-1]
    guesses = logits.argmax(axis=1)
    precision, recall, _, _ = precision_recall_fscore_support(
        split.labels, guesses, average="macro", zero_division=0.0
    )
    return {
        "val/loss": cross_entropy(logits, split.labels)[0],
        "val/accuracy": float((guesses == split.labels).mean()),
        "val/precision": float(precision),
        "val/recall": float(recall),
    }


def train(run: thalweg.Run, options: argparse.Namespace) -> dict[str, float]:
    """Trains a network, logs to the run, and returns the metrics of the last validation."""
    rng = np.random.default_rng(options.seed)
    training, validation = load_splits()
    sizes = [training.images.shape[1], options.hidden, options.hidden, CLASSES]
    network = make_network(sizes, rng)
    velocity = [Layer(np.zeros_like(layer.weight), np.zeros_like(layer.bias)) for layer in network]
    run.config["parameters"] = sum(layer.weight.size + layer.bias.size for layer in network)

    steps = options.epochs * math.ceil(len(training.labels) / options.batch_size)
    step = 0
    scores: dict[str, float] = {}
    for epoch in range(1, options.epochs + 1):
        for batch in training.batches(options.batch_size, rng):
            lr = learning_rate(step, steps, options.lr)
            loss, gradients = loss_and_gradients(network, batch)
            descend(network, velocity, gradients, lr)
            step += 1
            run.log({"train/loss": loss, "train/lr": lr, **gradient_norms(gradients)}, step=step)

        scores = evaluate(network, validation)
        run.log({"epoch": epoch, **scores}, step=step)
        if not options.quiet and epoch % 10 == 0:
            print(f"epoch {epoch:3}  step {step:5}  val/loss {scores['val/loss']:.4f}  val/accuracy {scores['val/accuracy']:.4f}")
    return scores


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description="Train a small network on handwritten digits; record it with Thalweg.")
    parser.add_argument("--lr", type=float, default=0.05, help="greatest learning rate (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=128, help="width of the two hidden layers (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=80, help="passes over the data (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="images per step (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and order of batches (default: %(default)s)")
    parser.add_argument("--run-id", help="id of the run (default: a fresh one)")
    parser.add_argument("--project", default="digits", help="(default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="print the result only")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Trains as the command line says. Returns the metrics of the last validation."""
    options = parse(arguments)
    with thalweg.init(
        project=options.project,
        run_id=options.run_id,
        config={
            "lr": options.lr,
            "hidden": options.hidden,
            "epochs": options.epochs,
            "batch_size": options.batch_size,
            "seed": options.seed,
            "momentum": MOMENTUM,
            "warm_up": WARM_UP,
        },
        tags=["numpy", "example"],
    ) as run:
        scores = train(run, options)
    print(f"{run.run_id}: " + "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    return scores


if __name__ == "__main__":
    main()
