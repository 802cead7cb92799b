"""Population-based training: of many runs with random settings the bad ones stop, and forks of good ones go on instead.

    thalweg up                                  # in another terminal
    python -m examples.population               # about a minute; --members 8 --rounds 4 takes less

After each round, each of the worst quarter of the members is replaced (*exploit*) by a fork of one of the best quarter:
a new run that goes on from its latest checkpoint, with a learning rate and a momentum that are a little different
(*explore*). What concerns Thalweg is in `begin`, `run_round` and `replace`. All members live in this process; each has
a sender process of its own.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

import thalweg
from examples.network import Split, evaluate, load_splits
from examples.population_report import show_population
from examples.reading import Points, Project
from examples.state import State
from thalweg.api_client import ApiClient

HIDDEN: Final = 32
BATCH_SIZE: Final = 32
DELIVERY_S: Final = 60.0
FACTORS: Final = (0.7, 1.4)  # of learning rate and of 1 - momentum, when exploring


@dataclass(slots=True)
class Member:
    """A run, and the training that it records."""

    number: int
    run: thalweg.Run
    state: State
    lr: float
    momentum: float
    parent: Member | None = None
    accuracies: Points = field(default_factory=list)  # what it logged itself: step, val/accuracy
    loss: float = math.inf

    @property
    def rank(self) -> tuple[float, float]:
        """The less, the better. The loss tells finer differences than the accuracy on 360 images."""
        return self.loss, -self.accuracies[-1][1]

    def curve(self) -> Points:
        """val/accuracy from the root on: what the server has to answer for this run."""
        after = self.run.fork_step
        inherited = [] if self.parent is None or after is None else self.parent.curve()
        return [point for point in inherited if after is not None and point[0] <= after] + self.accuracies


class Population:
    """Members that train in turn. Has the data, the folder for checkpoints, and all randomness."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        """`folder`: checkpoints are written there before they are uploaded."""
        self._options = options
        self._folder = folder
        self._rng = np.random.default_rng(options.seed)
        self._data: tuple[Split, Split] = load_splits()
        self.members = [self.begin(number) for number in range(options.members)]

    def begin(self, number: int) -> Member:
        """A member with random settings."""
        lr, momentum = float(10 ** self._rng.uniform(-4, -1.5)), float(self._rng.uniform(0, 0.95))
        run = thalweg.init(
            self._options.project,
            run_id=f"m{number:02}",
            config={"lr": lr, "momentum": momentum, "hidden": HIDDEN, "batch_size": BATCH_SIZE},
            system_interval_s=0,  # one host for all
        )
        return Member(number, run, State.fresh(HIDDEN, self._options.seed + number), lr, momentum)

    def run_round(self, member: Member) -> None:
        """Trains some epochs, validates, saves a checkpoint."""
        training, validation = self._data
        state, run = member.state, member.run
        for _ in range(self._options.epochs):
            for values in state.run_epoch(training, BATCH_SIZE, member.momentum, lambda step: member.lr):
                run.log(values, step=state.step)
        scores = evaluate(state.weights, validation)
        run.log(scores, step=state.step)
        member.accuracies.append((state.step, scores["val/accuracy"]))
        member.loss = scores["val/loss"] if math.isfinite(scores["val/loss"]) else math.inf
        saved = state.save(self._folder / run.run_id / f"step-{state.step}")
        run.save_checkpoint(saved, step=state.step, metrics=scores)

    def replace(self, bad: Member, good: Member, round_number: int) -> Member:
        """Stops the run of a bad member; its place is taken by a fork of a good one's latest checkpoint."""
        bad.run.add_tags("replaced")
        bad.run.finish()
        lr = good.lr * float(self._rng.choice(FACTORS))
        momentum = 1 - min(1.0, (1 - good.momentum) * float(self._rng.choice(FACTORS)))
        if not good.run.flush(timeout=DELIVERY_S):  # its checkpoint is its latest once the server knows it
            raise RuntimeError(f"cannot fork {good.run.run_id}: the server has not got its checkpoint yet")
        run = thalweg.init(
            self._options.project,
            run_id=f"m{bad.number:02}-r{round_number}",
            fork_from=f"{good.run.run_id}@latest-checkpoint",
            config={"lr": lr, "momentum": momentum},
            system_interval_s=0,
        )
        state = State.load(run.restore(to=self._folder / run.run_id / "restored"))
        return Member(bad.number, run, state, lr, momentum, parent=good)

    def evolve(self, round_number: int) -> None:
        """The worst quarter is replaced by forks of the best quarter."""
        ranking = sorted(self.members, key=lambda member: member.rank)
        quarter = max(1, len(ranking) // 4)
        for bad in ranking[-quarter:]:
            good = ranking[int(self._rng.integers(quarter))]
            self.members[bad.number] = self.replace(bad, good, round_number)

    def best(self) -> Member:
        """The member that is best now."""
        return min(self.members, key=lambda member: member.rank)


@contextmanager
def open_population(options: argparse.Namespace) -> Iterator[Population]:
    """A population whose runs end with the block: as failed where an exception ends it."""
    with threadpool_limits(1), tempfile.TemporaryDirectory() as folder, ExitStack() as ends:
        population = Population(options, Path(folder))

        def end(kind: object, error: BaseException | None, trace: object) -> None:
            for member in population.members:
                member.run.finish() if error is None else member.run.finish_with(error)

        ends.push(end)
        yield population


def train(options: argparse.Namespace) -> Population:
    """All rounds; the last one replaces nobody. The runs are finished then."""
    with open_population(options) as population:
        for number in range(1, options.rounds + 1):
            for member in population.members:
                population.run_round(member)
            print(f"round {number}  {in_words(population)}", flush=True)
            if number < options.rounds:
                population.evolve(number)
    return population


def in_words(population: Population) -> str:
    """How good the members are after a round, as one line."""
    best, losses = population.best(), [member.loss for member in population.members]
    return (
        f"step {best.state.step:4}  val/loss: best {best.loss:.4f} ({best.run.run_id}),"
        f" median {median(losses):.4f}, worst {max(losses):.4f}"
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description="Train a population of networks on handwritten digits, and record it with Thalweg.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    fresh = f"population-{datetime.now():%Y%m%d-%H%M%S}"
    parser.add_argument("--members", type=int, default=16, help="runs at a time, at least 2")
    parser.add_argument("--rounds", type=int, default=8, help="trainings of each member")
    parser.add_argument("--epochs", type=int, default=2, help="of each round")
    parser.add_argument("--seed", type=int, default=0, help="of settings, weights, order of images and choices")
    parser.add_argument("--project", default=fresh, help="project of the runs, which must not have any yet")
    options = parser.parse_args(arguments)
    if options.members < 2 or options.rounds < 1 or options.epochs < 1:
        parser.error("a population takes 2 members, 1 round and 1 epoch at least")
    return options


def main(arguments: Sequence[str] | None = None) -> Population:
    """Trains as the command line says, and shows what the server has of it."""
    options = parse(arguments)
    population = train(options)
    winner = population.best()
    project = Project(ApiClient(winner.run.url), options.project)
    if project.points(winner.run.run_id, "val/accuracy") != winner.curve():
        raise RuntimeError(f"the server's val/accuracy of {winner.run.run_id} is not what was logged")
    show_population(project, winner.run.run_id)
    return population


if __name__ == "__main__":
    main()
