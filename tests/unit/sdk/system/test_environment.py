"""What is captured of a process: complete, redacted, in JSON, and without importing what the user did not."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from thalweg.system.environment import capture, installed_packages
from thalweg.system.redact import REDACTED

STARTED_AT_US = 1_700_000_000_000_000
SDK_ROOT = Path(__file__).parents[4] / "sdk"


def test_what_every_host_has(tmp_path: Path) -> None:
    found = capture(STARTED_AT_US, argv=["python", "train.py"], variables={}, working_directory=str(tmp_path))
    assert found["process.started_at_us"] == STARTED_AT_US
    assert found["process.pid"] == os.getpid()
    assert found["process.command"] == ["python", "train.py"]
    assert found["process.working_directory"] == str(tmp_path)
    assert found["python.version"] == ".".join(map(str, sys.version_info[:3]))
    assert found["python.executable"] == sys.executable
    assert found["host.cpu_count"] == os.cpu_count()
    assert found["host.memory_bytes"] > 1 << 20
    assert found["packages"]["psutil"] == importlib.metadata.version("psutil")
    assert found["git.unavailable_reason"] == "no_repository"
    assert {"host.name", "host.os", "user"} <= found.keys()


def test_all_of_it_is_json_and_nothing_is_none() -> None:
    found = capture(STARTED_AT_US)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert None not in found.values()


def test_command_and_variables_are_redacted() -> None:
    found = capture(
        STARTED_AT_US,
        argv=["python", "train.py", "--api-key", "hunter2", "--tokenizer", "gpt2"],
        variables={"HF_TOKEN": "hunter2", "SLURM_JWT": "hunter2", "HF_ENDPOINT": "https://u:hunter2@hub"},
        with_git=False,
        with_packages=False,
    )
    assert "hunter2" not in json.dumps(found)
    assert found["process.command"] == ["python", "train.py", "--api-key", REDACTED, "--tokenizer", "gpt2"]
    assert found["variables"]["HF_TOKEN"] == REDACTED


def test_only_variables_of_training_are_recorded() -> None:
    variables = {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "NCCL_DEBUG": "INFO",
        "OMP_NUM_THREADS": "8",
        "TORCH_COMPILE_DEBUG": "1",
        "HF_HOME": "/data",
        "RANK": "3",
        "MY_COMPANY_INTERNAL": "x",
        "EDITOR": "vi",
        "TF_VAR_db": "x",
    }
    found = capture(STARTED_AT_US, variables=variables, with_git=False, with_packages=False)
    assert found["variables"].keys() == variables.keys() - {"MY_COMPANY_INTERNAL", "EDITOR", "TF_VAR_db"}


def test_scheduler_ids() -> None:
    variables = {
        "SLURM_JOB_ID": "17",
        "SLURM_ARRAY_TASK_ID": "4",
        "TORCHELASTIC_RUN_ID": "abc",
        "PBS_JOBID": "",
    }
    found = capture(STARTED_AT_US, variables=variables, with_git=False, with_packages=False)
    assert found["slurm.job_id"] == "17"
    assert found["slurm.array_task_id"] == "4"
    assert found["torchelastic.run_id"] == "abc"
    assert "pbs.job_id" not in found


def test_gpus_are_those_that_the_caller_found() -> None:
    gpus = [{"index": 0, "name": "NVIDIA H100", "cuda_driver_version": "12.4"}]
    found = capture(STARTED_AT_US, gpus=gpus, with_git=False, with_packages=False)
    assert found["gpus"] == gpus
    assert found["cuda.driver_version"] == "12.4"


def test_cuda_version_comes_from_torch_if_it_is_there_else_from_the_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cuda_version() -> object:
        variables = {"CUDA_VERSION": "12.1.0"}
        found = capture(STARTED_AT_US, variables=variables, with_git=False, with_packages=False)
        return found["cuda.version"]

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert cuda_version() == "12.1.0"
    torch = types.ModuleType("torch")
    torch.version = types.SimpleNamespace(cuda="12.4")  # type: ignore[attr-defined]  # a module takes any name
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert cuda_version() == "12.4"


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    found = capture(
        STARTED_AT_US,
        argv=["train.py", "caf\udce9"],
        variables={"HF_HOME": "/caf\udce9"},
        with_git=False,
        with_packages=False,
    )
    assert found["process.command"] == ["train.py", "caf?"]
    assert found["variables"] == {"HF_HOME": "/caf?"}


def test_what_is_over_a_limit_is_cut_and_says_so() -> None:
    found = capture(
        STARTED_AT_US,
        argv=["x" * 10_000, *("a" for _ in range(5_000))],
        variables={f"NCCL_{i}": "1" for i in range(5_000)},
        with_git=False,
        with_packages=False,
    )
    assert len(found["process.command"]) == len(found["variables"]) == 2_000
    assert found["process.command_cut"] is True
    assert found["variables_cut"] is True
    assert len(found["process.command"][0]) < 5_000


def test_working_directory_that_was_removed(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = (
        "import os, sys\n"
        "os.rmdir(os.getcwd())\n"
        "from thalweg.system.environment import capture\n"
        "print('process.working_directory' in capture(1))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SDK_ROOT)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=gone, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 987_654)
    assert capture(STARTED_AT_US, with_git=False, with_packages=False)["user"] == "987654"


def test_capture_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from thalweg.system.environment import capture\n"
        "capture(1)\n"
        "heavy = {'torch', 'numpy', 'psutil', 'pynvml', 'grpc', 'importlib.metadata'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SDK_ROOT)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- packages


def test_packages_are_those_of_importlib_metadata() -> None:
    expected: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        expected.setdefault(name, distribution.version)
    assert installed_packages(sys.path) == expected


def test_first_directory_wins_and_names_are_normalised(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for directory in (
        first / "Ruamel.Yaml-0.18.dist-info",
        second / "ruamel_yaml-0.17.dist-info",
        second / "old-1.2-py3.10.egg-info",
        second / "source.egg-info",
        second / "nameless.dist-info",
        second / "unrelated-1.0",
    ):
        directory.mkdir(parents=True)
    header = "Metadata-Version: 2.1\nName: source\nVersion: 3.4\n\nVersion: 9\n"
    (second / "source.egg-info" / "PKG-INFO").write_text(header)
    (second / "broken.egg-info").mkdir()
    directories = [str(first), str(second), str(tmp_path / "missing"), str(first)]
    assert installed_packages(directories) == {"old": "1.2", "ruamel-yaml": "0.18", "source": "3.4"}
