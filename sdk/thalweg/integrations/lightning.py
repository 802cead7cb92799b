"""A logger for Lightning: its metrics, hyperparameters and checkpoints as a run.

Lightning counts in two ways: what a batch logs after n updates is at step n, while a checkpoint after n updates has
the `global_step` n and includes the steps up to n - 1. So it is recorded at step n - 1: a training that restarts from
it logs step n next, and a fork or rewind takes over just what the checkpoint includes.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from thalweg.console import say
from thalweg.integrations.requirement import missing
from thalweg.integrations.saved_paths import SavedPaths
from thalweg.run import Run
from thalweg.start import init


def _import_lightning() -> Any:
    """The module of loggers of the package that is in use: one code base ships under two names."""
    names = ("lightning.pytorch", "pytorch_lightning")
    first, second = sorted(names, key=lambda name: name not in sys.modules)
    try:
        return import_module(f"{first}.loggers.logger")
    except ModuleNotFoundError as error:
        if error.name not in (first, first.partition(".")[0]):
            raise
        return import_module(f"{second}.loggers.logger")


try:
    from lightning_utilities.core.rank_zero import rank_zero_only

    _lightning: Any = _import_lightning()
except ImportError as error:
    raise missing(__name__, "lightning", error) from error

__all__ = ["ThalwegLogger"]


class ThalwegLogger(_lightning.Logger):
    """Give it to `Trainer(logger=...)`. Only the process of rank 0 records, as with all loggers of Lightning."""

    def __init__(
        self, run: Run | None = None, *, upload: bool = False, updates_per_batch: int = 1, **options: Any
    ) -> None:
        """A logger to `run`, or to one that it begins itself with `options`, those of `thalweg.init`.

        `upload`: what ModelCheckpoint saves goes to the server's object store, while the training waits; without
        it only its place is recorded. `updates_per_batch`: with manual optimization, how many optimizer steps a
        batch takes; Lightning's `global_step` counts each.
        """
        super().__init__()
        self._run = run
        self._is_own = run is None
        self._upload = upload
        self._updates_per_batch = updates_per_batch
        self._options = options
        self._saved: SavedPaths | None = None
        self._last_step = -1

    @property
    @_lightning.rank_zero_experiment
    def experiment(self) -> Run:
        """The run; on other ranks Lightning's stand-in, whose methods do nothing."""
        if self._run is None:
            self._run = init(**self._options)
        return self._run

    @property
    def name(self) -> str | None:
        """The project. Lightning saves checkpoints below `name`/`version`."""
        return self._run.project if self._run is not None else self._options.get("project")

    @property
    def version(self) -> str | None:
        """The run's id."""
        return self._run.run_id if self._run is not None else self._options.get("run_id")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs the metrics under their own names."""
        self.experiment.log(metrics, step)
        self._last_step = -1 if step is None else step

    @rank_zero_only
    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Sets them in the run's configuration."""
        self.experiment.config.update(vars(params) if isinstance(params, Namespace) else params)

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Records what a ModelCheckpoint has just saved, with the metric that it watches."""
        path = getattr(checkpoint_callback, "_last_checkpoint_saved", "")
        global_step = getattr(checkpoint_callback, "_last_global_step_saved", None)
        if not path or global_step is None:
            kind = type(checkpoint_callback).__name__
            say(f"cannot record a checkpoint: {kind} does not say what it saved. Call run.log_checkpoint yourself.")
            return
        monitor = getattr(checkpoint_callback, "monitor", None)
        score = getattr(checkpoint_callback, "best_k_models", {}).get(path, checkpoint_callback.current_score)
        included = int(global_step) // self._updates_per_batch - 1
        self._saved_paths().record(
            str(path),
            step=max(included, self._last_step),  # after some restarts Lightning's logged steps run ahead
            kind="model" if getattr(checkpoint_callback, "save_weights_only", False) else "full",
            metrics={} if monitor is None or score is None else {monitor: float(score)},
            metadata={"global_step": int(global_step)},
        )

    def _saved_paths(self) -> SavedPaths:
        if self._saved is None:
            self._saved = SavedPaths(self.experiment, upload=self._upload)
        return self._saved

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """After each fit, validate and test: the run goes on, for another may follow.

        A failure ends the run if the logger began it, with the exception. Otherwise it ends with the process,
        or by `logger.experiment.finish()`.
        """
        self._last_step = -1
        if self._saved is not None:
            self._saved.settle()
        error = sys.exc_info()[1]
        if status == "failed" and self._is_own and self._run is not None and error is not None:
            self._run.finish_with(error)

    def __getstate__(self) -> dict[str, Any]:
        """For strategies that spawn processes: the first of them begins the run. Raises TypeError for a given run."""
        if not self._is_own or self._run is not None:
            raise TypeError(
                "cannot send ThalwegLogger to another process: its run lives in this one. Give it the options of "
                "thalweg.init instead of a run, and use `experiment` in the training only"
            )
        return self.__dict__.copy()
