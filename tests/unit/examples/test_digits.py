"""The example's command line, without a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples import digits


def test_a_seed_repeats_a_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("THALWEG_MODE", "disabled")
    arguments = ["--epochs", "2", "--hidden", "16", "--quiet", "--checkpoints", str(tmp_path), "--seed"]
    assert digits.main([*arguments, "3"]) == digits.main([*arguments, "3"]) != digits.main([*arguments, "4"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--rewind", "latest-checkpoint"], "--rewind needs --run-id"),
        (["--run-id", "a", "--rewind", "5", "--fork-from", "b@5"], "not allowed with"),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        digits.parse(arguments)
    assert complaint in capsys.readouterr().err
