"""The hooks without their frameworks."""

from __future__ import annotations

import subprocess
import sys

import pytest

FRAMEWORKS = ("torch", "torchdata", "lightning", "lightning_utilities", "pytorch_lightning", "transformers")


def run_python(script: str) -> str:
    """Standard output of a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("hook", "command"),
    [
        ("torch_checkpoint", "pip install 'torch>="),
        ("torchdata", "pip install torch torchdata"),
        ("lightning", "pip install lightning"),
        ("transformers", "pip install 'transformers[torch]'"),
    ],
)
def test_a_missing_framework_is_named(hook: str, command: str) -> None:
    """The import fails as an ImportError that says what is missing, and which command installs it."""
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({FRAMEWORKS!r}))\n"
        f"try:\n    import thalweg.integrations.{hook}\nexcept ImportError as error:\n    print(error)"
    )
    told = run_python(script)
    assert told.startswith(f"cannot import thalweg.integrations.{hook}: ")
    assert command in told


def test_thalweg_imports_no_hook() -> None:
    """`import thalweg` loads neither a framework nor the hooks."""
    script = f"import sys, thalweg; print([n for n in sys.modules if n in {FRAMEWORKS!r} or 'integrations' in n])"
    assert run_python(script) == "[]\n"
