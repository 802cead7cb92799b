"""Trains a small network on handwritten digits, in plain numpy, and records the training with Thalweg.

    thalweg up                                      # in another terminal; or set THALWEG_MODE=offline
    python examples/digits.py --lr 0.02 --hidden 64

The data are real: 1,797 scanned digits that scikit-learn bundles. What concerns Thalweg is in `train` and
`main`: `thalweg.init` once, `run.log` at each step and after each epoch.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # scikit-learn ships no types
from sklearn.metrics import precision_recall_fscore_support  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

import thalweg

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]
Parameters = dict[str, Matrix]  # "layer_0/weight" (inputs, outputs), "layer_0/bias" (outputs,), "layer_1/weight" ...

CLASSES = 10
MOMENTUM = 0.9
WARM_UP = 0.05  # fraction of all steps


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


def descend(network: Parameters, velocity: Parameters, gradients: Parameters, lr: float) -> None:
    """One step of gradient descent with momentum, in place."""
    for name, gradient in gradients.items():
        velocity[name] = MOMENTUM * velocity[name] - lr * gradient
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


def train(run: thalweg.Run, options: argparse.Namespace) -> dict[str, float]:
    """Trains a network and logs to `run`. Returns the metrics of the last validation."""
    rng = np.random.default_rng(options.seed)
    training, validation = load_splits()
    network = make_network([training.images.shape[1], options.hidden, options.hidden, CLASSES], rng)
    velocity = {name: np.zeros_like(parameter) for name, parameter in network.items()}
    run.config["parameters"] = sum(parameter.size for parameter in network.values())

    step, steps = 0, options.epochs * math.ceil(len(training.labels) / options.batch_size)
    scores: dict[str, float] = {}
    for epoch in range(1, options.epochs + 1):
        for batch in training.batches(options.batch_size, rng):
            step += 1
            lr = learning_rate(step, steps, options.lr)
            loss, gradients = loss_and_gradients(network, batch)
            descend(network, velocity, gradients, lr)
            norms = {f"grad_norm/{name}": np.linalg.norm(gradient) for name, gradient in gradients.items()}
            run.log({"train/loss": loss, "train/lr": lr, **norms}, step=step)

        scores = evaluate(network, validation)
        run.log({"epoch": epoch, **scores}, step=step)
        if epoch % 20 == 0 and not options.quiet:
            print(f"epoch {epoch:3}  step {step:5}  {in_words(scores)}", flush=True)
    print(f"result: step {step}  {in_words(scores)}")
    return scores


def in_words(scores: dict[str, float]) -> str:
    """Metrics as one line."""
    return "  ".join(f"{name} {value:.4f}" for name, value in scores.items())


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command line, whose defaults reach an accuracy of 98 %."""
    parser = argparse.ArgumentParser(
        description="Train a small network on handwritten digits, and record it with Thalweg.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--lr", type=float, default=0.05, help="peak of the learning rate")
    parser.add_argument("--hidden", type=int, default=128, help="width of the two hidden layers")
    parser.add_argument("--epochs", type=int, default=80, help="passes over the training images")
    parser.add_argument("--batch-size", type=int, default=32, help="images per step")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the order of images")
    parser.add_argument("--run-id", help="id of the run; without it, a fresh one")
    parser.add_argument("--project", default="digits", help="project of the run")
    parser.add_argument("--quiet", action="store_true", help="print the result only")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Trains as the command line says, as one run. Returns the metrics of the last validation."""
    options = parse(arguments)
    one_thread = threadpool_limits(1)  # for matrices this small, several threads cost more than they give
    with (
        one_thread,
        thalweg.init(
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
            tags=["example", "numpy"],
        ) as run,
    ):
        return train(run, options)


if __name__ == "__main__":
    main()
