"""Thalweg: experiment tracking for teams that train large models.

import thalweg

with thalweg.init(project="digits", config={"lr": 0.1}) as run:
    run.log({"train/loss": 0.5}, step=1)
"""

from thalweg.errors import InputError, NotFoundError, ServerError, SettingError, ThalwegError
from thalweg.run import Run
from thalweg.start import init
from thalweg.version import __version__

__all__ = [
    "InputError",
    "NotFoundError",
    "Run",
    "ServerError",
    "SettingError",
    "ThalwegError",
    "__version__",
    "init",
]
