"""Saving checkpoints from a training: nothing raises into it unless strict, and a server that is away costs little."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import NOBODY, logged, no_fork, recorded_run, settings_for
from thalweg import checkpointing
from thalweg.api_client import ApiClient
from thalweg.beginning import Beginning
from thalweg.errors import InputError
from thalweg.recorder import Recorder
from thalweg.run import Run
from thalweg.spool.layout import Origin


@contextmanager
def run_at(spool: Path, *, url: str = NOBODY, strict: bool = False, after: float | None = None) -> Iterator[Run]:
    """A run online whose sender is replaced by a file that says "waiting"; `after`: a fork at this step."""
    settings = settings_for(spool, THALWEG_MODE="online", THALWEG_URL=url)
    origin = None if after is None else Origin("fork", "parent", None, after)
    recorder = Recorder(settings, "r", next_step=0.0, strict=strict, origin=origin)
    assert recorder._sender is not None
    recorder._sender.terminate()
    (recorder.folder / "sender.json").write_text(json.dumps({"status": "waiting", "error": "away"}))
    recorder.state.acked = 1
    try:
        yield Run(Beginning("r", origin=origin), settings, recorder, on_finish=lambda run: None, on_fork=no_fork)
    finally:
        recorder.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint."""
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "w.bin").write_bytes(b"x" * 100)
    return tmp_path / "ckpt"


def checkpoints(spool: Path) -> list[dict[str, Any]]:
    """What was recorded."""
    return [event["checkpoint"] for event in logged(spool).events if event["kind"] == "checkpoint"]


BAD = {
    "step None": ({"step": None}, "step None is not a finite number"),
    "step NaN": ({"step": float("nan")}, "step nan is not a finite number"),
    "step text": ({"step": "7"}, "step '7' is not a finite number"),
    "kind": ({"kind": "ema"}, "kind 'ema' is none of"),
    "shard": ({"shard": 3}, "shard 3 (counted from 0) is not within 0..0"),
    "metadata": ({"metadata": 7}, "its metadata 7 is a int"),
}


@pytest.mark.parametrize(("given", "told"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("strict", [False, True])
def test_bad_argument_is_told(
    tmp_path: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, Any],
    told: str,
    strict: bool,
) -> None:
    """Bad arguments are told before anything is uploaded, and raise only where strict, as InputError."""
    monkeypatch.setattr(ApiClient, "post", None)
    with run_at(tmp_path / "spool", strict=strict) as run:
        if strict:
            with pytest.raises(InputError) as caught:
                run.save_checkpoint(folder, **{"step": 10, **given})
            assert told in str(caught.value)
        else:
            assert run.save_checkpoint(folder, **{"step": 10, **given}) == folder.as_uri() + "/"
            assert told in capsys.readouterr().err
        assert not checkpoints(tmp_path / "spool")


def test_folder_that_cannot_be_uploaded_is_recorded_where_it_lies(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A link that leads outside is told, and the local path recorded; a folder that is missing is only told."""
    (folder / "link").symlink_to("/etc/hostname")
    with run_at(tmp_path / "spool") as run:
        assert run.save_checkpoint(folder, step=10) == folder.as_uri() + "/"
        assert run.save_checkpoint(tmp_path / "nowhere", step=11) == (tmp_path / "nowhere").as_uri()
        assert run.save_checkpoint(7, step=12) == "7"  # type: ignore[arg-type]  # a user's error
        assert [(one["step"], one["uri"]) for one in checkpoints(tmp_path / "spool")] == [(10, folder.as_uri() + "/")]
    told = capsys.readouterr().err
    assert "is a link that leads outside" in told
    assert "there is no such file or folder" in told
    with run_at(tmp_path / "strict", strict=True) as run, pytest.raises(InputError, match="leads outside"):
        run.save_checkpoint(folder, step=10)


@pytest.mark.parametrize("step", [5, 4.5, -1])
def test_step_of_before_the_fork_is_not_uploaded(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    """The server would refuse it unseen, and the objects would be nobody's: it is told instead, or raises."""
    monkeypatch.setattr(ApiClient, "post", None)
    told = f"cannot log checkpoint of step {step:g}: it is not after the step 5 at which this branch of the run began"
    with run_at(tmp_path / "spool", after=5) as run:
        assert run.save_checkpoint(folder, step=step) == folder.as_uri() + "/"
        run.log_checkpoint(folder, step=step)
        run.log_checkpoint(folder, step=5.5)
        assert [one["step"] for one in checkpoints(tmp_path / "spool")] == [5.5]
    assert capsys.readouterr().err.count(told) == 1
    with run_at(tmp_path / "strict", strict=True, after=5) as run:
        for say in (run.save_checkpoint, run.log_checkpoint):
            with pytest.raises(InputError, match=f"step {step:g}: it is not after"):
                say(folder, step=step)


def test_server_that_is_known_to_be_away_gets_one_short_try(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that hangs costs one wait of SHORT_TRY_S where the sender waits for it already."""
    monkeypatch.setattr("thalweg.checkpoints.transfer.SHORT_TRY_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        with run_at(tmp_path / "spool", url=url) as run:
            began_s = time.monotonic()
            assert run.save_checkpoint(folder, step=1) == folder.as_uri() + "/"
            assert time.monotonic() - began_s < 3
        assert [one["step"] for one in checkpoints(tmp_path / "spool")] == [1]


def test_more_skipped_checkpoints_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of many checkpoints that were skipped the server names some and counts the others."""
    resolved = {"step": 3, "skipped": [{"step": 4, "state": "missing", "detail": "gone"}], "skipped_more": 7}
    monkeypatch.setattr(ApiClient, "get", lambda self, path, **query: resolved)
    monkeypatch.setattr(checkpointing, "download", lambda resolved, to, **more: Path(to))
    checkpointing.bring_back(settings_for(tmp_path), "p", "r", None, tmp_path / "to")
    told = capsys.readouterr().err
    assert "the checkpoint of step 4 is missing: gone" in told
    assert "7 more checkpoints were skipped, too" in told


def test_disabled_run_names_the_path(tmp_path: Path, folder: Path) -> None:
    """Without recording the answer is where the checkpoint lies."""
    settings = settings_for(tmp_path, THALWEG_MODE="disabled")
    run = Run(Beginning("r"), settings, None, on_finish=lambda run: None, on_fork=no_fork)
    assert run.save_checkpoint(folder, step=1) == folder.as_uri() + "/"


def test_offline_run_records_the_path(tmp_path: Path, folder: Path) -> None:
    """Nothing is uploaded."""
    with recorded_run(tmp_path / "spool") as run:
        assert run.save_checkpoint(folder, step=1, metrics={"a": 1.0}) == folder.as_uri() + "/"
    (one,) = checkpoints(tmp_path / "spool")
    assert (one["step"], one["kind"], one["metrics"], one["size_bytes"]) == (1, "full", {"a": 1.0}, 100)
