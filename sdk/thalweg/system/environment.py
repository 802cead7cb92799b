"""Captures, once per run, what the training process runs in: host, Python, code, packages, scheduler.

Owns the list of keys and what may be recorded: environment variables only from an allow-list, and everything
redacted. Imports nothing of the user's (torch is looked at only if it is there already) and nothing slow: it
runs in `init()`. Nothing raises for what the host withholds: the key is then missing. Any thread.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from thalweg.system.git import GitState, read_git_state
from thalweg.system.redact import redact_argv, redact_mapping, redact_text

__all__ = ["capture", "installed_packages"]

_ENTRIES_LIMIT = 2_000  # packages, variables, arguments
_TEXT_LIMIT_CHARACTERS = 4_096

# fmt: off
# Not "TF_": Terraform keeps secrets under it.
_VARIABLE_PREFIXES = (
    "CUDA_", "NVIDIA_", "NCCL_", "NVTE_", "CUBLAS", "CUDNN_", "ROCR_", "HIP_", "RCCL_", "UCX_", "FI_",
    "GLOO_",
    "OMP_", "MKL_", "KMP_", "OPENBLAS_", "NUMEXPR_", "GOMP_", "SLURM_", "OMPI_COMM_WORLD_", "PMI_",
    "TORCH", "PYTORCH_", "DEEPSPEED_", "ACCELERATE_", "FSDP_", "TRITON_", "XLA_", "JAX_", "RAY_",
    "TF_CONFIG", "TF_CPP_", "TF_DETERMINISTIC_", "TF_ENABLE_", "TF_FORCE_", "TF_GPU_", "TF_XLA_",
    "HF_", "HUGGINGFACE_", "TRANSFORMERS_", "DATASETS_", "TOKENIZERS_", "VLLM_",
)
_VARIABLE_NAMES = frozenset({
    "RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE",
    "MASTER_ADDR", "MASTER_PORT", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONHASHSEED",
    "PYTHONOPTIMIZE", "CONDA_DEFAULT_ENV", "VIRTUAL_ENV", "TZ",
})
_SCHEDULER_IDS = {
    "slurm.job_id": "SLURM_JOB_ID", "slurm.job_name": "SLURM_JOB_NAME",
    "slurm.array_job_id": "SLURM_ARRAY_JOB_ID", "slurm.array_task_id": "SLURM_ARRAY_TASK_ID",
    "slurm.step_id": "SLURM_STEP_ID", "slurm.node_list": "SLURM_JOB_NODELIST",
    "slurm.partition": "SLURM_JOB_PARTITION", "slurm.cluster": "SLURM_CLUSTER_NAME",
    "slurm.restart_count": "SLURM_RESTART_COUNT",
    "torchelastic.run_id": "TORCHELASTIC_RUN_ID", "torchelastic.restart_count": "TORCHELASTIC_RESTART_COUNT",
    "pbs.job_id": "PBS_JOBID", "lsf.job_id": "LSB_JOBID", "ray.job_id": "RAY_JOB_ID",
    "kubernetes.pod": "POD_NAME", "kubernetes.namespace": "POD_NAMESPACE",
    "kubernetes.completion_index": "JOB_COMPLETION_INDEX", "aws_batch.job_id": "AWS_BATCH_JOB_ID",
    "sagemaker.job_name": "TRAINING_JOB_NAME", "vertex.job_id": "CLOUD_ML_JOB_ID",
    "github.run_id": "GITHUB_RUN_ID",
}
# fmt: on


def capture(
    started_at_us: int,
    *,
    argv: Sequence[str] | None = None,
    variables: Mapping[str, str] | None = None,
    working_directory: str | None = None,
    gpus: Sequence[Mapping[str, Any]] = (),
    with_git: bool = True,
    with_packages: bool = True,
) -> dict[str, Any]:
    """What is known of this process, by dotted key. Values are JSON scalars, lists, and two dicts of strings
    (`packages`, `variables`). All strings are valid UTF-8 and redacted. What is over a limit is cut, and a
    key with `_cut` at its end says so.

    `started_at_us`: the start of the run, µs since the epoch. `argv`, `variables`, `working_directory`: by
    default those of this process. `gpus`: from `GpuSampler.describe()`; not asked for here, since NVML may
    need seconds to start. Blocks for 10 to 40 ms (git and its diff); on a slow file system git may take its
    time-out, 2 s, five times.
    """
    argv = list(sys.orig_argv) if argv is None else argv
    variables = os.environ if variables is None else variables
    directory = _working_directory() if working_directory is None else working_directory
    found: dict[str, Any] = {
        **_host(),
        **_python(),
        **_process(started_at_us, argv, directory),
        **_scheduler(variables),
        "user": _user(),
        **_bounded("variables", _training_variables(variables)),
        "cuda.version": _cuda_version(variables),
        "cuda.driver_version": next((gpu.get("cuda_driver_version") for gpu in gpus), None),
        "gpus": [dict(gpu) for gpu in gpus] or None,
    }
    if with_packages:
        found.update(_bounded("packages", installed_packages(sys.path)))
    if with_git and directory is not None:
        found.update(_git(read_git_state(directory)))
    return {key: _clean(value) for key, value in found.items() if value is not None}


def _host() -> dict[str, Any]:
    return {
        "host.name": socket.gethostname(),
        "host.os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "host.distribution": _distribution(),
        "host.cpu_count": os.cpu_count(),
        "host.cpu_count_usable": _usable_cpu_count(),
        "host.memory_bytes": _memory_bytes(),
    }


def _distribution() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:  # not Linux, or a minimal container
        return None


def _usable_cpu_count() -> int | None:
    """CPUs that this process may run on; fewer than the host's under taskset or Slurm."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows; names that this platform lacks
        return None


def _python() -> dict[str, Any]:
    return {
        "python.version": platform.python_version(),
        "python.implementation": platform.python_implementation(),
        "python.executable": redact_text(sys.executable or ""),
    }


def _process(started_at_us: int, argv: Sequence[str], directory: str | None) -> dict[str, Any]:
    # Redact before cutting: half a token does not look like one.
    command = [_shorten(argument) for argument in redact_argv(argv[:_ENTRIES_LIMIT])]
    return {
        "process.pid": os.getpid(),
        "process.started_at_us": started_at_us,
        "process.command": command,
        "process.command_cut": True if len(argv) > _ENTRIES_LIMIT else None,
        "process.working_directory": None if directory is None else redact_text(directory),
    }


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # removed under our feet
        return None


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container with a user id that has no name
        return str(os.getuid()) if hasattr(os, "getuid") else None


def _scheduler(variables: Mapping[str, str]) -> dict[str, Any]:
    return {key: _redact_short(variables[name]) for key, name in _SCHEDULER_IDS.items() if variables.get(name)}


def _training_variables(variables: Mapping[str, str]) -> dict[str, str]:
    allowed = sorted(name for name in variables if name.startswith(_VARIABLE_PREFIXES) or name in _VARIABLE_NAMES)
    redacted = redact_mapping({name: variables[name] for name in allowed})
    return {name: _shorten(value) for name, value in redacted.items()}


def _bounded(key: str, entries: Mapping[str, str]) -> dict[str, Any]:
    if len(entries) <= _ENTRIES_LIMIT:
        return {key: entries}
    return {key: dict(islice(entries.items(), _ENTRIES_LIMIT)), f"{key}_cut": True}


def _cuda_version(variables: Mapping[str, str]) -> str | None:
    """Of the CUDA that torch was built for, if torch is there already; else what the container image says."""
    version = getattr(getattr(sys.modules.get("torch"), "version", None), "cuda", None)
    return version if isinstance(version, str) else variables.get("CUDA_VERSION")


def _git(state: GitState) -> dict[str, Any]:
    return {
        "git.commit": state.commit,
        "git.branch": state.branch,
        "git.remote": state.remote,
        "git.dirty": state.dirty,
        "git.diff": state.diff or None,
        "git.diff_cut": True if state.diff_cut else None,
        "git.unavailable_reason": state.unavailable_reason,
    }


def installed_packages(directories: Iterable[str]) -> dict[str, str]:
    """Normalised name -> version of what is installed in the directories (of `sys.path`); the first one wins.

    The same answer as `importlib.metadata.distributions()`, read from the names of the metadata directories
    instead of their contents: one directory listing, not a file per package (seconds on a network disk).
    """
    packages: dict[str, str] = {}
    for directory in dict.fromkeys(directories):
        for name, version in _packages_in(directory or "."):
            packages.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    return dict(sorted(packages.items()))


def _packages_in(directory: str) -> Iterator[tuple[str, str]]:
    try:
        entries = os.listdir(directory)
    except OSError:  # a zip file, or an entry of sys.path that does not exist
        return
    for entry in entries:
        stem, extension = os.path.splitext(entry)
        if extension not in (".dist-info", ".egg-info"):
            continue
        name, _, version = stem.partition("-")
        if extension == ".egg-info":
            version = re.sub(r"-py\d.*$", "", version) or _read_version(Path(directory, entry, "PKG-INFO"))
        if name and version:
            yield name, version


def _read_version(path: Path) -> str:
    """The version of a source tree installed for development, whose directory does not name it; or ""."""
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("Version:"):
                    return line.partition(":")[2].strip()
                if not line.strip():  # the end of the headers
                    break
    except OSError:
        pass
    return ""


def _redact_short(text: str) -> str:
    return _shorten(redact_text(text))


def _shorten(text: str) -> str:
    return text if len(text) <= _TEXT_LIMIT_CHARACTERS else f"{text[:_TEXT_LIMIT_CHARACTERS]}…"


def _clean(value: Any) -> Any:
    """Arguments, variables and paths may hold bytes that are not UTF-8 (lone surrogates): now `?`."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value
