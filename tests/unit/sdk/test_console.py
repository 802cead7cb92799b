"""What is said at the terminal never ends a training."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from thalweg.console import call_site, say


class Full(io.StringIO):
    """A standard error on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def closed() -> io.StringIO:
    """A standard error that was closed."""
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stderr", [None, closed(), Full(), object()], ids=["absent", "closed", "full", "strange"])
def test_say_survives_any_standard_error(monkeypatch: pytest.MonkeyPatch, stderr: Any) -> None:
    """Without a usable standard error the word is lost, and nothing else."""
    monkeypatch.setattr(sys, "stderr", stderr)
    say("hello")


def test_say_is_one_marked_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Every word is one line that names the library, on standard error."""
    say("hello")
    assert capsys.readouterr() == ("", "thalweg: hello\n")


def test_call_site_is_the_callers_line() -> None:
    """The innermost frame outside the package."""
    assert call_site().startswith(f"{__file__}:")
