"""A callback for the Trainer of transformers: its logs, arguments and checkpoints as a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Number
from typing import Any, Final

from thalweg.integrations.requirement import missing
from thalweg.integrations.saved_paths import SavedPaths
from thalweg.run import Run
from thalweg.start import init

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
except ImportError as error:
    raise missing(__name__, "'transformers[torch]'", error) from error

__all__ = ["ThalwegCallback"]

_PREFIXES: Final = {"eval_": "eval/", "test_": "test/"}
"""As the Trainer's own callbacks have it; all else is "train/"."""


class ThalwegCallback(TrainerCallback):
    """Give it to `Trainer(callbacks=[...])`. Only the process that is first in the world records."""

    def __init__(self, run: Run | None = None, *, upload: bool = False, **options: Any) -> None:
        """A callback to `run`, or to one that it begins with the training, by `options` of `thalweg.init`.

        `upload`: checkpoints go to the server's object store, while the training waits; without it only their
        places are recorded.
        """
        self._run = run
        self._is_own = run is None
        self._upload = upload
        self._options = options
        self._saved: SavedPaths | None = None
        self._unrecorded: _Saved | None = None
        self._last_epoch_step = -1

    @property
    def run(self) -> Run | None:
        """The run; None before it begins, and in processes that do not record."""
        return self._run

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        """Sets the arguments, and the model's configuration below "model", in the run's configuration."""
        if not state.is_world_process_zero:
            return
        run = self._begin(args, state)
        run.config.update(args.to_dict())  # in which the Trainer hides tokens
        model_config = getattr(model, "config", None)
        if model_config is not None:
            run.config.update({"model": model_config if isinstance(model_config, Mapping) else model_config.to_dict()})
        if state.trial_params:
            run.config.update({"trial": state.trial_params})

    def _begin(self, args: TrainingArguments, state: TrainerState) -> Run:
        if self._run is None:
            name = state.trial_name or (args.run_name if args.run_name != args.output_dir else None)
            self._run = init(**{"name": name, **self._options})
        if self._saved is None:
            self._saved = SavedPaths(self._run, upload=self._upload)
        return self._run

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Logs the numbers at the Trainer's global step."""
        if not state.is_world_process_zero or not logs:
            return
        values = _named(logs)
        if self._last_epoch_step == state.global_step:  # an evaluation says the epoch again
            values.pop("train/epoch", None)
        elif "train/epoch" in values:
            self._last_epoch_step = state.global_step
        self._begin(args, state).log(values, state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Records the checkpoint, with what was logged and evaluated at its step.

        Other processes may be writing their parts still: where there are any, it is recorded after the next
        step, which all of them have come to, or at the end of the training.
        """
        if not state.is_world_process_zero:
            return
        self._begin(args, state)
        place = os.path.join(args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")
        kind = "model" if args.save_only_model else "full"
        self._record_saved()
        self._unrecorded = _Saved(place, state.global_step, kind, _metrics_of_step(state))
        if args.world_size == 1:
            self._record_saved()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Records the checkpoint before, which by now all processes have written."""
        self._record_saved()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Records what is not recorded yet. The run goes on, for an evaluation may follow: it ends with the process.

        In a hyperparameter search each trial is a run, which ends here.
        """
        self._record_saved()
        if self._saved is not None:
            self._saved.settle()
        if self._is_own and self._run is not None and state.is_hyper_param_search:
            self._run.finish()
            self._run = self._saved = None
            self._last_epoch_step = -1

    def _record_saved(self) -> None:
        unrecorded, self._unrecorded = self._unrecorded, None
        if unrecorded is not None and self._saved is not None:
            self._saved.record(
                unrecorded.place,
                step=unrecorded.step,
                kind=unrecorded.kind,
                metrics=unrecorded.metrics,
                metadata={},
            )


@dataclass(frozen=True, slots=True)
class _Saved:
    """A checkpoint that this process has written."""

    place: str
    step: int
    kind: str
    metrics: Mapping[str, Any]


def _named(logs: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers by their names: "eval_loss" is eval/loss, "loss" is train/loss."""
    return {_name(key): value for key, value in logs.items() if isinstance(value, Number)}


def _name(key: str) -> str:
    for prefix, folder in _PREFIXES.items():
        if key.startswith(prefix):
            return folder + key.removeprefix(prefix)
    return f"train/{key}"


def _metrics_of_step(state: TrainerState) -> dict[str, Any]:
    """What the Trainer has logged at the present step: an older evaluation is one of other weights."""
    entries = [entry for entry in state.log_history if entry.get("step") == state.global_step]
    found = {name: value for entry in entries for name, value in _named(entry).items()}
    return {name: value for name, value in found.items() if name not in ("train/step", "train/epoch")}
