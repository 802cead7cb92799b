"""Thalweg: experiment tracking for teams that train large models.

import thalweg

with thalweg.init(project="digits", config={"lr": 0.1}) as run:
    run.log({"train/loss": 0.5}, step=1)
"""

from thalweg.checkpointing import restore
from thalweg.errors import (
    CheckpointError,
    InputError,
    NotFoundError,
    ServerError,
    SettingError,
    ThalwegError,
    UnreachableError,
)
from thalweg.run import Run
from thalweg.start import init
from thalweg.version import __version__

__all__ = [
    "CheckpointError",
    "InputError",
    "NotFoundError",
    "Run",
    "ServerError",
    "SettingError",
    "ThalwegError",
    "UnreachableError",
    "__version__",
    "init",
    "restore",
]
