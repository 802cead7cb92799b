"""Trains a small network on handwritten digits, records it with Thalweg, and goes on where another training was.

    thalweg up                                                      # in another terminal
    python -m examples.digits --run-id base --crash-at 2000         # it fails, for this once
    python -m examples.digits --run-id base --rewind latest-checkpoint
    thalweg checkpoints digits/base
    python -m examples.digits --fork-from base@900 --lr 0.01        # what is not said is as in the parent

What concerns Thalweg is in `start` and `train`: `init`, `log` at each step and after each epoch, `save_checkpoint`
after some of them, and `restore`.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

import thalweg
from examples.network import WARM_UP, evaluate, learning_rate, load_splits
from examples.state import State

LATEST: Final = "latest-checkpoint"
EPOCHS_PER_LINE: Final = 20
CRASH: Final = "told to fail after step {}, as hardware does without being told"


@dataclass(frozen=True, slots=True)
class Config:
    """What decides the training's course. The defaults reach an accuracy of 98 %."""

    lr: float = 0.05
    hidden: int = 128
    epochs: int = 80
    batch_size: int = 32
    momentum: float = 0.9
    seed: int = 0


def start(options: argparse.Namespace, folder: Path) -> tuple[thalweg.Run, State | None]:
    """The run, and the state to go on from: None for a training that begins. `folder`: for what is restored."""
    told: dict[str, Any] = {
        "project": options.project,
        "run_id": options.run_id,
        "config": {name: value for name in asdict(Config()) if (value := getattr(options, name)) is not None},
        "tags": ["example", "numpy"],
    }
    if options.rewind == LATEST:  # the same command after every crash: at the very first start there is nothing yet
        run = thalweg.init(**told, rewind_to=LATEST)
        return run, None if run.fork_step is None else State.load(run.restore(to=folder))
    if options.fork_from or options.rewind:
        # The weights first. They are of the nearest checkpoint at or before the step: there the curve has to go on.
        point = options.fork_from or f"{options.run_id}@{options.rewind}"
        state = State.load(thalweg.restore(f"{options.project}/{point}", to=folder))
        if options.fork_from:
            return thalweg.init(**told, fork_from=f"{point.rpartition('@')[0]}@{state.step}"), state
        return thalweg.init(**told, rewind_to=state.step), state
    return thalweg.init(**told), None


def train(run: thalweg.Run, state: State | None, options: argparse.Namespace) -> dict[str, float]:
    """Trains a network, or trains it on, and logs to `run`. Returns the metrics of the last validation."""
    config = Config(**{name: run.config.get(name, default) for name, default in asdict(Config()).items()})
    state = state or State.fresh(config.hidden, config.seed)
    run.config.update(asdict(config), warm_up=WARM_UP, parameters=sum(weight.size for weight in state.weights.values()))
    training, validation = load_splits()
    steps = config.epochs * math.ceil(len(training.labels) / config.batch_size)
    options.checkpoints.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{run.run_id}-", dir=options.checkpoints))

    scores: dict[str, float] = {}
    while state.epoch < config.epochs:
        for values in state.run_epoch(
            training, config.batch_size, config.momentum, lambda step: learning_rate(step, steps, config.lr)
        ):
            run.log(values, step=state.step)
            if state.step == options.crash_at:
                raise RuntimeError(CRASH.format(state.step))

        scores = evaluate(state.weights, validation)
        run.log({"epoch": state.epoch, **scores}, step=state.step)
        if state.epoch % options.save_epochs == 0:
            run.save_checkpoint(state.save(folder / f"step-{state.step}"), step=state.step, metrics=scores)
        if state.epoch % EPOCHS_PER_LINE == 0 and not options.quiet:
            print(f"epoch {state.epoch:3} step {state.step:4}  {in_words(scores)}", flush=True)
    print(f"result: step {state.step}  {in_words(scores)}")
    return scores


def in_words(scores: dict[str, float]) -> str:
    """Metrics as one line."""
    return "  ".join(f"{name} {value:.4f}" for name, value in scores.items())


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    default = Config()
    parser = argparse.ArgumentParser(description="Train a network on handwritten digits, and record it with Thalweg.")
    course = parser.add_argument_group("course of the training (a fork or rewind has what is not said from before)")
    course.add_argument("--lr", type=float, help=f"peak of the learning rate ({default.lr})")
    course.add_argument("--hidden", type=int, help=f"width of the two hidden layers ({default.hidden})")
    course.add_argument("--epochs", type=int, help=f"passes over the training images ({default.epochs})")
    course.add_argument("--batch-size", type=int, help=f"images per step ({default.batch_size})")
    course.add_argument("--momentum", type=float, help=f"of the gradient descent ({default.momentum})")
    course.add_argument("--seed", type=int, help=f"of the weights and the order of images ({default.seed})")
    parser.add_argument("--project", default="digits", help="project of the run (digits)")
    parser.add_argument("--run-id", help="id of the run; without it, a fresh one")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--rewind", metavar=f"STEP|{LATEST}", help="the run --run-id goes on from there; needs a server")
    begin.add_argument("--fork-from", metavar=f"RUN@STEP|RUN@{LATEST}", help="a new run goes on from there")
    parser.add_argument("--save-epochs", type=int, default=10, help="epochs between checkpoints (10)")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"), help="local folder (./checkpoints)")
    parser.add_argument("--crash-at", type=int, metavar="STEP", help="fail after this step")
    parser.add_argument("--quiet", action="store_true", help="print the result only")
    options = parser.parse_args(arguments)
    if options.rewind and not options.run_id:
        parser.error("--rewind needs --run-id: which run is to go on?")
    return options


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Trains as the command line says, as one run. Returns the metrics of the last validation."""
    options = parse(arguments)
    one_thread = threadpool_limits(1)  # for matrices this small, several threads cost more than they give
    with one_thread, tempfile.TemporaryDirectory() as scratch:
        run, state = start(options, Path(scratch) / "restored")
        with run:
            return train(run, state, options)


if __name__ == "__main__":
    main()
