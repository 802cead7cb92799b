"""What a training script holds: config, tags, flush, and the last word."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import logged, no_fork, recorded_run, settings_for
from tests.support.spools import read_all
from tests.support.waiting import wait_until
from thalweg.beginning import Beginning
from thalweg.errors import InputError
from thalweg.recorder import Recorder
from thalweg.run import Run, describe_exception
from thalweg.sender.launch import SenderProcess
from thalweg.settings import Settings
from thalweg.spool.state import State
from thalweg.system.redact import REDACTED


class Mute(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise LookupError("no text")


def raised(error: BaseException) -> BaseException:
    """The error with a traceback."""
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "word", "text"),
    [
        (ValueError("no"), ("failed", 1, None), "ValueError: no"),
        (Mute(), ("failed", 1, None), "Mute: <no message: its __str__ raised LookupError>"),
        (ValueError("x" * 9999), ("failed", 1, None), "ValueError: " + "x" * 4084),
        (KeyboardInterrupt(), ("killed", None, 2), "KeyboardInterrupt: "),
        (SystemExit(), ("finished", 0, None), None),
        (SystemExit(0), ("finished", 0, None), None),
        (SystemExit(False), ("finished", 0, None), None),
        (SystemExit(3), ("failed", 3, None), None),
        (SystemExit(-1), ("failed", 255, None), None),
        (SystemExit(256), ("finished", 0, None), None),
        (SystemExit(2**40 + 1), ("failed", 1, None), None),
        (SystemExit("no data"), ("failed", 1, None), None),
    ],
)
def test_last_word_of_an_exception(error: BaseException, word: tuple[Any, ...], text: str | None) -> None:
    """An exception fails a run, Ctrl-C kills it, and SystemExit means its code."""
    document = describe_exception(raised(error))
    assert (document["outcome"], document["exit_code"], document.get("signal")) == word
    assert document.get("exception") == text
    json.dumps(document)


def test_traceback_is_bounded() -> None:
    """The traceback keeps its end, within the limit whatever the characters."""
    document = describe_exception(raised(ValueError("\U0001f600" * 100_000)))
    assert len(document["traceback"].encode()) <= 64 << 10
    assert document["traceback"].endswith("\U0001f600\n")


def test_an_exception_is_told_without_its_secrets() -> None:
    """Neither a password in a URL, nor what a secret name is set to, in the message and in lines of source."""

    def log_in(**more: str) -> None:
        raise PermissionError(f"{'x' * 4060} postgres://me:hunter2@db refuses {more}")  # its cut is in the password

    with pytest.raises(PermissionError) as caught:
        log_in(password="hunter2")
    document = describe_exception(caught.value)
    assert "hunt" not in document["exception"] + document["traceback"]
    assert len(document["exception"]) == 4096
    assert f"log_in(password={REDACTED}" in document["traceback"]
    assert f"postgres://{REDACTED}@db" in document["traceback"]
    short = describe_exception(raised(LookupError("no answer with token=hunter2 after 3 tries")))
    assert short["exception"] == f"LookupError: no answer with token={REDACTED} after 3 tries"


@pytest.mark.parametrize(
    ("code", "outcome", "exit_code"), [(0, "finished", 0), (3, "failed", 3), (None, "finished", 0)]
)
def test_finish_with_exit_code(tmp_path: Path, code: Any, outcome: str, exit_code: int) -> None:
    """An explicit end is the last word and not a guess."""
    with recorded_run(tmp_path) as run:
        run.finish(exit_code=code)
    word = logged(tmp_path).last_word
    assert (word["outcome"], word["exit_code"], word.get("at_exit")) == (outcome, exit_code, None)


def test_with_block_says_how_it_was_left(tmp_path: Path) -> None:
    """Leaving the block by an exception fails the run and lets the exception through."""
    with pytest.raises(ZeroDivisionError), recorded_run(tmp_path) as run, run:
        raise ZeroDivisionError("by zero")
    word = logged(tmp_path).last_word
    assert (word["outcome"], word["exit_code"], word["exception"]) == ("failed", 1, "ZeroDivisionError: by zero")
    assert "raise ZeroDivisionError" in word["traceback"]


def test_exit_with_success_inside_a_with_block(tmp_path: Path) -> None:
    """`sys.exit(0)` inside the block, as for early stopping, is a finished run."""
    with pytest.raises(SystemExit), recorded_run(tmp_path) as run, run:
        raise SystemExit(0)
    assert logged(tmp_path).last_word["outcome"] == "finished"


def test_nothing_follows_the_last_word(tmp_path: Path) -> None:
    """Threads that still log while the run ends cannot write after its last word: it may be deleted from there on."""
    stop = threading.Event()
    with recorded_run(tmp_path) as run:

        def work() -> None:
            while not stop.is_set():
                run.log({"a": 1.0})

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        recorder = run._recorder
        assert recorder is not None
        wait_until(lambda: recorder.sequence > 2000)
        run.finish()
        sequence = recorder.sequence
        run.log({"a": 2.0})
        stop.set()
        for thread in threads:
            thread.join()
    content = logged(tmp_path)
    assert content.events[-1]["kind"] == "ended"
    assert content.sequences[-1] == sequence
    assert len(content.frames) == State(recorder.folder).counter("logged")


def config_of(spool: Path) -> dict[str, Any]:
    """`config.*` as it was recorded."""
    found = logged(spool).attributes()
    return {path: json.loads(text) if text else None for path, text in found.items() if path.startswith("config.")}


def test_config_is_a_mapping_of_paths(tmp_path: Path) -> None:
    """Nested values are leaves, "/" and "." are the same, deleting removes the attribute."""
    with recorded_run(tmp_path) as run:
        run.config.update({"optimizer": {"lr": 0.1, "name": "adam"}}, seed=1)
        run.config["data/size"] = 10
        run.config["gone"] = 1
        del run.config["gone"]
        assert dict(run.config) == {"optimizer.lr": 0.1, "optimizer.name": "adam", "seed": 1, "data.size": 10}
        assert run.config["optimizer/lr"] == 0.1
        assert len(run.config) == 4
        assert "nowhere" not in run.config
    assert config_of(tmp_path) == {
        "config.optimizer.lr": 0.1,
        "config.optimizer.name": "adam",
        "config.seed": 1,
        "config.data.size": 10,
        "config.gone": None,
    }


def test_bad_attribute_is_left_out_with_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One bad value takes none of the others with it, and does not raise."""
    with recorded_run(tmp_path) as run:
        run.config.update({"a": 1, "": 2, "large": "x" * (3 << 20), "b": 3})
        assert dict(run.config).keys() >= {"a", "b"}
    told = capsys.readouterr().err
    assert config_of(tmp_path) == {"config.a": 1, "config.b": 3}
    assert told.count("cannot set attribute") == 2


def test_bad_attribute_raises_where_strict(tmp_path: Path) -> None:
    """With `strict` a bad attribute is an InputError."""
    with recorded_run(tmp_path, strict=True) as run, pytest.raises(InputError, match="empty"):
        run.config[""] = 1


def test_large_config_is_recorded_in_parts(tmp_path: Path) -> None:
    """A config of any size is recorded whole: no event is larger than a record may be."""
    with recorded_run(tmp_path) as run:
        run.config.update({f"k{index}": "x" * (1 << 20) for index in range(40)})
    assert len(config_of(tmp_path)) == 40


def test_tags_names_and_notes(tmp_path: Path) -> None:
    """Tags are attributes below `tags`."""
    with recorded_run(tmp_path) as run:
        run.add_tags("baseline", "v2")
        run.add_tags()
    assert {path for path in logged(tmp_path).attributes() if path.startswith("tags.")} == {"tags.baseline", "tags.v2"}


def test_disabled_run_does_nothing(tmp_path: Path) -> None:
    """Without a recorder every method returns at once."""
    run = Run(
        Beginning("r"),
        settings_for(tmp_path, THALWEG_MODE="disabled"),
        None,
        on_finish=lambda run: None,
        on_fork=no_fork,
    )
    run.log({"a": 1.0})
    run.log(None)  # type: ignore[arg-type]  # not even looked at
    run.config["a"] = 1
    run.add_tags("t")
    run.remove_attribute("config.a")
    assert run.flush() is True
    run.finish()
    assert list(tmp_path.iterdir()) == []


def test_flush_offline_is_false_at_once(tmp_path: Path) -> None:
    """Offline nothing is acknowledged: flush does not wait."""
    with recorded_run(tmp_path) as run:
        run.log({"a": 1.0})
        assert run.flush() is False


def online(spool: Path) -> tuple[Run, Recorder, SenderProcess]:
    """A run whose server is not there."""
    settings: Settings = settings_for(spool, THALWEG_MODE="online")
    recorder = Recorder(settings, "r", next_step=0.0, strict=False)
    assert recorder._sender is not None
    return (
        Run(Beginning("r"), settings, recorder, on_finish=lambda run: None, on_fork=no_fork),
        recorder,
        recorder._sender,
    )


def end(recorder: Recorder) -> None:
    """Ends recording and the sender."""
    recorder.close()
    sender = recorder._sender
    assert sender is not None
    if sender.is_running():
        os.kill(sender.pid, signal.SIGKILL)
    wait_until(lambda: not sender.is_running())


def test_flush_gives_up_after_its_timeout(tmp_path: Path) -> None:
    """A server that is away does not hold flush for longer than was said."""
    run, recorder, _ = online(tmp_path)
    run.log({"a": 1.0})
    assert run.flush(timeout=0.05) is False
    end(recorder)


def test_flush_waits_for_what_was_logged_before(tmp_path: Path) -> None:
    """What other threads log during a flush is not waited for: it would never end."""
    run, recorder, _ = online(tmp_path)
    run.log({"a": 1.0})
    flushed: list[bool] = []
    flushing = threading.Thread(target=lambda: flushed.append(run.flush(timeout=60)))
    before = recorder.sequence
    flushing.start()
    wait_until(lambda: recorder.sender_status().get("status") == "waiting")  # the flush has begun long ago
    run.log({"a": 2.0})
    recorder.state.acked = before  # as the sender does
    flushing.join()
    assert flushed == [True]
    end(recorder)


def test_flush_starts_a_killed_sender_again(tmp_path: Path) -> None:
    """A sender that dies during a flush is replaced by it."""
    run, recorder, sender = online(tmp_path)
    run.log({"a": 1.0})
    os.kill(sender.pid, signal.SIGKILL)

    def replaced() -> bool:
        run.flush(timeout=0.01)
        return recorder._sender is not sender

    wait_until(replaced)
    end(recorder)


def test_flush_of_a_refused_run_is_false(tmp_path: Path) -> None:
    """Where the server refuses the run, flush says so at once, without a timeout."""
    run, recorder, sender = online(tmp_path)
    os.kill(sender.pid, signal.SIGKILL)
    wait_until(lambda: not sender.is_running())
    (recorder.folder / "sender.json").write_text(json.dumps({"status": "refused", "error": "no token"}))
    assert run.flush() is False
    end(recorder)


def test_finish_without_a_server_keeps_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """finish() waits a little for a server that is away, says where the records are, and loses none."""
    run, recorder, _ = online(tmp_path)
    run.log({"a": 1.0})
    run.finish()
    told = capsys.readouterr().err
    assert "is not delivered yet" in told
    assert str(recorder.folder) in told
    content = read_all(recorder.folder)
    assert content.points == [{"a": 1.0}]
    assert content.last_word["outcome"] == "finished"
    end(recorder)


def test_finish_of_a_refused_run_promises_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the server refuses the run, nothing is retried, and finish() says so with the server's words."""
    run, recorder, sender = online(tmp_path)
    os.kill(sender.pid, signal.SIGKILL)
    wait_until(lambda: not sender.is_running())
    (recorder.folder / "sender.json").write_text(json.dumps({"status": "refused", "error": "no token"}))
    run.finish()
    told = capsys.readouterr().err
    assert "is not delivered: the server refuses it (no token). Nothing is retried" in told
    assert str(recorder.folder) in told
    assert "goes on" not in told


def test_repr_shows_no_secret(tmp_path: Path) -> None:
    """A run's repr names it, and no token."""
    settings = settings_for(tmp_path, THALWEG_MODE="disabled", THALWEG_TOKEN="tok-secret")
    assert (
        repr(Run(Beginning("r"), settings, None, on_finish=lambda run: None, on_fork=no_fork))
        == "<thalweg.Run p/r (disabled)>"
    )
