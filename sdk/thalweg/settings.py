"""Settings of the SDK: read once, from arguments first, then from `THALWEG_*`, then defaults.

Pure but for `Settings.read`, which is handed the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeVar, cast
from urllib.parse import urlsplit

from thalweg.errors import SettingError
from thalweg.tls import TlsFiles
from thalweg.wire import limits

Mode = Literal["online", "offline", "disabled"]
MODES: Final = ("online", "offline", "disabled")
T = TypeVar("T")

DEFAULT_URL: Final = "http://127.0.0.1:7412"
DEFAULT_SPOOL_LIMIT_BYTES: Final = 20 << 30
DEFAULT_SYSTEM_INTERVAL_S: Final = 10.0

ATTEMPT_VARIABLES: Final = {
    # torchrun's run id is "none" unless --rdzv-id is given; its port is another one for each start on one node
    "torchrun": ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT"),
    "slurm": ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"),
    "pmix": ("PMIX_NAMESPACE",),
}
"""What each launcher tells its processes of this start of the training; it is one if the first is there."""

# Set by torchrun, SLURM, Open MPI, Intel MPI / MPICH and PyTorch Lightning, in this order.
RANK_VARIABLES: Final = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one run of the SDK."""

    url: str
    project: str
    mode: Mode
    spool_dir: Path
    token: str | None = field(default=None, repr=False)
    run_id: str | None = None
    rank: int = 0
    attempt: str | None = None
    spool_limit_bytes: int = DEFAULT_SPOOL_LIMIT_BYTES
    system_interval_s: float = DEFAULT_SYSTEM_INTERVAL_S

    @classmethod
    def read(
        cls,
        environ: Mapping[str, str],
        *,
        url: str | None = None,
        project: str | None = None,
        token: str | None = None,
        mode: str | None = None,
        run_id: str | None = None,
        rank: int | None = None,
        spool_dir: str | os.PathLike[str] | None = None,
        system_interval_s: float | None = None,
    ) -> Settings:
        """Settings from arguments (None: not given) and environment. Raises SettingError."""
        address = _url(_first(url, environ.get("THALWEG_URL"), DEFAULT_URL))
        if address.startswith("https:"):
            TlsFiles.read(environ)  # what is wrong there is told at the start, not by the sender
        return cls(
            url=address,
            project=name_setting("THALWEG_PROJECT", _first(project, environ.get("THALWEG_PROJECT"), "default")),
            mode=_mode(_first(mode, environ.get("THALWEG_MODE"), "online")),
            spool_dir=Path(spool_dir or environ.get("THALWEG_SPOOL_DIR") or default_spool_dir(environ)).expanduser(),
            token=read_token(_first(token, environ.get("THALWEG_TOKEN"), "")),
            run_id=_run_id(_first(run_id, environ.get("THALWEG_RUN_ID"), "")),
            rank=_rank(rank, environ),
            attempt=_attempt(environ),
            spool_limit_bytes=_whole(environ, "THALWEG_SPOOL_LIMIT_BYTES", DEFAULT_SPOOL_LIMIT_BYTES, 64 << 20),
            system_interval_s=_interval(system_interval_s, environ),
        )


def read_token(text: str | None) -> str | None:
    """A token as a header can carry it: files of secrets end with a newline. Raises SettingError, without the token."""
    token = (text or "").strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise SettingError(
            "THALWEG_TOKEN", "***", "one word of ASCII letters and digits, as `thalweg token create` says it"
        )
    return token or None


def _first(given: T | None, from_environment: T | None, default: T) -> T:
    if given is not None:
        return given
    return from_environment if from_environment else default


def _url(value: str) -> str:
    wanted = "the server's HTTP address, such as http://127.0.0.1:7412"
    try:
        parts = urlsplit(value)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bad port, or half an IPv6 address
        is_good = False
    if not is_good:
        raise SettingError("THALWEG_URL", value, wanted)
    return value.rstrip("/")


def _mode(value: str) -> Mode:
    if value not in MODES:
        raise SettingError("THALWEG_MODE", value, "one of " + ", ".join(MODES))
    return cast(Mode, value)


def name_setting(key: str, value: str) -> str:
    """Checks the name of a project or run. Raises SettingError."""
    wanted = "1 to 128 bytes of text without control characters or '/', and neither '.' nor '..'"
    try:
        size = len(value.encode())
    except (UnicodeEncodeError, AttributeError):
        raise SettingError(key, value, wanted) from None
    if not 1 <= size <= limits.PROJECT_MAX_BYTES or "/" in value or value in (".", "..") or not value.isprintable():
        raise SettingError(key, value, wanted)
    return value


def _run_id(value: str) -> str | None:
    return name_setting("run_id", value) if value else None


def _rank(given: int | None, environ: Mapping[str, str]) -> int:
    key, text = "rank", str(given) if given is not None else ""
    if not text:
        key, text = next(((k, environ[k]) for k in RANK_VARIABLES if environ.get(k)), ("rank", "0"))
    if not text.isdecimal() or int(text) > limits.RANK_MAX:
        raise SettingError(key, text, f"a whole number, 0..{limits.RANK_MAX}")
    return int(text)


def _attempt(environ: Mapping[str, str]) -> str | None:
    """What names one start of the training in all its processes, as far as the launcher tells."""
    given = environ.get("THALWEG_ATTEMPT")
    if given:
        return given
    parts = []
    for launcher, variables in ATTEMPT_VARIABLES.items():
        if environ.get(variables[0]):
            parts.append(":".join((launcher, *(environ.get(variable, "") for variable in variables))))
    return " ".join(parts) or None


def _whole(environ: Mapping[str, str], key: str, default: int, least: int) -> int:
    text = environ.get(key, "")
    if not text:
        return default
    if not text.isdecimal() or int(text) < least:
        raise SettingError(key, text, f"a whole number of bytes, at least {least}")
    return int(text)


def _interval(given: float | None, environ: Mapping[str, str]) -> float:
    text = str(given) if given is not None else environ.get("THALWEG_SYSTEM_INTERVAL_S", "")
    wanted = "seconds between samples of system metrics, at least 0.1; 0 turns them off"
    try:
        value = float(text) if text else DEFAULT_SYSTEM_INTERVAL_S
    except ValueError:
        raise SettingError("THALWEG_SYSTEM_INTERVAL_S", text, wanted) from None
    if value != 0 and not 0.1 <= value <= 86_400:
        raise SettingError("THALWEG_SYSTEM_INTERVAL_S", text, wanted)
    return value


def default_spool_dir(environ: Mapping[str, str]) -> str:
    """The spool in the user's cache folder."""
    cache = environ.get("XDG_CACHE_HOME") or str(Path("~").expanduser() / ".cache")
    return str(Path(cache) / "thalweg" / "spool")
